import pytest
import torch
from torch.distributions import Bernoulli as Reference
from torch.distributions import kl_divergence

from jensen.distributions import Bernoulli

LOGITS = torch.tensor([-800.0, -30.0, -1.5, 0.0, 0.25, 30.0, 800.0], dtype=torch.float64)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.0, 1.0])
def test_the_density_holds_in_both_tails(dtype: torch.dtype, value: float) -> None:
    got = Bernoulli(logits=LOGITS.to(dtype)).log_prob(torch.full((3, 1), value, dtype=dtype))
    exact = -torch.logaddexp(torch.zeros_like(LOGITS), (1 - 2 * value) * LOGITS).to(dtype)
    # Three roundings; the smallest numbers are subnormal in single precision, where one rounding is absolute.
    tiny = torch.finfo(dtype).smallest_normal
    torch.testing.assert_close(got, exact.expand(3, -1), rtol=4 * torch.finfo(dtype).eps, atol=tiny)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_its_gradient_is_torchs(value: float) -> None:
    mine, theirs = (LOGITS.clone().requires_grad_() for _ in range(2))
    x = torch.full_like(LOGITS, value)
    (gradient,) = torch.autograd.grad(Bernoulli(logits=mine).log_prob(x).sum(), mine)
    (reference,) = torch.autograd.grad(Reference(logits=theirs).log_prob(x).sum(), theirs)
    torch.testing.assert_close(gradient, reference, rtol=1e-12, atol=1e-15)


def test_its_masses_sum_to_one() -> None:
    distribution = Bernoulli(logits=LOGITS)
    masses = distribution.log_prob(distribution.enumerate_support()).exp().sum(0)
    torch.testing.assert_close(masses, torch.ones_like(LOGITS))


def test_all_else_is_torchs() -> None:
    distribution = Bernoulli(logits=LOGITS).expand((2, 7))
    assert isinstance(distribution, Bernoulli)
    assert distribution.sample().shape == (2, 7)
    assert kl_divergence(distribution, Reference(logits=LOGITS.expand(2, 7))).abs().max() == 0
    with pytest.raises(ValueError, match="support"):
        Bernoulli(logits=LOGITS, validate_args=True).log_prob(torch.full((7,), 0.5))
