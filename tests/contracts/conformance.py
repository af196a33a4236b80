"""What the conformance suites share: stand-in networks, devices, and gates with derived tolerances."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import sqrt

import torch
from safetensors.torch import load, save
from torch import Tensor, nn

DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
STANDARD_ERRORS = 4.0


class Passing(nn.Module):
    """A network whose context is its output, so that a test sets the parameters of a family directly."""

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], *self.shape)


class Linear(nn.Module):
    """A small network with weights, for what needs weights."""

    def __init__(self, in_dim: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.layer = nn.Linear(in_dim, int(torch.Size(shape).numel()))
        self.shape = shape

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x).reshape(*x.shape[:-1], *self.shape)


@contextmanager
def double() -> Iterator[None]:
    """Modules built within the block have weights in double precision."""
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def randomise(module: nn.Module, seed: int) -> None:
    """Moves every parameter away from where it starts."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(0.5 * torch.randn(parameter.shape, generator=generator))


def round_trip(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state as it comes back from a file."""
    return load(save({name: value.contiguous() for name, value in state.items()}))


def assert_moments(draws: Tensor, mean: Tensor, variance: Tensor) -> None:
    """Means and variances over the first dimension agree with the exact ones within their standard errors.

    The variance of the sample variance is (m4 - s^4) / n. A cell that hardly varies gets the tolerance of rounding.
    """
    draws, mean, variance = draws.double(), mean.double(), variance.double()
    n = len(draws)
    tiny = 1e-6 * (1 + mean.abs())
    error = (variance / n).sqrt()
    assert ((draws.mean(0) - mean).abs() <= STANDARD_ERRORS * error + tiny).all(), (
        draws.mean(0),
        mean,
        error,
    )
    centred = (draws - mean).square()
    spread = (centred.var(0) / n).sqrt()
    assert ((centred.mean(0) - variance).abs() <= STANDARD_ERRORS * spread + tiny).all(), (
        centred.mean(0),
        variance,
        spread,
    )


def assert_unbiased(estimates: Tensor, exact: Tensor) -> None:
    """The mean of independent estimates (first dimension) agrees with the exact value."""
    error = estimates.std(0) / sqrt(len(estimates))
    assert ((estimates.mean(0) - exact).abs() <= STANDARD_ERRORS * error + 1e-9).all(), (
        estimates.mean(0),
        exact,
        error,
    )


def assert_close(got: Tensor, wanted: list[float], tolerance: float, size: list[float] | None = None) -> None:
    """Relative to the wanted value or to the size of what it is made of, whichever is larger, and at least one."""
    reference = torch.tensor(wanted, dtype=torch.float64)
    scale = torch.maximum(reference.abs(), torch.tensor(size or [1.0], dtype=torch.float64)).clamp(min=1.0)
    error = (got.detach().cpu().double() - reference).abs() / scale
    worst = int(error.argmax())
    assert torch.isfinite(error).all(), (got, wanted)
    assert float(error.max()) <= tolerance, (worst, got.flatten()[worst], wanted[worst])


def assert_gradients(function: Callable[..., Tensor], *inputs: Tensor) -> None:
    """Gradients in double precision agree with finite differences.

    Central differences of step h = 1e-5 are off by h^2 times a third derivative, about 1e-9, and by eps/h, 2e-11,
    both relative to values of up to a thousand here.
    """
    inputs = tuple(value.detach().double().requires_grad_() for value in inputs)
    assert torch.autograd.gradcheck(function, inputs, eps=1e-5, atol=1e-6, rtol=1e-5)
