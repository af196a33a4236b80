"""Distributions whose parameters are drawn: beta-binomial, Dirichlet-multinomial, normal-gamma."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from contracts.conformance import assert_moments
from jensen.distributions import BetaBinomial, DirichletMultinomial, NormalGamma
from jensen.seeding import seeded

positive = st.floats(0.05, 50)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 30), positive, positive)
def test_beta_binomial_agrees_with_scipy(n: int, a: float, b: float) -> None:
    found, wanted = BetaBinomial(n, double(a), double(b)), stats.betabinom(n, a, b)
    support = found.enumerate_support()
    np.testing.assert_allclose(
        found.log_prob(support)[:, 0], wanted.logpmf(np.arange(n + 1)), rtol=1e-9, atol=1e-10
    )
    assert float(found.log_prob(support).exp().sum()) == pytest.approx(1, rel=1e-10)
    assert float(found.mean) == pytest.approx(wanted.mean(), rel=1e-12)
    assert float(found.variance) == pytest.approx(wanted.var(), rel=1e-9)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 12), st.lists(positive, min_size=3, max_size=3))
def test_dirichlet_multinomial_agrees_with_scipy(n: int, a: list[float]) -> None:
    found, wanted = DirichletMultinomial(n, double(*a)), stats.dirichlet_multinomial(a, n)
    every = [(i, j, n - i - j) for i in range(n + 1) for j in range(n + 1 - i)]
    log_prob = found.log_prob(torch.tensor(every, dtype=torch.float64))
    np.testing.assert_allclose(log_prob, wanted.logpmf(every), rtol=1e-9, atol=1e-10)
    assert float(log_prob.exp().sum()) == pytest.approx(1, rel=1e-10)
    np.testing.assert_allclose(found.mean, wanted.mean(), rtol=1e-12)
    np.testing.assert_allclose(found.variance, wanted.var(), rtol=1e-9, atol=1e-12)


def test_two_classes_are_a_beta_binomial() -> None:
    a, b = double(0.5, 3.0), double(2.0, 0.7)
    heads = torch.arange(6.0).double()[:, None]
    one = BetaBinomial(5, a, b).log_prob(heads)
    two = DirichletMultinomial(5, torch.stack([a, b], -1)).log_prob(
        torch.stack([heads.expand(6, 2), 5 - heads.expand(6, 2)], -1)
    )
    torch.testing.assert_close(one, two, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "distribution",
    [
        BetaBinomial(7, double(0.5, 3.0), double(2.0)),
        DirichletMultinomial(7, double(0.5, 3.0, 1.0)),
        NormalGamma(double(1.0, -2.0), double(0.5), double(6.0), double(2.0)),
    ],
)
def test_draws_have_the_moments(distribution) -> None:
    with seeded(0):
        draws = distribution.sample((20_000,))
    assert draws.shape == (20_000, *distribution.batch_shape, *distribution.event_shape)
    assert bool(distribution.support.check(draws).all())
    assert_moments(draws, distribution.mean, distribution.variance)


def test_normal_gamma_is_a_gamma_and_a_normal_given_it() -> None:
    found = NormalGamma(double(1.0), double(0.5), double(3.0), double(2.0))
    value = torch.tensor([[0.3, 1.7], [-4.0, 0.2]]).double()
    wanted = [
        stats.gamma(3, scale=0.5).logpdf(t) + stats.norm(1, 1 / np.sqrt(0.5 * t)).logpdf(m)
        for m, t in value.tolist()
    ]
    np.testing.assert_allclose(found.log_prob(value), wanted, rtol=1e-12)


def test_the_mean_alone_is_the_integral_over_the_precision() -> None:
    found = NormalGamma(double(1.0), double(0.5), double(3.0), double(2.0))
    precision = torch.linspace(1e-4, 30, 100_001).double()
    mean = double(2.3)
    density = found.log_prob(torch.stack([mean.expand_as(precision), precision], -1)).exp()
    assert float(torch.trapezoid(density, precision).log()) == pytest.approx(
        float(found.location.log_prob(mean)), abs=1e-6
    )


def test_expanding_keeps_the_distribution() -> None:
    for small in (
        BetaBinomial(3, double(0.5), double(2.0)),
        DirichletMultinomial(3, double(0.5, 2.0)[None]),
        NormalGamma(double(0.5), double(2.0), double(3.0), double(1.0)),
    ):
        large = small.expand((4, 1))
        assert large.batch_shape == (4, 1)
        assert torch.equal(large.mean[2], small.mean)


def test_values_outside_of_the_support_are_refused() -> None:
    with pytest.raises(ValueError, match="within the support"):
        BetaBinomial(3, double(1.0), double(1.0)).log_prob(double(4.0))
    with pytest.raises(ValueError, match="within the support"):
        DirichletMultinomial(3, double(1.0, 1.0)).log_prob(double(1.0, 1.0))
    with pytest.raises(ValueError, match="strength is"):
        NormalGamma(double(0.0), double(-1.0), double(1.0), double(1.0))
