"""An exponential moving average of weights."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

# One kernel for all weights; torch has no public name for it.
foreach_lerp_: Any = torch._foreach_lerp_  # pyright: ignore[reportPrivateImportUsage]


class WeightAverage:
    """The exponential moving average of a module's parameters; it looks back over about 1 / (1 - decay) steps.

    Early on it looks back over a tenth of the steps so far, so that the start is forgotten. A pass over all
    weights at each step would cost as much as the optimiser's, so after the first hundred steps it takes in the
    weights only every so many, a hundredth of what it looks back over or ten, with the decay of as many steps.

    Args:
        module: Whose parameters are averaged.
        decay: How much of the average stays at each step.
    """

    def __init__(self, module: nn.Module, decay: float) -> None:
        self.decay = decay
        self.every = min(10, max(1, int(0.01 / (1 - decay) + 1e-9)))
        self.parameters: list[Tensor] = [p for p in module.parameters() if p.requires_grad]
        self.averages = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves the average towards the parameters as they are after a step."""
        every = 1 if step <= 100 else self.every
        if step % every != 0:
            return
        decay = min(self.decay, (1 + step) / (10 + step)) ** every
        foreach_lerp_(self.averages, self.parameters, 1 - decay)

    @torch.no_grad()
    def restart(self) -> None:
        """Has the average be what the parameters are now."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            average.copy_(parameter)

    @contextmanager
    def applied(self) -> Generator[None]:
        """Within the block the module has the average weights."""
        self.swap()
        try:
            yield
        finally:
            self.swap()

    @torch.no_grad()
    def swap(self) -> None:
        """Exchanges the module's weights and their averages."""
        for parameter, average in zip(self.parameters, self.averages, strict=True):
            parameter.data, average.data = average.data, parameter.data
