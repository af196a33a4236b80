from math import inf, log, sqrt

import pytest
import torch
from scipy import integrate, stats
from torch.distributions import (
    Bernoulli,
    Binomial,
    Categorical,
    ContinuousBernoulli,
    Exponential,
    Gamma,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    Poisson,
    Uniform,
)

from jensen.errors import ConfigError, JensenError, ShapeError
from jensen.information import (
    Estimate,
    cross_entropy,
    entropy,
    jensen_shannon,
    kl,
    mutual_information,
    pointwise_mutual_information,
    surprisal,
)


def number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def normal(mean: float, scale: float) -> Normal:
    return Normal(number(mean), number(scale))


def mixture() -> MixtureSameFamily:
    parts = Normal(torch.tensor([-2.0, 1.0]).double(), torch.tensor([0.5, 1.0]).double())
    return MixtureSameFamily(Categorical(torch.tensor([0.3, 0.7]).double()), parts)


def assert_near(found: Estimate, wanted: float) -> None:
    """Within four standard errors, which are neither zero nor large."""
    assert found.samples > 0
    assert 0 < float(found.standard_error) < 0.02
    assert abs(float(found) - wanted) <= 4 * float(found.standard_error)


def correlated(rho: float, dimensions: int = 2) -> MultivariateNormal:
    covariance = torch.full((dimensions, dimensions), rho, dtype=torch.float64).fill_diagonal_(1.0)
    return MultivariateNormal(torch.zeros(dimensions).double(), covariance)


def test_closed_forms_have_no_error() -> None:
    found = entropy(normal(1.0, 2.0))
    assert float(found) == pytest.approx(float(stats.norm(1, 2).entropy()), rel=1e-14)
    assert (float(found.standard_error), found.samples) == (0, 0)
    divergence = kl(normal(1.0, 2.0), normal(0.0, 1.0), unit="bits")
    assert float(divergence) == pytest.approx((0.5 * (4 + 1 - 1) - log(2)) / log(2), rel=1e-14)
    crossed = cross_entropy(normal(1.0, 2.0), normal(0.0, 1.0))
    assert float(crossed) == pytest.approx(0.5 * log(2 * torch.pi) + 0.5 * (4 + 1), rel=1e-14)


def test_normals_with_and_without_covariances_have_a_closed_form() -> None:
    root = torch.tensor([[1.0, 0.0], [0.5, 2.0]], dtype=torch.float64)
    full = MultivariateNormal(torch.zeros(2, dtype=torch.float64), scale_tril=root)
    mean, scale = (
        torch.tensor([0.3, -1.0], dtype=torch.float64),
        torch.tensor([1.5, 0.7], dtype=torch.float64),
    )
    cells = Independent(Normal(mean, scale), 1)
    whole, log_dets = root @ root.T, 2 * float(root.diagonal().log().sum() - scale.log().sum())
    expected = 0.5 * ((whole.diagonal() + mean**2) / scale**2).sum() - 1 - 0.5 * log_dets
    found = kl(full, cells)
    assert float(found) == pytest.approx(float(expected), rel=1e-12)
    assert found.samples == 0
    back = 0.5 * (
        (torch.linalg.inv(whole).diagonal() * scale**2).sum() + mean @ torch.linalg.solve(whole, mean)
    )
    assert float(kl(cells, full)) == pytest.approx(float(back - 1 + 0.5 * log_dets), rel=1e-12)
    assert cross_entropy(full, cells).samples == 0


def test_an_interval_that_q_covers_to_its_ends_costs_finitely_much() -> None:
    q = ContinuousBernoulli(number(0.7))
    logs, _ = integrate.quad(lambda x: float(q.log_prob(number(x))), 0, 1)
    assert_near(kl(Uniform(number(0.0), number(1.0)), q), -logs)


def test_outcomes_that_can_be_listed_are_summed() -> None:
    p, q = Binomial(10, number(0.3)), Binomial(10, number(0.6))
    table_p, table_q = stats.binom(10, 0.3).pmf(range(11)), stats.binom(10, 0.6).pmf(range(11))
    assert float(entropy(p)) == pytest.approx(stats.entropy(table_p), rel=1e-11)
    assert float(cross_entropy(p, q)) == pytest.approx(
        -(table_p * stats.binom(10, 0.6).logpmf(range(11))).sum()
    )
    middle = 0.5 * (table_p + table_q)
    wanted = 0.5 * (stats.entropy(table_p, middle) + stats.entropy(table_q, middle))
    found = jensen_shannon(p, q)
    assert float(found) == pytest.approx(wanted, rel=1e-11)
    assert found.samples == 0


def test_sampled_ones_agree_with_quadrature() -> None:
    p, q = mixture(), normal(0.0, 2.0)

    def density(x: float) -> float:
        return float(p.log_prob(number(x)).exp())

    def integral(function) -> float:
        return integrate.quad(function, -9, 9, limit=200)[0]

    assert_near(entropy(p), integral(lambda x: -density(x) * log(density(x))))
    wanted = integral(lambda x: density(x) * (log(density(x)) - stats.norm.logpdf(x, 0, 2)))
    assert_near(kl(p, q), wanted)
    assert_near(cross_entropy(p, q), integral(lambda x: -density(x) * stats.norm.logpdf(x, 0, 2)))

    def half(a: float, b: float) -> float:
        return 0.5 * a * log(a / (0.5 * (a + b)))

    both = integral(
        lambda x: half(density(x), stats.norm.pdf(x, 0, 2)) + half(stats.norm.pdf(x, 0, 2), density(x))
    )
    assert_near(jensen_shannon(p, q), both)


def test_the_entropy_of_a_poisson_is_that_of_its_table() -> None:
    wanted = stats.poisson(3.0).entropy()
    found = entropy(Poisson(number(3.0)), samples=5000)
    assert abs(float(found) - float(wanted)) <= 4 * float(found.standard_error) + 1e-12


@pytest.mark.parametrize(
    ("p", "q"),
    [
        (normal(0.0, 1.0), Exponential(number(1.0))),
        (Uniform(number(0.0), number(2.0)), Uniform(number(0.0), number(1.0))),
        (Laplace(number(0.0), number(1.0)), Gamma(number(2.0), number(1.0))),
        (
            Independent(Laplace(torch.zeros(2), torch.ones(2)), 1),
            Independent(Gamma(torch.ones(2), torch.ones(2)), 1),
        ),
        (Bernoulli(number(0.5)), Bernoulli(number(1.0))),
    ],
)
def test_what_q_excludes_costs_infinitely_much(p, q) -> None:
    found = kl(p, q)
    assert float(found) == inf
    assert float(found.standard_error) == 0
    assert float(cross_entropy(p, q)) == inf


def test_jensen_shannon_of_disjoint_ones_is_a_bit() -> None:
    found = jensen_shannon(
        Uniform(number(0.0), number(1.0)), Uniform(number(2.0), number(3.0)), unit="bits", samples=10
    )
    assert float(found) == pytest.approx(1, rel=1e-14)


def test_surprisal_outside_of_the_support_is_infinite() -> None:
    found = surprisal(Exponential(number(2.0)), torch.tensor([-1.0, 0.5]).double(), unit="bits")
    assert found.tolist() == pytest.approx([inf, (1 - log(2)) / log(2)])


@pytest.mark.parametrize("rho", [0.0, 0.5, -0.9, 0.999])
def test_mutual_information_of_correlated_normals(rho: float) -> None:
    found = mutual_information(correlated(rho))
    assert float(found) == pytest.approx(-0.5 * log(1 - rho**2), rel=1e-10, abs=1e-15)


def test_mutual_information_of_normal_vectors_is_a_difference_of_entropies() -> None:
    joint = correlated(0.3, 5)
    part = [correlated(0.3, 2), correlated(0.3, 3)]
    wanted = float(part[0].entropy() + part[1].entropy() - joint.entropy())
    assert float(mutual_information(joint, split=2)) == pytest.approx(wanted, rel=1e-12)


def test_mutual_information_by_samples_from_given_marginals() -> None:
    joint, one = correlated(0.8), normal(0.0, 1.0)
    found = mutual_information(joint, marginals=(one, one))
    assert_near(found, -0.5 * log(1 - 0.8**2))


def test_pointwise_mutual_information_of_normals() -> None:
    joint, value = correlated(0.8), torch.tensor([[1.0, 1.0], [1.0, -1.0]]).double()
    wanted = joint.log_prob(value) - normal(0.0, 1.0).log_prob(value).sum(-1)
    torch.testing.assert_close(pointwise_mutual_information(joint, value), wanted, rtol=1e-12, atol=1e-12)


def test_batches_broadcast_and_seeds_repeat() -> None:
    many = Laplace(torch.zeros(3).double(), torch.ones(3).double())
    found = kl(many, mixture())
    assert found.value.shape == found.standard_error.shape == (3,)
    state = torch.get_rng_state()
    assert torch.equal(found.value, kl(many, mixture()).value)
    assert torch.equal(state, torch.get_rng_state())
    assert not torch.equal(found.value, kl(many, mixture(), seed=1).value)


def test_standard_errors_are_those_of_the_spread_over_seeds() -> None:
    p, q = Laplace(number(0.0), number(1.0)), mixture()
    many = [kl(p, q, samples=200, seed=seed) for seed in range(200)]
    spread = torch.stack([found.value for found in many]).std()
    claimed = torch.stack([found.standard_error for found in many]).mean()
    # The spread of 200 values is known to 1 / sqrt(400).
    assert abs(float(claimed / spread) - 1) < 4 / sqrt(400)


def test_uniform_and_normal_closed_form() -> None:
    """KL(U(-1, 1) || N(0, 1)) = -log 2 + log sqrt(2 pi) + 1/6."""
    found = kl(Uniform(number(-1.0), number(1.0)), normal(0.0, 1.0))
    assert float(found) == pytest.approx(-log(2) + 0.5 * log(2 * torch.pi) + 1 / 6, rel=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: kl(normal(0, 1), correlated(0.5)), ShapeError, "same events"),
        (lambda: kl(normal(0, 1), Poisson(number(1.0))), ConfigError, "a density and the other a mass"),
        (lambda: kl(Normal(torch.zeros(2), 1.0), Normal(torch.zeros(3), 1.0)), ShapeError, "don't broadcast"),
        (lambda: entropy(mixture(), samples=1), ConfigError, "at least two draws"),
        (lambda: surprisal(normal(0, 1)), ConfigError, "give value="),
        (lambda: mutual_information(correlated(0.5), split=2), ShapeError, "at least one of its own"),
        (
            lambda: mutual_information(Independent(Normal(torch.zeros(2), 1.0), 1)),
            ConfigError,
            "give marginals",
        ),
        (lambda: pointwise_mutual_information(correlated(0.5)), ConfigError, "give value="),
    ],
)
def test_bad_pairs_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
