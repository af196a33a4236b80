from collections.abc import Callable
from itertools import product
from math import log

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats
from scipy.special import betaln

from jensen.errors import ConfigError, DataError, JensenError, ShapeError, SupportError
from jensen.information import entropy
from jensen.models import Coin, Conjugate, Die, NormalMean, NormalMeanPrecision, PoissonRate
from jensen.models.conjugate.checks import throws

MODELS: dict[str, tuple[Conjugate, Callable[[np.random.Generator, int], np.ndarray]]] = {
    "coin": (Coin(0.5, 2.0), lambda rng, n: rng.integers(0, 2, n)),
    "die": (Die([0.5, 1.0, 3.0]), lambda rng, n: rng.integers(0, 3, n)),
    "rate": (PoissonRate(2.0, 0.5), lambda rng, n: rng.poisson(4, n)),
    "mean": (NormalMean(1.0, scale=2.0, noise_scale=0.7), lambda rng, n: rng.normal(3, 1, n)),
    "mean and precision": (NormalMeanPrecision(1.0, 0.5, 2.0, 1.5), lambda rng, n: rng.normal(3, 2, n)),
}
NAMES = st.sampled_from(list(MODELS))


def hyperparameters(model: Conjugate) -> list[float]:
    return torch.cat([value.flatten() for value in vars(model).values()]).tolist()


@settings(deadline=None, max_examples=40)
@given(NAMES, st.integers(0, 1000), st.integers(0, 12), st.integers(0, 12))
def test_updating_one_after_the_other_is_updating_at_once(name: str, seed: int, n: int, cut: int) -> None:
    model, draw = MODELS[name]
    x = draw(np.random.default_rng(seed), n)
    at_once, in_parts = model.update(x), model.update(x[:cut]).update(x[cut:])
    for one in x:
        model = model.update([one])
    assert hyperparameters(in_parts) == pytest.approx(hyperparameters(at_once), rel=1e-11)
    assert hyperparameters(model) == pytest.approx(hyperparameters(at_once), rel=1e-11)


@settings(deadline=None, max_examples=40)
@given(NAMES, st.integers(0, 1000), st.integers(0, 12))
def test_the_evidence_is_the_product_of_the_predictions(name: str, seed: int, n: int) -> None:
    model, draw = MODELS[name]
    x = draw(np.random.default_rng(seed), n)
    evidence, total = float(model.log_evidence(x)), 0.0
    for one in x:
        total += float(model.predictive.log_prob(torch.tensor(float(one), dtype=torch.float64)))
        model = model.update([one])
    assert evidence == pytest.approx(total, rel=1e-11, abs=1e-11)


@pytest.mark.parametrize("name", list(MODELS))
def test_bayes_rule_holds_at_any_parameter(name: str) -> None:
    """log p(x|t) + log p(t) - log p(t|x) is the evidence, wherever t is."""
    model, draw = MODELS[name]
    x = draw(np.random.default_rng(0), 9)
    after = model.update(x)
    t = model.parameter.sample((5,))
    data = torch.as_tensor(x, dtype=torch.float64)[:, None]
    likelihoods = {
        "coin": lambda: torch.distributions.Bernoulli(t).log_prob(data),
        "die": lambda: t.log()[:, x].T,
        "rate": lambda: torch.distributions.Poisson(t).log_prob(data),
        "mean": lambda: torch.distributions.Normal(t, 0.7).log_prob(data),
        "mean and precision": lambda: torch.distributions.Normal(t[:, 0], t[:, 1].rsqrt()).log_prob(data),
    }
    score = likelihoods[name]().sum(0) + model.parameter.log_prob(t) - after.parameter.log_prob(t)
    np.testing.assert_allclose(score.numpy(), float(model.log_evidence(x)), rtol=1e-10)


def test_evidence_by_quadrature() -> None:
    x = np.array([2.0, 3.5, 1.0])
    coin = integrate.quad(lambda t: t**2 * (1 - t) * stats.beta(0.5, 2).pdf(t), 0, 1)[0]
    assert float(Coin(0.5, 2.0).log_evidence([1, 0, 1])) == pytest.approx(log(coin), rel=1e-7)
    mean = integrate.quad(lambda m: stats.norm(m, 0.7).pdf(x).prod() * stats.norm(1, 2).pdf(m), -5, 10)[0]
    assert float(NormalMean(1.0, 2.0, 0.7).log_evidence(x)) == pytest.approx(log(mean), rel=1e-9)


def test_evidence_of_normals_is_that_of_correlated_ones() -> None:
    """Observations that share the mean have the covariance s^2 each; with unknown precision they are Student's t."""
    x = np.array([2.0, 3.5, 1.0, 7.0])
    covariance = 0.49 * np.eye(4) + 4.0
    wanted = stats.multivariate_normal(np.ones(4), covariance).logpdf(x)
    assert float(NormalMean(1.0, 2.0, 0.7).log_evidence(x)) == pytest.approx(wanted, rel=1e-12)
    shape = 1.5 / 2.0 * (np.eye(4) + 1 / 0.5)
    wanted = stats.multivariate_t(np.ones(4), shape, df=4).logpdf(x)
    assert float(NormalMeanPrecision(1.0, 0.5, 2.0, 1.5).log_evidence(x)) == pytest.approx(wanted, rel=1e-12)


def test_evidence_of_all_sequences_sums_to_one() -> None:
    die = Die([0.5, 1.0, 3.0])
    total = sum(float(die.log_evidence(list(x)).exp()) for x in product(range(3), repeat=4))
    assert total == pytest.approx(1, rel=1e-12)


def test_predictives_agree_with_scipy() -> None:
    counts = np.arange(8)
    rate = PoissonRate(2.0, 0.5).predictive.log_prob(torch.from_numpy(counts).double())
    np.testing.assert_allclose(rate.numpy(), stats.nbinom(2, 0.5 / 1.5).logpmf(counts), rtol=1e-11)
    value = torch.tensor([-3.0, 0.0, 8.0]).double()
    model = NormalMeanPrecision(1.0, 0.5, 2.0, 1.5)
    wanted = stats.t(4, 1, np.sqrt(1.5 * 1.5 / (2 * 0.5))).logpdf(value)
    np.testing.assert_allclose(model.predictive.log_prob(value).numpy(), wanted, rtol=1e-12)
    assert float(Coin(2.0, 6.0).predictive.probs) == 0.25
    assert float(Coin(0.5, 2.0).predictive_count(3).log_prob(torch.tensor(1.0))) == pytest.approx(
        stats.betabinom(3, 0.5, 2).logpmf(1), rel=1e-6
    )
    counts = Die([0.5, 1.0, 3.0]).predictive_counts(4).log_prob(torch.tensor([1.0, 0.0, 3.0]).double())
    wanted = stats.dirichlet_multinomial([0.5, 1.0, 3.0], 4).logpmf([1, 0, 3])
    assert float(counts) == pytest.approx(float(wanted), rel=1e-12)


def test_the_order_of_heads_counts_in_the_evidence_and_not_in_the_count() -> None:
    coin = Coin(2.0, 3.0)
    sequence = float(coin.log_evidence([1, 1, 0, 0, 0]))
    assert sequence == pytest.approx(betaln(4, 6) - betaln(2, 3), rel=1e-12)
    assert float(coin.predictive_count(5).log_prob(torch.tensor(2.0))) == pytest.approx(
        sequence + log(10), rel=1e-12
    )


def test_models_are_values_and_batches_go_side_by_side() -> None:
    coins = Coin([1.0, 2.0], 3.0)
    after = coins.update([[1, 0], [1, 1], [0, 0]])
    assert coins.heads.tolist() == [1, 2]
    assert (after.heads.tolist(), after.tails.tolist()) == ([3, 3], [4, 5])
    dice = Die(torch.ones(2, 3))
    thrown = torch.tensor([[0, 2], [0, 1], [2, 2], [1, 2]])
    assert dice.update(thrown).concentration.tolist() == [[3, 2, 2], [1, 2, 4]]
    assert float(dice.log_evidence(thrown)[1]) == pytest.approx(
        float(Die(torch.ones(3)).log_evidence(thrown[:, 1])), rel=1e-13
    )
    normals = NormalMeanPrecision([0.0, 1.0], 1.0, 1.0, 1.0)
    assert normals.update(np.zeros((3, 2))).mean.tolist() == [0, 0.25]
    with pytest.raises(AttributeError):
        coins.heads = torch.ones(2)


@pytest.mark.parametrize("name", list(MODELS))
def test_no_observations_change_nothing(name: str) -> None:
    model, draw = MODELS[name]
    nothing = draw(np.random.default_rng(0), 0)
    assert hyperparameters(model.update(nothing)) == hyperparameters(model)
    assert float(model.log_evidence(nothing)) == 0
    assert isinstance(model, Conjugate)


def test_large_offsets_keep_their_digits() -> None:
    """A sum of squares less the square of the sum would have no digit left at an offset of 1e9."""
    x = np.array([0.0, 1.0, 2.0])
    near, far = (NormalMeanPrecision(at, 1.0, 1.0, 1.0).update(x + at) for at in (0.0, 1e9))
    assert float(far.rate) == pytest.approx(float(near.rate), rel=1e-12)


def test_data_tell_of_the_bias() -> None:
    """A posterior's entropy falls in expectation; after many throws it lies at the truth."""
    die = Die.fair(6)
    x = np.random.default_rng(0).choice(6, 3000, p=[0.1, 0.1, 0.1, 0.1, 0.1, 0.5])
    after = die.update(x)
    spread = after.parameter.stddev
    truth = torch.tensor([0.1, 0.1, 0.1, 0.1, 0.1, 0.5]).double()
    assert bool(((after.parameter.mean - truth).abs() < 4 * spread).all())
    assert float(entropy(after.parameter)) < float(entropy(die.parameter))
    # The evidence prefers it to a die that is known to be fair.
    assert float(die.log_evidence(x)) > -3000 * log(6)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Coin(0.0, 1.0), ConfigError, "heads has to be a finite number above 0"),
        (lambda: Coin(float("inf"), 1.0), ConfigError, "finite"),
        (lambda: NormalMean(float("nan"), 1.0, 1.0), ConfigError, "mean has to be a finite number"),
        (lambda: NormalMean(0.0, 1.0, -1.0), ConfigError, "noise_scale"),
        (lambda: Die(1.0), ConfigError, "a number for each face"),
        (lambda: Die.fair(0), ConfigError, "a number for each face"),
        (lambda: Coin().update([0.5]), SupportError, "wanted 0 or 1"),
        (lambda: Coin().update(1.0), ShapeError, "one row for each observation"),
        (lambda: Coin([1.0, 1.0]).update([1, 1, 1]), ShapeError, r"wanted \(n, 2\)"),
        (lambda: Die.fair(6).update([6]), SupportError, r"the faces are 0\.\.5"),
        (lambda: Die.fair(6).update([-1]), SupportError, "wanted 0, 1, 2"),
        (lambda: PoissonRate(1.0, 1.0).log_evidence([1.5]), SupportError, "is 1.5"),
        (lambda: NormalMean(0.0, 1.0, 1.0).log_evidence([float("nan")]), DataError, "isn't finite"),
        (lambda: Coin().predictive_count(-1), ConfigError, "number of throws .* got n=-1"),
        (lambda: throws(2.5), ConfigError, "got n=2.5"),
        (lambda: Die.fair(2).predictive_counts(-1), ConfigError, "number of throws"),
        (
            lambda: Coin([1.0, 2.0], [1.0, 2.0, 3.0]),
            ShapeError,
            r"heads \(2,\), tails \(3,\) don't broadcast",
        ),
        (lambda: Coin("fair"), DataError, "heads should be numbers, got 'fair'"),
        (lambda: Coin().update(["heads"]), DataError, "observations should be numbers"),
    ],
)
def test_bad_numbers_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
