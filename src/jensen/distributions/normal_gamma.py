"""A mean and a precision that aren't known, together."""

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Gamma, Normal, StudentT, constraints


class NormalGamma(Distribution):
    r"""A precision from a gamma, and a mean that is normal given it; events are (mean, precision).

    .. math::
        \lambda \sim \mathrm{Gamma}(\alpha, \beta), \qquad \mu \mid \lambda \sim N(m, 1 / (\kappa \lambda))

    Args:
        loc: The mean m of the mean.
        strength: How many observations the belief in the mean is worth, kappa > 0.
        shape: alpha > 0.
        rate: beta > 0; shapes broadcast.

    Example:
        >>> one = torch.ones(())
        >>> NormalGamma(one, one, one, one).sample((5,)).shape
        torch.Size([5, 2])
    """

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What the parameters have to be."""
        positive = constraints.positive
        return {"loc": constraints.real, "strength": positive, "shape": positive, "rate": positive}

    @property
    def support(self) -> constraints.Constraint:
        """What a value has to be: a mean and a positive precision."""
        return constraints.cat([constraints.real, constraints.positive], dim=-1, lengths=[1, 1])

    def __init__(
        self, loc: Tensor, strength: Tensor, shape: Tensor, rate: Tensor, validate_args: bool | None = None
    ) -> None:
        self.loc, self.strength, self.shape, self.rate = torch.broadcast_tensors(loc, strength, shape, rate)
        super().__init__(self.loc.shape, Size((2,)), validate_args=False)
        if validate_args is not False:
            for name, constraint in self.arg_constraints.items():
                if not bool(constraint.check(getattr(self, name)).all()):
                    raise ValueError(f"{name} is {getattr(self, name)}; it has to be {constraint}")

    def expand(self, batch_shape: Any, _instance: Any = None) -> "NormalGamma":
        """The same distribution with its parameters expanded to a batch shape."""
        parts = (self.loc, self.strength, self.shape, self.rate)
        return NormalGamma(*(part.expand(batch_shape) for part in parts), validate_args=False)

    @property
    def precision(self) -> Gamma:
        """The precision alone."""
        return Gamma(self.shape, self.rate, validate_args=False)

    @property
    def location(self) -> StudentT:
        """The mean alone: Student's t."""
        scale = (self.rate / (self.shape * self.strength)).sqrt()
        return StudentT(2 * self.shape, self.loc, scale, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of (mean, precision), (*sample_shape, *batch_shape, 2)."""
        mean, precision = value.unbind(-1)
        given = Normal(self.loc, (self.strength * precision).rsqrt(), validate_args=False)
        return self.precision.log_prob(precision) + given.log_prob(mean)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Means and precisions, (*sample_shape, *batch_shape, 2)."""
        with torch.no_grad():
            precision = self.precision.sample(Size(sample_shape))
            mean = self.loc + torch.randn_like(precision) * (self.strength * precision).rsqrt()
            return torch.stack([mean, precision], -1)

    @property
    def mean(self) -> Tensor:
        """Means of both, (*batch_shape, 2)."""
        return torch.stack([self.loc, self.shape / self.rate], -1)

    @property
    def variance(self) -> Tensor:
        """Variances of both, (*batch_shape, 2); that of the mean is infinite for shape <= 1."""
        variance = self.rate / (self.strength * (self.shape - 1))
        variance = torch.where(self.shape > 1, variance, torch.inf)
        return torch.stack([variance, self.shape / self.rate.square()], -1)
