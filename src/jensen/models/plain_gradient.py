"""Coordinate gradient ascent by free parameters of q, as the lecture sketches it."""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

Bounds = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From statistics (R, K, F) to the bounds (R,) and the new expected statistics (R, K, F)."""

FASTER, SLOWER = 1.5, 0.5
"""What a step that raised the bound is lengthened by, and one that didn't is cut to."""


@runtime_checkable
class Free(Protocol):
    """A family whose q(theta) has free real parameters, in blocks that are moved in turn."""

    def free(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, ...]:
        """Blocks of parameters, each (R, K, ...)."""
        ...

    def from_free(self, blocks: tuple[Tensor, ...]) -> Float[Tensor, "*batch f"]:
        """The statistics with these parameters."""
        ...

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """As a family's."""
        ...

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """As a family's."""
        ...


class PlainGradient:
    r"""Moves one block after the other along the gradient of the bound, with q(z) at its optimum.

    .. math::
        \lambda \leftarrow \lambda + \alpha \, \partial L / \partial \lambda

    A step that would lower the bound isn't taken and the next one is half as long; one that was taken makes the next
    longer. So the bound never falls. Each of R starts has steps of its own.

    Args:
        components: The family.
        step: The first steps, by the gradient of the mean bound a datum.
        count: Number of data.

    Attributes:
        rejected: Whether some step of the last pass wasn't taken.
    """

    def __init__(self, components: Free, step: float, count: int) -> None:
        self.components = components
        self.step = step
        self.count = count
        self.steps: dict[int, Tensor] = {}
        self.rejected = False

    def __call__(
        self,
        evaluate: Bounds,
        statistics: Float[Tensor, "r k f"],
        bounds: Float[Tensor, " r"],
        expected: Float[Tensor, "r k f"],
    ) -> Float[Tensor, "r k f"]:
        """One step of each block.

        Args:
            evaluate: A pass over the data.
            statistics: Of R starts.
            bounds: Theirs.
            expected: Their new expected statistics, which are the derivative of the data's part of the bound by the
                coefficients.

        Returns:
            The statistics after the steps.
        """
        blocks = self.components.free(statistics)
        self.rejected = False
        for place in range(len(blocks)):
            slope = self._slope(blocks, place, expected)
            length = self.steps.setdefault(place, torch.full_like(bounds, self.step))
            moved = blocks[place] + _wide(length, slope) * slope
            tried = (*blocks[:place], moved, *blocks[place + 1 :])
            new_bounds, new_expected = evaluate(self.components.from_free(tried))
            taken = new_bounds >= bounds
            self.rejected |= not bool(taken.all())
            self.steps[place] = length * torch.where(taken, FASTER, SLOWER)
            kept = torch.where(_wide(taken, moved), moved, blocks[place])
            blocks = (*blocks[:place], kept, *blocks[place + 1 :])
            bounds = torch.where(taken, new_bounds, bounds)
            expected = torch.where(_wide(taken, expected), new_expected, expected)
        return self.components.from_free(blocks)

    def _slope(self, blocks: tuple[Tensor, ...], place: int, expected: Tensor) -> Tensor:
        """Gradient of the mean bound by one block."""
        variable = blocks[place].detach().clone().requires_grad_()
        statistics = self.components.from_free((*blocks[:place], variable, *blocks[place + 1 :]))
        value = (self.components.coefficients(statistics) * expected).sum()
        value = value + self.components.negative_kl(statistics).sum()
        (slope,) = torch.autograd.grad(value, variable)
        return slope / self.count


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1,) * (like.dim() - 1))
