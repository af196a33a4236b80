"""A logistic distribution whose mass is gathered on the integers 0, ..., levels - 1."""

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints
from torch.nn.functional import logsigmoid


class DiscretisedLogistic(Distribution):
    r"""A logistic variable rounded to the nearest of the integers 0, ..., levels - 1.

    .. math::
        P(k) = \sigma\left(\tfrac{k + 1/2 - \mu}{s}\right) - \sigma\left(\tfrac{k - 1/2 - \mu}{s}\right)

    with the left edge at minus infinity for k = 0 and the right edge at infinity for k = levels - 1, so that
    the masses sum to one.

    Args:
        loc: Location mu, in the units of the integers.
        scale: Scale s > 0, likewise; shapes broadcast.
        levels: Number of integers.

    Source: Improving variational inference with inverse autoregressive flow, 2016,
    https://arxiv.org/abs/1606.04934, appendix.

    Example:
        >>> masses = DiscretisedLogistic(torch.tensor(3.0), torch.tensor(2.0), 8).log_prob(torch.arange(8.0)).exp()
        >>> round(float(masses.sum()), 6)
        1.0
    """

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What the parameters have to be."""
        return {"loc": constraints.real, "scale": constraints.positive}

    def __init__(
        self, loc: Tensor, scale: Tensor, levels: int = 256, validate_args: bool | None = None
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.levels = levels
        super().__init__(self.loc.shape, validate_args=validate_args)

    @property
    def support(self) -> Any:
        """The integers 0, ..., levels - 1."""
        return constraints.integer_interval(0, self.levels - 1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DiscretisedLogistic":
        """The same distribution with its parameters expanded to a batch shape."""
        return DiscretisedLogistic(
            self.loc.expand(batch_shape), self.scale.expand(batch_shape), self.levels, validate_args=False
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass in nats of integers, of the broadcast shape of value and parameters.

        With a and b the edges in units of the scale, sigma(b) - sigma(a) = sigma(b) sigma(-a) (1 - e^(a-b)),
        whose logarithm has no cancellation in either tail.
        """
        if self._validate_args:
            self._validate_sample(value)
        width = 1 / self.scale
        upper = (value + 0.5 - self.loc) * width
        lower = upper - width
        below = logsigmoid(upper)
        above = logsigmoid(-lower)
        both = below + above + torch.log(-torch.expm1(-width))
        return torch.where(value < 0.5, below, torch.where(value > self.levels - 1.5, above, both))

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Integers as floats, (*sample_shape, *batch_shape)."""
        with torch.no_grad():
            shape = Size(sample_shape) + self.batch_shape
            edge = torch.finfo(self.loc.dtype).eps
            uniform = torch.rand(shape, dtype=self.loc.dtype, device=self.loc.device).clamp(edge, 1 - edge)
            continuous = self.loc + self.scale * (uniform.log() - torch.log1p(-uniform))
            return continuous.round().clamp(0, self.levels - 1)

    @property
    def _masses(self) -> tuple[Tensor, Tensor]:
        integers = torch.arange(self.levels, dtype=self.loc.dtype, device=self.loc.device)
        integers = integers.reshape(-1, *[1] * self.loc.ndim)
        return integers, self.log_prob(integers).exp()

    @property
    def mean(self) -> Tensor:
        """Expected integer, (*batch_shape)."""
        integers, masses = self._masses
        return (integers * masses).sum(0)

    @property
    def variance(self) -> Tensor:
        """Variance of the integer, (*batch_shape)."""
        integers, masses = self._masses
        return ((integers - self.mean).square() * masses).sum(0)
