"""The likelihood of real cells."""

from math import inf
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.distributions import Normal as NormalDistribution

from jensen.errors import ConfigError
from jensen.likelihoods.likelihood import Likelihood

Scale = float | Literal["learned", "per-dimension", "network"]


class Normal(Likelihood):
    """p(x_d | z) = N(x_d; m_d(z), s_d^2), a density in the units of the data.

    The network works in standardised units: m = shift + unit * output, s = unit * standardised scale.

    Args:
        network: From the latents to (*batch, outputs, *event_shape): the location and, for
            ``scale="network"``, the log-scale, both in standardised units.
        event_shape: Shape of one datum.
        scale: A number: fixed, in standardised units. "learned": one for all cells. "per-dimension": one a cell.
            "network": one a cell and datum.
        shift: What is added to each cell, broadcastable to the event; usually the mean of the data.
        unit: What each cell is multiplied with, likewise; usually the standard deviation of the data.

    Raises:
        ConfigError: If the scale is none of these.
    """

    support: ClassVar[str] = "finite numbers"
    shift: Tensor
    unit: Tensor

    def __init__(
        self,
        network: nn.Module,
        event_shape: tuple[int, ...],
        scale: Scale = "learned",
        shift: Tensor | None = None,
        unit: Tensor | None = None,
    ) -> None:
        super().__init__(network, event_shape)
        self.register_buffer("shift", torch.zeros(()) if shift is None else shift)
        self.register_buffer("unit", torch.ones(()) if unit is None else unit)
        self.log_scale: Tensor | None
        if scale == "learned":
            self.log_scale = nn.Parameter(torch.zeros(()))
        elif scale == "per-dimension":
            self.log_scale = nn.Parameter(torch.zeros(self.event_shape))
        elif scale == "network":
            self.log_scale = None
        elif not isinstance(scale, str) and 0 < scale < inf:
            self.register_buffer("log_scale", torch.tensor(float(scale)).log())
        else:
            raise ConfigError(
                f"the scale of a normal likelihood is a number above 0, 'learned', 'per-dimension' or 'network'; "
                f"got {scale!r}"
            )

    @staticmethod
    def output_count(scale: Scale = "learned") -> int:
        """How many numbers a cell the network has to return."""
        return 2 if scale == "network" else 1

    def cells(self, outputs: Tensor) -> NormalDistribution:
        """One normal a cell."""
        if self.log_scale is None:
            loc, log_scale = self._each(outputs, 2)
        else:
            loc, log_scale = self._only(outputs), self.log_scale
        return NormalDistribution(
            self.shift + self.unit * loc, self.unit * log_scale.exp(), validate_args=False
        )

    def supports(self, x: Tensor) -> Tensor:
        """True where a cell is finite."""
        return x.isfinite()
