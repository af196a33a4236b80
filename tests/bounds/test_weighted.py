import pytest
import torch
from torch import Tensor

from jensen.bounds import Terms, elbo, weighted_elbo
from jensen.seeding import seeded
from testbed import TwoLayerChain, linear_gaussian

EXACT = {"rtol": 0.0, "atol": 1e-12}


def two_groups(small: Tensor, large: Tensor) -> Terms:
    """Closed divergences of two groups, (batch,) each, and no likelihood."""
    groups = {"small": None, "large": None}
    kl = {"small": small[None], "large": large[None]}
    return Terms(torch.zeros(2, len(small), dtype=small.dtype), groups, groups, kl)


def test_no_weight_and_no_free_bits_is_the_elbo() -> None:
    chain = TwoLayerChain(shift=0.3)
    with seeded(0):
        terms = chain.terms(chain.sample(4, seed=1), samples=3)
    torch.testing.assert_close(weighted_elbo(terms), elbo(terms), **EXACT)


@pytest.mark.parametrize("beta", [0.0, 0.5, 4.0])
def test_beta_weighs_the_divergence_alone(beta: float) -> None:
    bed = linear_gaussian(shift=0.2)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=3)
    expected = terms.log_likelihood.mean(0) - beta * terms.kl["z"][0]
    torch.testing.assert_close(weighted_elbo(terms, beta), expected, **EXACT)
    weight = torch.tensor(beta, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(weighted_elbo(terms, weight).sum(), weight)
    torch.testing.assert_close(gradient, -terms.kl["z"].sum(), **EXACT)


def test_more_weight_lies_lower() -> None:
    bed = linear_gaussian(shift=0.2)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=3)
    ladder = torch.stack([weighted_elbo(terms, beta) for beta in (0.5, 1.0, 2.0)])
    assert (ladder.diff(dim=0) < 0).all()


def test_free_bits_count_for_each_group_and_for_the_mean_over_the_batch() -> None:
    # Means over the batch: 0.5 and 2. A datum's own divergence may lie on either side of lambda.
    small = torch.tensor([0.1, 0.9], dtype=torch.float64)
    large = torch.tensor([0.2, 3.8], dtype=torch.float64)
    terms = two_groups(small, large)
    for free, punished in [(0.0, None), (0.4, 2.5), (1.0, 3.0), (3.0, 6.0)]:
        value = weighted_elbo(terms, free_bits=free)
        if punished is None:
            torch.testing.assert_close(value, -(small + large), **EXACT)
        else:
            torch.testing.assert_close(value, torch.full((2,), -punished, dtype=torch.float64), **EXACT)
    torch.testing.assert_close(
        weighted_elbo(terms, 2.0, 1.0), torch.full((2,), -6.0, dtype=torch.float64), **EXACT
    )


def test_a_group_below_its_free_bits_gets_no_gradient() -> None:
    small = torch.tensor([0.1, 0.9], dtype=torch.float64, requires_grad=True)
    large = torch.tensor([0.2, 3.8], dtype=torch.float64, requires_grad=True)
    value = weighted_elbo(two_groups(small, large), free_bits=1.0).mean()
    of_small, of_large = torch.autograd.grad(value, (small, large))
    assert (of_small == 0).all()
    # The mean over the batch is punished, so every datum gets the gradient of the mean.
    torch.testing.assert_close(of_large, torch.full((2,), -0.5, dtype=torch.float64), **EXACT)


def test_free_bits_leave_the_likelihood_its_gradient() -> None:
    bed = linear_gaussian(shift=0.2)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=3)
    shift = bed.model.posterior.shift
    free = weighted_elbo(terms, free_bits=1e6).sum()
    (gradient,) = torch.autograd.grad(free, shift, retain_graph=True)
    (expected,) = torch.autograd.grad(terms.log_likelihood.mean(0).sum(), shift)
    torch.testing.assert_close(gradient, expected, **EXACT)


def test_the_weighted_elbo_with_more_than_one_lies_below_the_evidence_on_average() -> None:
    bed = linear_gaussian(n=50, shift=0.1)
    with seeded(0), torch.no_grad():
        terms = bed.model.terms(*bed.batch, samples=2000)
    evidence = bed.log_evidence().mean()
    # The gap of the posterior is far larger than the error of 100,000 draws.
    assert weighted_elbo(terms, 1.5).mean() < evidence
    assert weighted_elbo(terms, free_bits=8.0).mean() < evidence
    assert weighted_elbo(terms, 0.2).mean() > evidence
