"""Likelihoods of counts 0, 1, 2, ..."""

from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Poisson as PoissonDistribution

from jensen.distributions import NegativeBinomial as NegativeBinomialDistribution
from jensen.likelihoods.likelihood import Likelihood, is_integer


class Counts(Likelihood):
    """What likelihoods of counts share: a mean m_d(z) = level_d * exp(output_d(z))."""

    support: ClassVar[str] = "integers of at least 0"
    log_level: Tensor

    def __init__(self, network: nn.Module, event_shape: tuple[int, ...], level: Tensor | None = None) -> None:
        super().__init__(network, event_shape)
        self.register_buffer("log_level", torch.zeros(()) if level is None else level.log())

    @staticmethod
    def output_count() -> int:
        """How many numbers a cell the network has to return."""
        return 1

    def supports(self, x: Tensor) -> Tensor:
        """True where a cell is a count."""
        return is_integer(x)

    def _log_mean(self, outputs: Tensor) -> Tensor:
        return self._only(outputs) + self.log_level


class Poisson(Counts):
    """p(x_d | z) = Poisson(x_d; m_d(z)), m_d(z) = level_d * exp(output_d(z)).

    Args:
        network: From the latents to (*batch, 1, *event_shape) logarithms of the mean, in units of the level.
        event_shape: Shape of one datum.
        level: Mean of a cell where the network returns 0, above 0, broadcastable to the event; usually the data's
            mean, so that training begins there whatever the counts are. By default 1.
    """

    def cells(self, outputs: Tensor) -> PoissonDistribution:
        """One Poisson a cell."""
        return PoissonDistribution(self._log_mean(outputs).exp(), validate_args=False)


class NegativeBinomial(Counts):
    """Counts with mean m_d(z) and variance m_d + m_d^2 / r_d, the dispersion r_d learned for each cell.

    The mean is m_d(z) = level_d * exp(output_d(z)).

    Args:
        network: From the latents to (*batch, 1, *event_shape) logarithms of the mean, in units of the level.
        event_shape: Shape of one datum.
        level: Mean of a cell where the network returns 0, above 0, broadcastable to the event; usually the data's
            mean, so that training begins there whatever the counts are. By default 1.
    """

    def __init__(self, network: nn.Module, event_shape: tuple[int, ...], level: Tensor | None = None) -> None:
        super().__init__(network, event_shape, level)
        self.log_dispersion = nn.Parameter(torch.zeros(self.event_shape))

    def cells(self, outputs: Tensor) -> NegativeBinomialDistribution:
        """One negative binomial a cell."""
        return NegativeBinomialDistribution(self._log_mean(outputs), self.log_dispersion, validate_args=False)
