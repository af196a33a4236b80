import mpmath as mp
import pytest
import torch
from scipy.stats import nbinom
from torch.distributions import Poisson

from contracts import references
from contracts.conformance import assert_moments
from jensen.distributions import NegativeBinomial
from jensen.seeding import seeded

COUNTS = (0.0, 1.0, 2.0, 15.0, 17.0, 60.0)
DISPERSIONS = (-30.0, -3.0, 0.0, 2.0, 2.77, 2.78, 5.0, 10.0, 15.0, 20.0, 30.0)


def test_reference_agrees_with_scipy() -> None:
    for log_mean in (-1.0, 2.0):
        r, m = 2.5, float(mp.exp(log_mean))
        for x in COUNTS:
            ours = references.negative_binomial(log_mean, float(mp.log(r)), x)
            assert float(ours) == pytest.approx(nbinom.logpmf(x, r, r / (r + m)), rel=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("log_mean", [-10.0, 0.0, 3.0])
def test_density_and_gradient_at_every_dispersion(dtype: torch.dtype, log_mean: float) -> None:
    """torch's own is off by .05 nats in single precision at a log-dispersion of 12, and by 3 at 15."""
    m = torch.tensor(log_mean, dtype=dtype).item()
    eps = torch.finfo(dtype).eps
    for count in COUNTS:
        leaf = torch.tensor(DISPERSIONS, dtype=dtype, requires_grad=True)
        log_prob = NegativeBinomial(torch.tensor(m, dtype=dtype), leaf).log_prob(
            torch.tensor(count, dtype=dtype)
        )
        (slope,) = torch.autograd.grad(log_prob.sum(), leaf)
        for i, r in enumerate(leaf.tolist()):
            exact = references.negative_binomial(m, r, count)
            slope_exact = mp.diff(lambda r, c=count: references.negative_binomial(m, r, c), r)
            # The largest terms are the logarithms of x! and of r^x and m^x, and r up to 16 times a digamma.
            size = 1 + abs(float(exact)) + count * (abs(m) + min(abs(r), 5.0) + 4)
            assert abs(log_prob[i].item() - float(exact)) <= 4 * eps * size, (r, count)
            assert abs(slope[i].item() - float(slope_exact)) <= 64 * eps * (1 + count + float(mp.exp(m))), (
                r,
                count,
            )


def test_is_a_poisson_where_the_dispersion_is_large() -> None:
    counts = torch.arange(30.0, dtype=torch.float64)
    log_mean = torch.tensor(1.5, dtype=torch.float64)
    got = NegativeBinomial(log_mean, torch.tensor(35.0, dtype=torch.float64)).log_prob(counts)
    # The next term of the expansion is ((x - m)^2 - x) / 2r, and r is 1.6e15.
    torch.testing.assert_close(got, Poisson(log_mean.exp()).log_prob(counts), rtol=0, atol=1e-12)


@pytest.mark.parametrize("log_dispersion", [-1.0, 2.0, 20.0])
def test_draws_have_the_moments(log_dispersion: float) -> None:
    counts = NegativeBinomial(torch.tensor([0.0, 2.0]), torch.tensor(log_dispersion))
    with seeded(0):
        draws = counts.sample((20_000,))
    assert draws.dtype == torch.float32
    mean = torch.tensor([0.0, 2.0]).exp()
    assert_moments(draws, mean, mean + mean**2 / torch.tensor(log_dispersion).exp())
    torch.testing.assert_close(counts.mean, mean)
    torch.testing.assert_close(counts.variance, mean + mean**2 / torch.tensor(log_dispersion).exp())


def test_expanding_keeps_the_distribution() -> None:
    small = NegativeBinomial(torch.tensor([1.0, -2.0]), torch.tensor(0.5))
    large = small.expand((3, 2))
    assert large.batch_shape == (3, 2)
    assert torch.equal(large.log_prob(torch.tensor(2.0))[1], small.log_prob(torch.tensor(2.0)))
