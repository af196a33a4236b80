from itertools import pairwise
from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from torch import Tensor
from torch.distributions import Normal

from jensen.bounds import BOUNDS, Terms, cubo_estimate, elbo, iwae, renyi
from jensen.errors import BoundError, ConfigError
from jensen.seeding import seeded
from testbed import (
    SharedRegression,
    TwoLayerChain,
    assert_mean,
    binary_latents,
    class_latent,
    expected_iwae,
    linear_gaussian,
)

EXACT = {"rtol": 0.0, "atol": 1e-10}


def one_latent(**wrong: float):
    return linear_gaussian(latent_dim=1, data_dim=3, n=1, **wrong)


def log_weights(bed, samples: int, copies: int, seed: int = 0) -> Tensor:
    """Independent log-weights of the only datum, (samples, copies)."""
    with seeded(seed), torch.no_grad():
        return bed.model.terms(*bed.batch, samples=samples * copies).log_ratio().reshape(samples, copies)


@pytest.mark.parametrize(
    "bound",
    [iwae, lambda terms: renyi(terms, 0.5), lambda terms: renyi(terms, 3.0), cubo_estimate],
    ids=["iwae", "renyi-0.5", "renyi-3", "cubo"],
)
@pytest.mark.parametrize(
    "variant", [{}, {"context_dim": 2}, {"missing": 0.4}], ids=["plain", "context", "masked"]
)
def test_every_bound_of_the_exact_posterior_is_the_evidence(bound, variant) -> None:
    bed = linear_gaussian(**variant)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=5)
    torch.testing.assert_close(bound(terms), bed.log_evidence(), **EXACT)


def test_two_layers() -> None:
    chain = TwoLayerChain()
    x = chain.sample(4, seed=1)
    with seeded(0):
        torch.testing.assert_close(iwae(chain.terms(x, samples=3)), chain.log_evidence(x), **EXACT)


@pytest.mark.parametrize("likelihood", ["normal", "bernoulli"])
def test_enumerated_classes_give_the_evidence_whatever_the_posterior(likelihood: str) -> None:
    bed = class_latent(likelihood, temperature=3.0)
    terms = bed.model.terms(bed.batch.x, samples="all")
    assert (elbo(terms) < bed.log_evidence() - 0.05).any()
    torch.testing.assert_close(iwae(terms), bed.log_evidence(), **EXACT)
    # E_q[w^2] over the classes, from the definition.
    q = torch.log_softmax(bed.model.posterior.network(bed.batch.x), -1)
    second_moment = torch.logsumexp(q + 2 * (bed.log_joint(bed.batch.x) - q), -1)
    torch.testing.assert_close(cubo_estimate(terms), second_moment / 2, **EXACT)


@pytest.mark.parametrize("samples", [1, 2, 5, 50])
def test_iwae_has_the_expectation_that_quadrature_gives(samples: int) -> None:
    bed = one_latent(shift=0.2, log_stretch=-0.3)
    exact = expected_iwae(bed, samples).detach()
    assert_mean(iwae(Terms(log_weights(bed, samples, 20_000))), exact)


def test_quadrature_agrees_with_closed_forms() -> None:
    # What the test above leans on: one sample is the ELBO; two are a plain double integral.
    bed = one_latent(shift=0.2, log_stretch=-0.3)
    torch.testing.assert_close(expected_iwae(bed, 1), bed.elbo()[0], **EXACT)
    step = 0.02
    noise = torch.arange(-9, 9 + step / 2, step, dtype=torch.float64)
    mass = step * Normal(0.0, 1.0).log_prob(noise).exp()
    q = bed.model.posterior(bed.encoder_input())
    z = q.loc + q.scale_tril[..., 0] * noise[:, None, None]
    log_weight = bed.model.decode(z).log_prob(bed.batch.x) + bed.model.prior().log_prob(z) - q.log_prob(z)
    pairs = torch.logaddexp(log_weight, log_weight.mT) - log(2)
    torch.testing.assert_close(expected_iwae(bed, 2), mass @ pairs @ mass, **EXACT)


def test_iwae_grows_with_the_samples_towards_the_evidence() -> None:
    bed = one_latent(shift=0.15, log_stretch=-0.1)
    draws = log_weights(bed, 64, 4000)
    counts = [1, 2, 8, 64]
    # The same draws in groups of K, so that neighbours are compared in pairs.
    bounds = [
        iwae(Terms(draws.reshape(count, -1, 4000).flatten(1))).reshape(-1, 4000).mean(0) for count in counts
    ]
    for fewer, more in pairwise(bounds):
        growth = more - fewer
        assert growth.mean() > 4 * growth.std() / len(growth) ** 0.5
    evidence = bed.log_evidence()[0].detach()
    last = bounds[-1]
    assert last.mean() < evidence + 4 * last.std() / len(last) ** 0.5
    # Gaps by quadrature: 64 samples close nine tenths of it.
    gaps = [float(evidence - expected_iwae(bed, count).detach()) for count in counts]
    assert gaps == sorted(gaps, reverse=True)
    assert 0 < gaps[-1] < 0.1 * gaps[0]


def test_binary_latents_have_the_expectation_that_enumeration_gives() -> None:
    bed = binary_latents()
    with seeded(0), torch.no_grad():
        draws = bed.model.terms(bed.batch.x, samples=60_000).log_ratio()
    for samples in (1, 2, 3):
        exact = bed.expected(lambda x, p, q: torch.logsumexp(x + p - q, 0) - log(len(x)), samples)
        assert_mean(iwae(Terms(draws.reshape(samples, -1))), exact.detach())
        # The other way to the exact answer, which doesn't grow with the samples.
        torch.testing.assert_close(expected_iwae(bed, samples), exact, **EXACT)


@pytest.mark.parametrize("alpha", [0.5, 2.0])
def test_renyi_tends_to_the_evidence_less_the_renyi_divergence(alpha: float) -> None:
    # A posterior that is too narrow has the moments of 1/w, one that is too wide those of w.
    bed = one_latent(shift=0.05, log_stretch=-0.2 if alpha > 1 else 0.2)
    exact = bed.log_evidence()[0] - normal_renyi(*normals(bed), alpha)
    check_moment(bed, 1 - alpha, exact, lambda terms: renyi(terms, alpha))


def test_cubo_tends_to_the_chi_bound_above_the_evidence() -> None:
    bed = one_latent(shift=0.1, log_stretch=0.3)
    q, p = normals(bed)
    exact = bed.log_evidence()[0] + 0.5 * normal_renyi(p, q, 2.0)
    assert exact > bed.log_evidence()[0] + 0.05
    check_moment(bed, 2.0, exact, cubo_estimate)


def normals(bed) -> tuple[Normal, Normal]:
    """The approximate posterior and the exact one, of the only latent."""
    q, p = bed.model.posterior(bed.encoder_input()), bed.posterior()
    return Normal(q.loc[0, 0], q.scale_tril[0, 0, 0]), Normal(p.loc[0, 0], p.scale_tril[0, 0, 0])


@pytest.mark.parametrize("spread", [0.1, 30.0, 1e4])
@pytest.mark.parametrize("alpha", [0.95, 1 - 1e-4, 1 - 1e-8, 1 + 1e-8, 1 + 1e-4, 1.05])
def test_renyi_near_the_elbo_keeps_its_digits(alpha: float, spread: float) -> None:
    with seeded(0):
        log_ratio = spread * torch.randn(50, 3) - 90
    exact = torch.logsumexp((1 - alpha) * (log_ratio.double() - log_ratio.double().mean(0)), 0) - log(50)
    exact = exact / (1 - alpha) + log_ratio.double().mean(0)
    if abs(1 - alpha) < 1e-6:
        # To second order, which is all that is left, while even float64 loses digits.
        exact = log_ratio.double().mean(0) + (1 - alpha) / 2 * log_ratio.double().var(0, correction=0)
    torch.testing.assert_close(renyi(Terms(log_ratio), alpha).double(), exact, rtol=1e-5, atol=1e-3)
    # The gradient is the average of normalised powers: it sums to one.
    (gradient,) = torch.autograd.grad(renyi(Terms(log_ratio.requires_grad_()), alpha).sum(), log_ratio)
    torch.testing.assert_close(gradient.sum(0), torch.ones(3), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("alpha", [0.5, 0.99, 1.01, 2.0])
def test_renyi_of_weights_that_are_zero(alpha: float) -> None:
    log_ratio = torch.tensor([[-1.0, -torch.inf], [-torch.inf, -torch.inf]])
    wanted = -1 - log(2) / (1 - alpha) if alpha < 1 else -torch.inf
    torch.testing.assert_close(renyi(Terms(log_ratio), alpha), torch.tensor([wanted, -torch.inf]))


def test_orders_that_are_no_numbers() -> None:
    for bound in (renyi, cubo_estimate):
        with pytest.raises(BoundError, match="order"):
            bound(Terms(torch.zeros(2, 1)), float("nan"))


def normal_renyi(first: Normal, second: Normal, alpha: float) -> Tensor:
    """The Rényi divergence of two normals, log E_second[(first/second)^alpha] / (alpha - 1)."""
    variance = (1 - alpha) * first.variance + alpha * second.variance
    assert variance > 0
    spread = (second.scale / first.scale).log() + (second.variance / variance).log() / (2 * (alpha - 1))
    return spread + alpha * (first.loc - second.loc) ** 2 / (2 * variance)


def check_moment(bed, power: float, exact: Tensor, bound) -> None:
    """That log mean w^power / power is within 4 of its standard errors, by the delta method, of its limit."""
    draws = log_weights(bed, 200_000, 1)
    moments = (power * (draws - draws.max())).exp()
    relative = moments.std() / moments.mean() / len(draws) ** 0.5
    assert relative < 0.01
    # The logarithm's curvature adds half the square of the relative error.
    allowed = (4 * relative + 8 * relative**2) / abs(power)
    assert (bound(Terms(draws)) - exact).abs() < allowed


def test_a_cubo_estimate_with_few_samples_lies_below_its_target_and_can_below_the_evidence() -> None:
    bed = one_latent(shift=0.1, log_stretch=0.3)
    q, p = normals(bed)
    exact = bed.log_evidence()[0] + 0.5 * normal_renyi(p, q, 2.0)
    estimates = cubo_estimate(Terms(log_weights(bed, 2, 20_000)))
    assert estimates.mean() < exact - 4 * estimates.std() / len(estimates) ** 0.5
    # With a narrow posterior even its expectation lies below log p(x), so it is no upper side of a bracket.
    bed = one_latent(shift=0.2, log_stretch=-0.5)
    estimates = cubo_estimate(Terms(log_weights(bed, 2, 20_000)))
    assert estimates.mean() < bed.log_evidence()[0] - 4 * estimates.std() / len(estimates) ** 0.5


def test_renyi_meets_its_neighbours_and_decreases_in_its_order() -> None:
    bed = linear_gaussian(shift=0.2)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=10)
    sampled = Terms(terms.log_likelihood, terms.log_prior, terms.log_posterior, {"z": None})
    torch.testing.assert_close(renyi(terms, 1.0), elbo(sampled), **EXACT)
    torch.testing.assert_close(renyi(terms, 0.0), iwae(terms), **EXACT)
    # The limit at one is approached at first order, with half the variance of log w as its slope.
    slope = 0.5 * terms.log_ratio().var(0, correction=0)
    torch.testing.assert_close(
        (renyi(terms, 1 - 1e-5) - renyi(terms, 1.0)) / 1e-5, slope, rtol=1e-3, atol=1e-4
    )
    orders = torch.stack([renyi(terms, alpha) for alpha in (0.0, 0.3, 0.9, 1.0, 1.1, 2.0, 10.0)])
    assert (orders.diff(dim=0) < 0).all()


def test_bounds_on_numbers_worked_by_hand() -> None:
    # Weights 1 and 3 for the first datum, 2 and 2 for the second.
    terms = Terms(torch.tensor([[1.0, 2.0], [3.0, 2.0]], dtype=torch.float64).log())

    def nats(*values: float) -> Tensor:
        return torch.tensor(values, dtype=torch.float64).log()

    torch.testing.assert_close(elbo(terms), nats(3**0.5, 2.0), **EXACT)
    torch.testing.assert_close(iwae(terms), nats(2.0, 2.0), **EXACT)
    torch.testing.assert_close(renyi(terms, 0.5), nats(((1 + 3**0.5) / 2) ** 2, 2.0), **EXACT)
    torch.testing.assert_close(renyi(terms, 2.0), nats(2 / (1 + 1 / 3), 2.0), **EXACT)
    torch.testing.assert_close(cubo_estimate(terms), nats(5**0.5, 2.0), **EXACT)
    torch.testing.assert_close(cubo_estimate(terms, 3.0), nats(14 ** (1 / 3), 2.0), **EXACT)


def test_large_weights_do_not_overflow() -> None:
    terms = Terms(torch.tensor([[-5000.0], [4000.0]], dtype=torch.float64))
    torch.testing.assert_close(iwae(terms), torch.tensor([4000.0 - log(2)], dtype=torch.float64), **EXACT)
    assert cubo_estimate(terms).isfinite().all()
    assert renyi(terms, 2.0).isfinite().all()


@st.composite
def weighted_terms(draw: st.DrawFn) -> Terms:
    """Log-weights of several samples, which count alike or have log-weights of their own."""
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 3)))
    floats = st.floats(-50, 50)
    ratio = torch.from_numpy(draw(npst.arrays("float64", shape, elements=floats)))
    log_weight = None
    if draw(st.booleans()):
        log_weight = torch.log_softmax(
            torch.from_numpy(draw(npst.arrays("float64", shape, elements=floats))), 0
        )
    return Terms(ratio, log_weight=log_weight)


@settings(max_examples=100, deadline=None, derandomize=True, database=None)
@given(weighted_terms())
def test_bounds_of_the_same_samples_are_ordered(terms: Terms) -> None:
    ladder = [
        terms.log_ratio().min(0).values,
        renyi(terms, 2.0),
        elbo(terms),
        renyi(terms, 0.5),
        iwae(terms),
        cubo_estimate(terms, 1.5),
        cubo_estimate(terms, 2.0),
        terms.log_ratio().max(0).values,
    ]
    # Power means of one set of weights; each is off by at most a few roundings of numbers up to 100.
    for lower, upper in pairwise(ladder):
        assert (lower <= upper + 1e-11).all()
    torch.testing.assert_close(cubo_estimate(terms, 1.0), iwae(terms), **EXACT)


def test_a_renyi_order_below_zero_is_refused() -> None:
    terms = Terms(torch.zeros(2, 1))
    with pytest.raises(BoundError, match=r"lies below its target.*cubo_estimate\(terms, order=2\)"):
        renyi(terms, -1.0)


def test_a_cubo_order_below_one_is_refused() -> None:
    with pytest.raises(BoundError, match=r"at least 1, got 0\.5"):
        cubo_estimate(Terms(torch.zeros(2, 1)), 0.5)


@pytest.mark.parametrize("bound", [iwae, lambda terms: renyi(terms, 0.5), cubo_estimate])
def test_shared_unknowns_have_no_importance_weights_of_a_datum(bound) -> None:
    model = SharedRegression()
    with seeded(0):
        terms = model.terms(*model.data, samples=2)
    with pytest.raises(BoundError, match=r"\['w'\] are shared by all data; use the ELBO"):
        bound(terms)


@pytest.mark.parametrize("bound", [iwae, lambda terms: renyi(terms, 0.5), cubo_estimate])
@pytest.mark.parametrize("missing", ["prior", "posterior"])
def test_a_missing_density_is_refused_even_where_the_kl_is_known(bound, missing: str) -> None:
    one = torch.ones(2, 1)
    terms = Terms(
        one,
        {"z": None if missing == "prior" else one},
        {"z": None if missing == "posterior" else one},
        {"z": one},
    )
    torch.testing.assert_close(elbo(terms), torch.zeros(1))
    with pytest.raises(BoundError, match=f"density of the {missing} of 'z'"):
        bound(terms)


def test_bounds_by_name() -> None:
    terms = Terms(torch.tensor([[1.0], [2.0]], dtype=torch.float64))
    assert BOUNDS["elbo"](terms) == 1.5
    assert BOUNDS["iwae"](terms) == iwae(terms)
    assert BOUNDS["renyi"](terms) == renyi(terms, 0.5)
    with pytest.raises(ConfigError, match="did you mean 'iwae'"):
        BOUNDS["iwea"]
