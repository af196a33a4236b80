"""Counts at an unknown rate: Poisson observations, a gamma prior."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Gamma

from jensen.distributions import NegativeBinomial
from jensen.models.conjugate.checks import Numbers, number, observations, together


@dataclass(frozen=True)
class PoissonRate:
    r"""Counts with an unknown mean :math:`\lambda \sim \mathrm{Gamma}(a, b)`.

    The posterior after n counts with the sum s is Gamma(a + s, b + n); the next count is negative binomial.

    Attributes:
        shape: a > 0, as if so many events had been seen; any batch shape, float64.
        rate: b > 0, in so many observations; the shapes broadcast.

    Raises:
        ConfigError: If one isn't above 0.
        ShapeError: If the shapes don't broadcast.
        DataError: If something isn't a number.

    Example:
        >>> float(PoissonRate(1.0, 1.0).update([3, 5, 4]).predictive.mean)  # (1 + 12) / (1 + 3)
        3.25
    """

    shape: Float[Tensor, "*batch"]
    rate: Float[Tensor, "*batch"]

    def __init__(self, shape: Numbers, rate: Numbers) -> None:
        a, b = together(shape=number(shape, "shape"), rate=number(rate, "rate"))
        object.__setattr__(self, "shape", a)
        object.__setattr__(self, "rate", b)

    @property
    def parameter(self) -> Gamma:
        """What is believed of the mean."""
        return Gamma(self.shape, self.rate)

    @property
    def predictive(self) -> NegativeBinomial:
        """The next count."""
        return NegativeBinomial(self.shape.log() - self.rate.log(), self.shape.log())

    def update(self, x: Numbers) -> "PoissonRate":
        """The model after some counts.

        Args:
            x: Counts, (n, *batch).

        Returns:
            The posterior, which is the next prior.

        Raises:
            ShapeError: If the axes are others.
            SupportError: If one isn't a count.
            DataError: If one isn't finite.
        """
        x = observations(x, self.shape.shape, "counts")
        return PoissonRate(self.shape + x.sum(0), self.rate + len(x))

    def log_evidence(self, x: Numbers) -> Float[Tensor, "*batch"]:
        """The logarithm of the marginal likelihood of counts in their order.

        Args:
            x: Counts, (n, *batch).

        Returns:
            Nats, (*batch).

        Raises:
            ShapeError: If the axes are others.
            SupportError: If one isn't a count.
            DataError: If one isn't finite.
        """
        x = observations(x, self.shape.shape, "counts")
        after = self.update(x)
        gammas = torch.lgamma(after.shape) - torch.lgamma(self.shape) - torch.lgamma(x + 1).sum(0)
        return gammas + self.shape * self.rate.log() - after.shape * after.rate.log()
