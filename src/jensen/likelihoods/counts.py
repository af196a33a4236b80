"""Likelihoods of counts 0, 1, 2, ..."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Poisson as PoissonDistribution

from jensen.distributions import NegativeBinomial as NegativeBinomialDistribution
from jensen.likelihoods.likelihood import Likelihood, is_integer


class Poisson(Likelihood):
    """p(x_d | z) = Poisson(x_d; exp(log_rate_d(z))).

    Args:
        network: From the latents to (*batch, 1, *event_shape) log-rates.
        event_shape: Shape of one datum.
    """

    support: ClassVar[str] = "integers of at least 0"

    @staticmethod
    def output_count() -> int:
        """How many numbers a cell the network has to return."""
        return 1

    def cells(self, outputs: Tensor) -> PoissonDistribution:
        """One Poisson a cell."""
        return PoissonDistribution(self._only(outputs).exp(), validate_args=False)

    def supports(self, x: Tensor) -> Tensor:
        """True where a cell is a count."""
        return is_integer(x)


class NegativeBinomial(Likelihood):
    """Counts with mean m_d(z) and variance m_d + m_d^2 / r_d, the dispersion r_d learned for each cell.

    Args:
        network: From the latents to (*batch, 1, *event_shape) logarithms of the mean.
        event_shape: Shape of one datum.
    """

    support: ClassVar[str] = "integers of at least 0"

    @staticmethod
    def output_count() -> int:
        """How many numbers a cell the network has to return."""
        return 1

    def __init__(self, network: nn.Module, event_shape: tuple[int, ...]) -> None:
        super().__init__(network, event_shape)
        self.log_dispersion = nn.Parameter(torch.zeros(self.event_shape))

    def cells(self, outputs: Tensor) -> NegativeBinomialDistribution:
        """One negative binomial a cell."""
        return NegativeBinomialDistribution(self._only(outputs), self.log_dispersion, validate_args=False)

    def supports(self, x: Tensor) -> Tensor:
        """True where a cell is a count."""
        return is_integer(x)
