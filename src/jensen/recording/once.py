"""Work on numbers that repeat, done once."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from jensen.recording.operations import Operation, Slot, each

WORTH = 4000
"""Numbers that are worth a few operations more to save work on them."""

_SUMS = {torch.ops.aten.sum.default, torch.ops.aten.sum.dim_IntList}


def once(
    operations: Sequence[Operation], tensors: Sequence[Tensor], results: Sequence[int]
) -> list[Operation]:
    """Operations in which numbers that repeat along a dimension are worked on once, and repeated after it.

    Distributions spread their parameters over all the data first, and take logarithms and squares of them there.

    Args:
        operations: As recorded.
        tensors: All that they took and gave, by number.
        results: Numbers of those that have to lie in memory as they did.

    Returns:
        Operations that give the same tensors; further numbers are those of further tensors.
    """
    if max((tensor.numel() for tensor in tensors), default=0) < WORTH:
        return [*operations]
    rewriting = _Once(tensors)
    # What reads a tensor that repeats itself in memory has to get along with that.
    easy = [True] * len(tensors)
    for number in results:
        easy[number] = False
    for operation in operations:
        for slot in operation.slots:
            easy[slot.number] &= operation.pointwise or operation.func in _SUMS
    for operation in operations:
        number = operation.numbers[0] if operation.pointwise and len(operation.numbers) == 1 else None
        if number is None or not easy[number] or not rewriting.shrink(operation, number):
            rewriting.operations.append(operation)
    return rewriting.operations


class _Once:
    """Operations as they are rewritten, and what is known of their tensors."""

    def __init__(self, tensors: Sequence[Tensor]) -> None:
        self.tensors = tensors
        self.count = len(tensors)
        self.operations: list[Operation] = []
        # Dimensions are counted from the last one, -1, as broadcasting counts them.
        self.repeating: dict[int, tuple[int, ...]] = {}
        self.firsts: dict[tuple[int, tuple[int, ...]], int] = {}

    def shrink(self, operation: Operation, number: int) -> bool:
        """Adds an operation done to the first numbers along dimensions, and its result repeated along them.

        Args:
            operation: A pointwise one.
            number: Of its result.

        Returns:
            Whether it is worth that; if not, nothing was added.
        """
        result, slots = self.tensors[number], operation.slots
        if result.numel() < WORTH or not slots:
            return False
        long = (dim for dim in range(-result.ndim, 0) if result.shape[dim] > 1)
        dims = tuple(dim for dim in long if all(self._same(slot.number, dim) for slot in slots))
        if not dims:
            return False

        def first(value: Any) -> Any:
            return Slot(self._first(value.number, dims)) if isinstance(value, Slot) else value

        small = self._add(operation.func, each(first, operation.args), each(first, operation.kwargs))
        repeated = Operation(torch.ops.aten.expand.default, (Slot(small), [*result.shape]), {}, [number])
        self.operations.append(repeated)
        self.repeating[number], self.firsts[number, dims] = dims, small
        return True

    def _same(self, number: int, dim: int) -> bool:
        """Whether a tensor's numbers are all the same along a dimension, or it has none there."""
        tensor = self.tensors[number]
        if -dim > tensor.ndim or tensor.shape[dim] == 1 or tensor.stride(dim) == 0:
            return True
        return dim in self.repeating.get(number, ())

    def _first(self, number: int, dims: tuple[int, ...]) -> int:
        """A tensor's first numbers along those of the dimensions that it has."""
        tensor = self.tensors[number]
        dims = tuple(dim for dim in dims if -dim <= tensor.ndim and tensor.shape[dim] > 1)
        if (number, dims) not in self.firsts:
            found = number
            for dim in dims:
                found = self._add(torch.ops.aten.slice.Tensor, (Slot(found), dim, 0, 1), {})
            self.firsts[number, dims] = found
        return self.firsts[number, dims]

    def _add(self, func: Any, args: Any, kwargs: Any) -> int:
        """An operation that gives a new tensor, by its number."""
        self.count += 1
        self.operations.append(Operation(func, args, kwargs, [self.count - 1]))
        return self.count - 1
