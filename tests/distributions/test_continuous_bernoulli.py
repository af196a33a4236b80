import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from contracts import references
from jensen.distributions import ContinuousBernoulli
from jensen.seeding import seeded

SIZES = [
    0.0,
    1e-30,
    1e-6,
    1e-5,
    1e-4,
    1e-3,
    4e-3,
    1e-2,
    0.1,
    0.4999,
    0.5,
    0.5001,
    0.7,
    1.0,
    3.0,
    7.0,
    15.0,
    20.0,
    88.0,
    1e3,
]
LOGITS = [sign * size for size in SIZES for sign in (-1.0, 1.0)]


def reference(function: object, logits: torch.Tensor) -> torch.Tensor:
    """The function of each logit, as the tensor's precision has it, rounded to double precision."""
    return torch.tensor([float(function(one)) for one in logits.tolist()], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_normaliser_mean_and_variance_are_exact_to_rounding(dtype: torch.dtype) -> None:
    logits = torch.tensor(LOGITS, dtype=dtype)
    cells = ContinuousBernoulli(logits)
    eps = torch.finfo(dtype).eps
    # The density at the end where it is high is 1 / mean distance from there and more: of order |l|.
    ends = (logits > 0).to(dtype)
    high = torch.tensor(
        [float(references.continuous_bernoulli(one, float(one > 0))) for one in logits.tolist()],
        dtype=torch.float64,
    )
    got = cells.log_prob(ends).double()
    assert ((got - high).abs() <= 4 * eps * high.abs().clamp(min=1.0)).all()

    mean = reference(references.continuous_bernoulli_mean, logits)
    assert ((cells.mean.double() - mean).abs() <= 4 * eps).all()
    # Outside the series two terms of size 1/l^2 <= 4 cancel to 1/12 at the least: a loss of fifty.
    variance = reference(references.continuous_bernoulli_variance, logits)
    assert ((cells.variance.double() / variance - 1).abs() <= 200 * eps).all()


def test_density_everywhere_in_single_precision() -> None:
    """torch's own is off by .23 nats at a logit of 20, and by 2e-6 with a gradient off by 3e-4 at .004."""
    logits = torch.tensor(LOGITS)
    for x in (0.0, 0.25, 0.5, 0.9, 1.0):
        value = torch.tensor(x)
        leaf = logits.clone().requires_grad_()
        log_prob = ContinuousBernoulli(leaf).log_prob(value)
        (slope,) = torch.autograd.grad(log_prob.sum(), leaf)
        x_rounded = value.item()
        exact = reference(lambda one, x=x_rounded: references.continuous_bernoulli(one, x), logits)
        error = (log_prob.detach().double() - exact).abs()
        assert (error <= 4e-7 * exact.abs().clamp(min=1.0)).all()
        exact_slope = reference(
            lambda one, x=x_rounded: x - references.continuous_bernoulli_mean(one), logits
        )
        assert ((slope.double() - exact_slope).abs() <= 5e-7).all()


def test_curvature_is_minus_the_variance() -> None:
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(
        ContinuousBernoulli(logits).log_prob(torch.tensor(0.3)).sum(), logits, create_graph=True
    )
    (curvature,) = torch.autograd.grad(slope.sum(), logits)
    variance = reference(references.continuous_bernoulli_variance, logits.detach())
    assert ((curvature + variance).abs() <= 1e-14).all()


@settings(deadline=None)
@given(logit=st.floats(-1e4, 1e4), x=st.floats(0, 1))
def test_turning_the_interval_round_turns_the_sign(logit: float, x: float) -> None:
    one = ContinuousBernoulli(torch.tensor(logit, dtype=torch.float64)).log_prob(
        torch.tensor(x, dtype=torch.float64)
    )
    other = ContinuousBernoulli(torch.tensor(-logit, dtype=torch.float64)).log_prob(
        torch.tensor(1 - x, dtype=torch.float64)
    )
    # 1 - x is rounded by up to 1.2e-16, which the logit multiplies.
    assert float((one - other).abs()) <= 1e-15 * (1 + 4 * abs(logit))


def cdf(logit: float, x: np.ndarray) -> np.ndarray:
    if abs(logit) < 1e-9:
        return x
    return (
        np.expm1(logit * x) / np.expm1(logit)
        if logit < 0
        else 1 - np.expm1(-logit * (1 - x)) / np.expm1(-logit)
    )


@pytest.mark.parametrize("logit", [-100.0, -20.0, -1.0, -1e-5, 0.0, 1e-9, 1e-3, 0.4, 2.0, 20.0, 100.0])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_draws_have_the_distribution(logit: float, dtype: torch.dtype) -> None:
    with seeded(0):
        draws = ContinuousBernoulli(torch.tensor(logit, dtype=dtype)).sample((20_000,))
    assert draws.dtype == dtype
    assert float(draws.min()) >= 0
    assert float(draws.max()) <= 1
    # The chance of a p-value below 1e-4 is one in ten thousand for a right sampler; the seed is fixed.
    assert kstest(draws.double().numpy(), lambda x: cdf(logit, x)).pvalue > 1e-4


def test_draws_never_leave_the_interval() -> None:
    with seeded(0):
        draws = ContinuousBernoulli(torch.tensor([-1e4, -88.0, 0.0, 1e-20, 88.0, 1e4])).sample((100_000,))
    assert draws.isfinite().all()
    assert ((draws >= 0) & (draws <= 1)).all()


def test_expanding_keeps_the_distribution() -> None:
    small = ContinuousBernoulli(torch.tensor([1.0, -2.0]))
    large = small.expand((3, 2))
    assert large.batch_shape == (3, 2)
    assert torch.equal(large.log_prob(torch.tensor(0.3))[1], small.log_prob(torch.tensor(0.3)))


def test_values_outside_are_refused_when_arguments_are_validated() -> None:
    with pytest.raises(ValueError, match="within the support"):
        ContinuousBernoulli(torch.tensor(0.0), validate_args=True).log_prob(torch.tensor(1.5))


def test_reference_of_the_normaliser_is_the_integral() -> None:
    for logit in (-20.0, -1e-3, 2.0):
        integral = mp.quad(lambda x, a=logit: mp.exp(a * x), [0, 1])
        assert mp.almosteq(mp.log(integral), references.log_normaliser(logit), 1e-25, 1e-25)
