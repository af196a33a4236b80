"""Operations of a recording: what was done to which tensors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch


class Slot:
    """Where in a recording a tensor stands."""

    def __init__(self, number: int) -> None:
        self.number = number


@dataclass(frozen=True)
class Operation:
    """One of torch's operations.

    Attributes:
        func: What was called.
        args: With slots in the place of tensors.
        kwargs: The same.
        numbers: Of the tensors that it gave; None for what isn't one.
    """

    func: Any
    args: Any
    kwargs: Any
    numbers: Sequence[int | None]

    @cached_property
    def slots(self) -> list[Slot]:
        """The tensors that it took."""
        return [value for value in leaves((self.args, self.kwargs)) if isinstance(value, Slot)]

    @property
    def writes(self) -> bool:
        """Whether it writes into a tensor that it took."""
        return bool(self.func._schema.is_mutable)

    @cached_property
    def pointwise(self) -> bool:
        """Whether it makes each number of a new tensor from those at the same place."""
        tags = self.func.tags
        return (
            torch.Tag.pointwise in tags and torch.Tag.nondeterministic_seeded not in tags and not self.writes
        )


def each(function: Callable[[Any], Any], value: Any) -> Any:
    """A function of whatever lists, tuples and dictionaries hold, in their place; torch's own takes far longer.

    Args:
        function: Of one of them.
        value: That may hold others.

    Example:
        >>> each(lambda x: 2 * x, ([1, 2], {"a": 3}))
        ([2, 4], {'a': 6})
    """
    if isinstance(value, list | tuple):
        return type(value)([each(function, part) for part in value])
    if isinstance(value, dict):
        return {key: each(function, part) for key, part in value.items()}
    return function(value)


def leaves(value: Any) -> list[Any]:
    """What lists, tuples and dictionaries hold.

    Args:
        value: That may hold others.

    Example:
        >>> leaves(([1, 2], {"a": 3}))
        [1, 2, 3]
    """
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return [leaf for part in value for leaf in leaves(part)]
    return [value]


def needed(operations: list[Operation], results: Sequence[int]) -> list[Operation]:
    """The operations that results depend on, and those that write into tensors.

    Args:
        operations: All of them, in order.
        results: Numbers of tensors.
    """
    wanted, kept = set(results), []
    for operation in reversed(operations):
        if operation.writes or any(number in wanted for number in operation.numbers):
            kept.append(operation)
            wanted.update(slot.number for slot in operation.slots)
    return kept[::-1]
