"""An unknown mean and an unknown variance: normal observations, a normal-gamma prior."""

from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import StudentT

from jensen.distributions import NormalGamma
from jensen.models.conjugate.checks import Numbers, number, observations, summed, together


@dataclass(frozen=True)
class NormalMeanPrecision:
    r"""Observations :math:`x \sim N(\mu, 1/\lambda)` with an unknown mean and an unknown precision.

    .. math::
        (\mu, \lambda) \sim \mathrm{NormalGamma}(m, \kappa, \alpha, \beta)

    .. math::
        \kappa' = \kappa + n, \quad m' = \frac{\kappa m + n \bar x}{\kappa'}, \quad \alpha' = \alpha + \frac n2, \quad
        \beta' = \beta + \frac12 \sum (x - \bar x)^2 + \frac{\kappa n (\bar x - m)^2}{2 \kappa'}

    The variance :math:`1/\lambda` is inverse-gamma with the same alpha and beta. The next observation is Student's t.

    Attributes:
        mean: m, any batch shape, float64.
        strength: kappa > 0, as if the mean had been seen so often.
        shape: alpha > 0, half as many observations of the spread.
        rate: beta > 0, half their sum of squares; the shapes broadcast.

    Raises:
        ConfigError: If a number isn't finite, or not above 0 where it has to be.
        ShapeError: If the shapes don't broadcast.
        DataError: If something isn't a number.

    Example:
        >>> model = NormalMeanPrecision(0.0, strength=1.0, shape=1.0, rate=1.0).update([2.0, 4.0])
        >>> float(model.mean), float(model.shape), float(model.rate)
        (2.0, 2.0, 5.0)
    """

    mean: Float[Tensor, "*batch"]
    strength: Float[Tensor, "*batch"]
    shape: Float[Tensor, "*batch"]
    rate: Float[Tensor, "*batch"]

    def __init__(self, mean: Numbers, strength: Numbers, shape: Numbers, rate: Numbers) -> None:
        found = together(
            mean=number(mean, "mean", positive=False),
            strength=number(strength, "strength"),
            shape=number(shape, "shape"),
            rate=number(rate, "rate"),
        )
        for name, value in zip(("mean", "strength", "shape", "rate"), found, strict=True):
            object.__setattr__(self, name, value)

    @property
    def parameter(self) -> NormalGamma:
        """What is believed of mean and precision together; its ``location`` and ``precision`` are those alone."""
        return NormalGamma(self.mean, self.strength, self.shape, self.rate)

    @property
    def predictive(self) -> StudentT:
        """The next observation."""
        scale = (self.rate * (self.strength + 1) / (self.shape * self.strength)).sqrt()
        return StudentT(2 * self.shape, self.mean, scale)

    def update(self, x: Numbers) -> "NormalMeanPrecision":
        """The model after some observations.

        Args:
            x: Numbers, (n, *batch).

        Returns:
            The posterior, which is the next prior.

        Raises:
            ShapeError: If the axes are others.
            DataError: If a number isn't finite.
        """
        n, average, squares = summed(observations(x, self.mean.shape, "real"))
        share = n / (self.strength + n)
        return NormalMeanPrecision(
            self.mean + share * (average - self.mean),
            self.strength + n,
            self.shape + 0.5 * n,
            self.rate + 0.5 * (squares + self.strength * share * (average - self.mean).square()),
        )

    def log_evidence(self, x: Numbers) -> Float[Tensor, "*batch"]:
        """The logarithm of the marginal likelihood of observations, which share mean and precision.

        Args:
            x: Numbers, (n, *batch).

        Returns:
            Nats, (*batch).

        Raises:
            ShapeError: If the axes are others.
            DataError: If a number isn't finite.
        """
        after = self.update(x)
        n = after.strength - self.strength
        gammas = torch.lgamma(after.shape) - torch.lgamma(self.shape)
        rates = self.shape * self.rate.log() - after.shape * after.rate.log()
        return gammas + rates + 0.5 * (self.strength / after.strength).log() - 0.5 * n * log(2 * pi)
