"""Steps with a non-finite gradient are left out, long ones shortened."""

from dataclasses import dataclass, field
from typing import Any, NoReturn, cast

import torch
from torch import Tensor, nn

from jensen.errors import FitError

PERSISTENT = 100
"""Non-finite steps in a row after which a fit gives up, and steps from one look at them to the next."""


@dataclass
class Guard:
    """Skips steps with a non-finite gradient and clips long ones, inside the optimiser's own kernel.

    Fused Adam divides the gradient by ``grad_scale`` and does nothing where ``found_inf`` is one; setting both
    costs no pass over the weights and no wait for the device.
    """

    optimiser: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    clip_norm: float | None
    active: bool
    patience: int = PERSISTENT
    sets: bool = False
    skipped: Tensor = field(init=False)
    in_a_row: Tensor = field(init=False)

    def __post_init__(self) -> None:
        device = self.parameters[0].device
        self.skipped = torch.zeros((), device=device)
        self.in_a_row = torch.zeros((), device=device)

    @torch.no_grad()
    def prepare(self) -> None:
        """Looks at the gradients before a step."""
        if not self.active and self.clip_norm is None:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        # For one tensor, as of a small model all of whose weights lie in one, this takes a fraction of the time.
        single = len(gradients) == 1
        norm = torch.linalg.vector_norm(gradients[0]) if single else torch.nn.utils.get_total_norm(gradients)
        optimiser = cast(Any, self.optimiser)
        if self.clip_norm is not None and self.sets:
            self._clip_sets(gradients, self.clip_norm)
        elif self.clip_norm is not None:
            optimiser.grad_scale = (norm / self.clip_norm).clamp(min=1.0).float()
        if self.active:
            found_inf = (~norm.isfinite()).float()
            optimiser.found_inf = found_inf
            self.skipped += found_inf
            self.in_a_row.add_(1).mul_(found_inf)

    @staticmethod
    def _clip_sets(gradients: list[Tensor], clip_norm: float) -> None:
        """Shortens the gradient of each set, (S, *shape), by itself; the kernel has one scale for all only."""
        squares = torch.stack(
            [gradient.reshape(len(gradient), -1).square().sum(1) for gradient in gradients]
        ).sum(0)
        scale = (clip_norm / squares.sqrt()).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.view(-1, *[1] * (gradient.ndim - 1)))

    def check(self) -> None:
        """Gives up if nothing but non-finite steps come; waits for the device.

        Raises:
            FitError: In that case.
        """
        if self.active and float(self.in_a_row) >= self.patience:
            self.give_up()

    def give_up(self) -> NoReturn:
        """Says why training can't go on.

        Raises:
            FitError: Always.
        """
        steps = int(self.in_a_row)
        raise FitError(
            f"the gradient was not finite for {steps} step{'s' if steps != 1 else ''} in a row, so training can't go "
            "on; lower learning_rate, rescale the data, or look for values that the likelihood gives no "
            "probability. The best weights so far are kept"
        )
