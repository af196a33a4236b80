"""A coin of unknown bias: Bernoulli observations, a beta prior."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Bernoulli, Beta

from jensen.distributions import BetaBinomial
from jensen.models.conjugate.checks import Numbers, number, observations, throws, together


@dataclass(frozen=True)
class Coin:
    r"""Heads (1) with an unknown probability :math:`\theta \sim \mathrm{Beta}(a, b)`.

    The posterior after k heads in n throws is Beta(a + k, b + n - k), and the marginal likelihood of these throws, in
    their order, :math:`B(a + k, b + n - k) / B(a, b)`. A model never changes; ``update`` gives another.

    Attributes:
        heads: a > 0, as if so many heads had been seen; any batch shape, float64.
        tails: b > 0; the shapes broadcast.

    Raises:
        ConfigError: If one isn't above 0.
        ShapeError: If the shapes don't broadcast.
        DataError: If something isn't a number.

    Example:
        >>> coin = Coin().update([1, 1, 1, 0])
        >>> float(coin.predictive.probs)  # (3 + 1) / (4 + 2), Laplace's rule of succession
        0.6666666666666666
    """

    heads: Float[Tensor, "*batch"]
    tails: Float[Tensor, "*batch"]

    def __init__(self, heads: Numbers = 1.0, tails: Numbers = 1.0) -> None:
        a, b = together(heads=number(heads, "heads"), tails=number(tails, "tails"))
        object.__setattr__(self, "heads", a)
        object.__setattr__(self, "tails", b)

    @property
    def parameter(self) -> Beta:
        """What is believed of the probability of heads."""
        return Beta(self.heads, self.tails)

    @property
    def predictive(self) -> Bernoulli:
        """The next throw."""
        return Bernoulli(probs=self.heads / (self.heads + self.tails))

    def predictive_count(self, n: int) -> BetaBinomial:
        """The number of heads in the next n throws.

        Raises:
            ConfigError: If n isn't 0, 1, 2, ...
        """
        return BetaBinomial(throws(n), self.heads, self.tails)

    def update(self, x: Numbers) -> "Coin":
        """The model after some throws.

        Args:
            x: Zeros and ones, (n, *batch).

        Returns:
            The posterior, which is the next prior.

        Raises:
            ShapeError: If the axes are others.
            SupportError: If a throw is neither 0 nor 1.
            DataError: If one isn't finite.
        """
        x = observations(x, self.heads.shape, "binary")
        return Coin(self.heads + x.sum(0), self.tails + (1 - x).sum(0))

    def log_evidence(self, x: Numbers) -> Float[Tensor, "*batch"]:
        """The logarithm of the marginal likelihood of throws in their order.

        Args:
            x: Zeros and ones, (n, *batch).

        Returns:
            Nats, (*batch).

        Raises:
            ShapeError: If the axes are others.
            SupportError: If a throw is neither 0 nor 1.
            DataError: If one isn't finite.
        """
        after = self.update(x)
        return _log_beta(after.heads, after.tails) - _log_beta(self.heads, self.tails)


def _log_beta(a: Tensor, b: Tensor) -> Tensor:
    return torch.lgamma(a) + torch.lgamma(b) - torch.lgamma(a + b)
