"""An unknown mean where the variance is known: normal observations, a normal prior."""

from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Normal

from jensen.models.conjugate.checks import Numbers, number, observations, summed, together


@dataclass(frozen=True)
class NormalMean:
    r"""Observations :math:`x \sim N(\mu, \sigma^2)` with known sigma and :math:`\mu \sim N(m, s^2)`.

    The posterior's precision is :math:`1/s^2 + n/\sigma^2`, its mean the average of prior and data by precision.

    Attributes:
        mean: m, any batch shape, float64.
        scale: The standard deviation s > 0 of what is believed of the mean.
        noise_scale: The standard deviation sigma > 0 of observations; the shapes broadcast.

    Raises:
        ConfigError: If a number isn't finite, or a scale not above 0.
        ShapeError: If the shapes don't broadcast.
        DataError: If something isn't a number.

    Example:
        >>> model = NormalMean(0.0, scale=1.0, noise_scale=1.0).update([3.0])
        >>> float(model.mean), round(float(model.scale) ** 2, 12)
        (1.5, 0.5)
    """

    mean: Float[Tensor, "*batch"]
    scale: Float[Tensor, "*batch"]
    noise_scale: Float[Tensor, "*batch"]

    def __init__(self, mean: Numbers, scale: Numbers, noise_scale: Numbers) -> None:
        found = together(
            mean=number(mean, "mean", positive=False),
            scale=number(scale, "scale"),
            noise_scale=number(noise_scale, "noise_scale"),
        )
        for name, value in zip(("mean", "scale", "noise_scale"), found, strict=True):
            object.__setattr__(self, name, value)

    @property
    def parameter(self) -> Normal:
        """What is believed of the mean."""
        return Normal(self.mean, self.scale)

    @property
    def predictive(self) -> Normal:
        """The next observation."""
        return Normal(self.mean, torch.hypot(self.scale, self.noise_scale))

    def update(self, x: Numbers) -> "NormalMean":
        """The model after some observations.

        Args:
            x: Numbers, (n, *batch).

        Returns:
            The posterior, which is the next prior.

        Raises:
            ShapeError: If the axes are others.
            DataError: If a number isn't finite.
        """
        n, average, _ = summed(observations(x, self.mean.shape, "real"))
        ratio = n * (self.scale / self.noise_scale).square()
        mean = self.mean + ratio / (1 + ratio) * (average - self.mean)
        return NormalMean(mean, self.scale * (1 + ratio).rsqrt(), self.noise_scale)

    def log_evidence(self, x: Numbers) -> Float[Tensor, "*batch"]:
        """The logarithm of the marginal likelihood of observations, which share the unknown mean.

        Args:
            x: Numbers, (n, *batch).

        Returns:
            Nats, (*batch).

        Raises:
            ShapeError: If the axes are others.
            DataError: If a number isn't finite.
        """
        n, average, squares = summed(observations(x, self.mean.shape, "real"))
        variance = self.noise_scale.square()
        ratio = n * self.scale.square() / variance
        distance = squares + n * (average - self.mean).square() / (1 + ratio)
        return -0.5 * (n * (log(2 * pi) + variance.log()) + torch.log1p(ratio) + distance / variance)
