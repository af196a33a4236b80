import mpmath as mp
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare, logistic

from contracts import references
from jensen.distributions import DiscretisedLogistic
from jensen.seeding import seeded

LOCATIONS = (-1e4, -127.5, 0.0, 0.5, 3.25, 127.5, 254.75, 255.0, 1e3, 1e5)
SCALES = (0.0021, 0.01, 0.1, 1.0, 10.0, 1e3, 7e6)
COUNTS = (0.0, 1.0, 3.0, 127.0, 254.0, 255.0)


def tensor(value: object) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


def test_masses_are_differences_of_the_distribution_function() -> None:
    integers = np.arange(8.0)
    upper, lower = integers + 0.5, integers - 0.5
    upper[-1], lower[0] = np.inf, -np.inf
    masses = logistic.cdf(upper, 3.2, 1.7) - logistic.cdf(lower, 3.2, 1.7)
    got = DiscretisedLogistic(tensor(3.2), tensor(1.7), 8).log_prob(tensor(integers))
    np.testing.assert_allclose(got.exp().numpy(), masses, rtol=1e-13)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_log_masses_at_extremes(dtype: torch.dtype) -> None:
    rows = [(a, b, x) for a in LOCATIONS for b in SCALES for x in COUNTS]
    loc, scale, value = torch.tensor(rows, dtype=dtype).T
    loc.requires_grad_()
    scale.requires_grad_()
    got = DiscretisedLogistic(loc, scale).log_prob(value)
    for gradient in torch.autograd.grad(got.sum(), (loc, scale)):
        assert gradient.isfinite().all()
    rounded = zip(loc.tolist(), scale.tolist(), value.tolist(), strict=True)
    wanted = tensor([float(references.discretised_logistic(a, b, x, 256)) for a, b, x in rounded])
    # An edge in units of the scale is rounded by eps times itself, and so is the logarithm in a tail; where the
    # scale is narrow, the distance from an edge to a location beside it is that of numbers up to 255.
    error = (got.detach().double() - wanted).abs()
    tolerance = 4 * torch.finfo(dtype).eps * (wanted.abs() + 255 / scale.detach().double().clamp(max=255))
    assert (error <= tolerance).all()


@settings(deadline=None)
@given(loc=st.floats(-500, 700), log_scale=st.floats(-6, 16), levels=st.integers(2, 300))
def test_masses_sum_to_one(loc: float, log_scale: float, levels: int) -> None:
    masses = DiscretisedLogistic(tensor(loc), tensor(log_scale).exp(), levels).log_prob(
        torch.arange(float(levels)).double()
    )
    assert float(masses.logsumexp(0)) == pytest.approx(0, abs=1e-9)


@settings(deadline=None)
@given(loc=st.floats(-300, 600), log_scale=st.floats(-5, 7))
def test_turning_the_levels_round_turns_the_masses(loc: float, log_scale: float) -> None:
    integers, scale = torch.arange(256.0).double(), tensor(log_scale).exp()
    one = DiscretisedLogistic(tensor(loc), scale).log_prob(integers)
    other = DiscretisedLogistic(tensor(255 - loc), scale).log_prob(integers.flip(0))
    # 255 - loc is rounded by up to 1e-13, which is divided by the scale.
    torch.testing.assert_close(one, other, rtol=1e-12, atol=1e-13 / float(scale) + 1e-12)


def test_mean_and_variance_are_sums_over_the_masses() -> None:
    loc, scale = tensor([[3.2, -1.0, 9.0]]), tensor([[0.7], [4.0]])
    cells = DiscretisedLogistic(loc, scale, 8)
    for i in range(2):
        for j in range(3):
            masses = [
                mp.exp(references.discretised_logistic(float(loc[0, j]), float(scale[i, 0]), k, 8))
                for k in range(8)
            ]
            mean = mp.fsum(k * m for k, m in enumerate(masses))
            variance = mp.fsum((k - mean) ** 2 * m for k, m in enumerate(masses))
            assert float(cells.mean[i, j]) == pytest.approx(float(mean), rel=1e-13)
            assert float(cells.variance[i, j]) == pytest.approx(float(variance), rel=1e-12)


@pytest.mark.parametrize("loc", [-2.0, 3.2, 7.5])
@pytest.mark.parametrize("scale", [0.2, 1.5, 20.0])
def test_draws_have_the_masses(loc: float, scale: float) -> None:
    cells = DiscretisedLogistic(torch.tensor(loc), torch.tensor(scale), 8)
    with seeded(0):
        draws = cells.sample((20_000,))
    counts = np.bincount(draws.int().numpy(), minlength=8)
    expected = 20_000 * cells.log_prob(torch.arange(8.0)).double().exp().numpy()
    # The chi-square approximation wants five expected: rarer integers are counted together.
    rare = expected < 5
    counts = np.append(counts[~rare], counts[rare].sum())
    expected = np.append(expected[~rare], expected[rare].sum())
    if expected[-1] < 5:
        assert counts[-1] <= 20
        counts, expected = counts[:-1], expected[:-1]
    if len(counts) > 1:
        assert chisquare(counts, expected * counts.sum() / expected.sum()).pvalue > 1e-4


def test_the_rarest_draws_are_as_far_out_as_their_chance() -> None:
    """A uniform draw of zero may not become a logit of -87, which has a chance of e^-87."""
    torch_rand = torch.rand
    cells = DiscretisedLogistic(torch.tensor(128.0), torch.tensor(2.0))
    with pytest.MonkeyPatch.context() as patch:
        for end, level in ((0.0, 128 - 2 * 15.9424), (1.0, 128 + 2 * 15.9424)):
            patch.setattr(torch, "rand", lambda *a, end=end, **k: torch_rand(*a, **k) * 0 + end)
            assert float(cells.sample()) == round(level)


def test_expanding_keeps_the_distribution() -> None:
    small = DiscretisedLogistic(torch.tensor([1.0, 200.0]), torch.tensor(3.0))
    large = small.expand((3, 2))
    assert large.batch_shape == (3, 2)
    assert torch.equal(large.log_prob(torch.tensor(7.0))[1], small.log_prob(torch.tensor(7.0)))


def test_values_outside_are_refused_when_arguments_are_validated() -> None:
    cells = DiscretisedLogistic(torch.tensor(1.0), torch.tensor(1.0), 8, validate_args=True)
    for value in (-1.0, 0.5, 8.0):
        with pytest.raises(ValueError, match="within the support"):
            cells.log_prob(torch.tensor(value))
    with pytest.raises(ValueError, match="scale"):
        DiscretisedLogistic(torch.tensor(1.0), torch.tensor(-1.0), 8, validate_args=True)
