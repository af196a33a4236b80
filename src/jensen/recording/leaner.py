"""The same results by less work: on numbers that repeat once, and on sums in place of their terms."""

from collections import Counter
from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from jensen.recording.operations import Operation, Slot, each

WORTH = 4000
"""Numbers that are worth a few operations more to save work on them."""

SHORT = 8
"""Numbers of a last dimension that are so few that another had better be last."""

Dims = tuple[int, ...]
"""Dimensions, counted from the last one, -1, as broadcasting counts them."""

_ATEN = torch.ops.aten
_SUMS = {_ATEN.sum.default, _ATEN.sum.dim_IntList}
_FACTORS = {_ATEN.mul.Tensor, _ATEN.div.Tensor}
_TERMS = {_ATEN.add.Tensor, _ATEN.sub.Tensor}
_BY_PLACE = {_ATEN.as_strided.default, _ATEN.as_strided_scatter.default, _ATEN._reshape_alias.default}
"""Operations that say where in memory the numbers are which they take."""

_LEFT_ALONE = {torch.Tag.dynamic_output_shape, torch.Tag.inplace_view}
"""Tags of operations that give tensors of other shapes in another run, or other shapes to tensors."""

_VIEWS = {_ATEN.view.default, _ATEN._unsafe_view.default}


def leaner(
    operations: Sequence[Operation], tensors: Sequence[Tensor], results: Sequence[int]
) -> list[Operation]:
    r"""Operations that give the same results, up to rounding, by less work.

    Distributions spread their parameters over all the data, and take logarithms and squares of them there: what is
    done to numbers that repeat along a dimension is done to one of them. What then is the same for all terms of a sum
    is taken out of it:

    .. math:: \sum_i [-d_i^2 / v - c] = -\Bigl(\sum_i d_i^2\Bigr) / v - n c

    And dimensions of a few numbers, such as a mixture's components, don't lie innermost in memory.

    Args:
        operations: As recorded.
        tensors: All that they took and gave, by number.
        results: Numbers of those that are wanted.

    Returns:
        Operations; further numbers are those of further tensors, and some are of no use any more. Tensors may lie in
        memory in another order than before, or repeat themselves there.
    """
    small = max((tensor.numel() for tensor in tensors), default=0) < WORTH
    if small or any(o.func in _BY_PLACE or not _LEFT_ALONE.isdisjoint(o.func.tags) for o in operations):
        return [*operations]
    rewriting = _Leaner(operations, tensors, results)
    for operation in operations:
        number = operation.numbers[0] if len(operation.numbers) == 1 else None
        done = number is not None and (
            rewriting.shrink(operation, number)
            or rewriting.take_out(operation, number)
            or rewriting.turn(operation, number)
            or rewriting.reshape(operation, number)
        )
        if not done:
            rewriting.operations.append(operation)
    return rewriting.operations


class _Leaner:
    """Operations as they are rewritten, and what is known of their tensors.

    Shapes and strides that tensors have in the end they had all the time, and have them in every run. Only tensors that
    are read by operations which get along with it (``easy``) repeat themselves in memory, and only what is never
    written into (``written``) is read later than it was.
    """

    def __init__(
        self, operations: Sequence[Operation], tensors: Sequence[Tensor], results: Sequence[int]
    ) -> None:
        self.tensors = tensors
        self.count = len(tensors)
        self.operations: list[Operation] = []
        self.makers: dict[int | None, Operation] = {}
        self.reads = Counter(results)
        # What reads a tensor that repeats itself in memory has to get along with that.
        self.easy = [True] * len(tensors)
        for number in results:
            self.easy[number] = False
        # Memory that is written into, where numbers are others later.
        self.written = set[int]()
        for operation in operations:
            for slot in operation.slots:
                self.reads[slot.number] += 1
                self.easy[slot.number] &= operation.pointwise or operation.func in _SUMS
                if operation.writes:
                    self.written.add(self._place(slot.number))
            if len(operation.numbers) == 1:
                self.makers[operation.numbers[0]] = operation
        self.repeating: dict[int, Dims] = {}
        self.firsts: dict[tuple[int, Dims], int] = {}
        self.sums: dict[tuple[int, Dims], int] = {}

    def shrink(self, operation: Operation, number: int) -> bool:
        """Adds a pointwise operation done to the first numbers along dimensions, and its result repeated along them.

        Args:
            operation: Any.
            number: Of its result.

        Returns:
            Whether it can be done and is worth it; if not, nothing was added.
        """
        result = self.tensors[number]
        if not operation.pointwise or not self.easy[number] or result.numel() < WORTH or not operation.slots:
            return False
        long = (dim for dim in range(-result.ndim, 0) if result.shape[dim] > 1)
        dims = tuple(dim for dim in long if self._same(operation.slots, (dim,)))
        if not dims:
            return False

        def first(value: Any) -> Any:
            return self._first(value, dims)

        small = self._add(operation.func, *each(first, operation.args), **each(first, operation.kwargs))
        self._name(number, _ATEN.expand.default, small, [*result.shape])
        self.repeating[number], self.firsts[number, dims] = dims, small.number
        return True

    def take_out(self, operation: Operation, number: int) -> bool:
        """Adds a sum of which is taken out what is the same for all of its terms, likewise."""
        if operation.func not in _SUMS or operation.kwargs or not isinstance(operation.args[0], Slot):
            return False
        terms, *rest = operation.args
        tensor = self.tensors[terms.number]
        maker = self._linear(terms.number)
        if maker is None or tensor.numel() < WORTH or len(rest) > 2:
            return False
        given = rest[0] if rest and rest[0] else range(tensor.ndim)
        dims = tuple(sorted(dim % tensor.ndim - tensor.ndim for dim in given))
        sizes = {dim: tensor.shape[dim] for dim in dims}
        if self._summed(maker, dims) is None:
            return False
        total = self._sum(terms, dims, sizes)
        self._name(number, _ATEN.reshape.default, total, [*self.tensors[number].shape])
        return True

    def turn(self, operation: Operation, number: int) -> bool:
        """Adds a pointwise operation that lays out its result with the longest dimension last in memory, likewise.

        Where the last one has few numbers, as the components of a mixture have, all that follows takes several times
        longer. What is made of a result has its layout.
        """
        result = self.tensors[number]
        if not operation.pointwise or result.numel() < WORTH or result.shape[-1] > SHORT:
            return False
        if any(self.tensors[slot.number].numel() == result.numel() for slot in operation.slots):
            return False
        order = [*range(result.ndim)]
        order.append(order.pop(max(order, key=lambda dim: result.shape[dim])))
        if order[-1] == result.ndim - 1:
            return False

        def turned(value: Any) -> Any:
            # A single number stays one: it has no say in the result's type.
            if not isinstance(value, Slot) or self.tensors[value.number].ndim == 0:
                return value
            for _ in range(result.ndim - self.tensors[value.number].ndim):
                value = self._add(_ATEN.unsqueeze.default, value, 0)
            return self._add(_ATEN.permute.default, value, order)

        found = self._add(operation.func, *each(turned, operation.args), **each(turned, operation.kwargs))
        self._name(number, _ATEN.permute.default, found, [order.index(dim) for dim in range(len(order))])
        return True

    def reshape(self, operation: Operation, number: int) -> bool:
        """Adds the same shape for a tensor that may lie in memory in another order than before, likewise."""
        if operation.func not in _VIEWS or self._place(number) in self.written:
            return False
        self._name(number, _ATEN.reshape.default, *operation.args)
        return True

    def _sum(self, value: Any, dims: Dims, sizes: dict[int, int]) -> Any:
        """The sum along dimensions of a number, or of a tensor when it is spread to so many; it keeps them."""
        if not isinstance(value, Slot):
            return float(value) * prod(sizes.values())
        maker = self._linear(value.number)
        summed = None if maker is None else self._summed(maker, dims)
        if maker is None or summed is None:
            return self._plain_sum(value, dims, sizes)
        parts = [
            self._sum(part, dims, sizes) if index in summed else self._first(part, dims)
            for index, part in enumerate(maker.args)
        ]
        return self._add(maker.func, *parts)

    def _plain_sum(self, value: Slot, dims: Dims, sizes: dict[int, int]) -> Slot:
        """The same, of what can't be taken apart."""
        own = tuple(dim for dim in dims if not self._same([value], (dim,)))
        key = value.number, dims
        if key not in self.sums:
            total = self._first(value, tuple(dim for dim in dims if dim not in own))
            self.sums[key] = (self._add(_ATEN.sum.dim_IntList, total, [*own], True) if own else total).number
        times = prod(sizes[dim] for dim in dims if dim not in own)
        found = Slot(self.sums[key])
        return found if times == 1 else self._add(_ATEN.mul.Tensor, found, times)

    def _linear(self, number: int) -> Operation | None:
        """What made a tensor, if it can be left out: nothing else reads it, and what it takes stays as it is."""
        maker = self.makers.get(number)
        if maker is None or self.reads[number] > 1 or maker.kwargs:
            return None
        if maker.func not in _FACTORS | _TERMS | {_ATEN.neg.default}:
            return None
        dtype = self.tensors[number].dtype
        fits = dtype.is_floating_point and all(
            self.tensors[slot.number].dtype == dtype and self._place(slot.number) not in self.written
            for slot in maker.slots
        )
        return maker if fits else None

    def _summed(self, maker: Operation, dims: Dims) -> tuple[int, ...] | None:
        """Which arguments are summed in place of the result; None if that spares nothing, or is something else."""
        if maker.func is _ATEN.neg.default:
            return (0,)
        same = [not isinstance(part, Slot) or self._same([part], dims) for part in maker.args]
        if maker.func in _TERMS and any(same):
            return (0, 1)
        if maker.func in _FACTORS and same[1]:
            return (0,)
        if maker.func is _ATEN.mul.Tensor and same[0]:
            return (1,)
        return None

    def _same(self, slots: Sequence[Slot], dims: Dims) -> bool:
        """Whether tensors' numbers are all the same along dimensions, or they have none there."""
        return all(self._repeats(slot.number, dim) for slot in slots for dim in dims)

    def _repeats(self, number: int, dim: int) -> bool:
        tensor = self.tensors[number]
        if -dim > tensor.ndim or tensor.shape[dim] == 1 or tensor.stride(dim) == 0:
            return True
        return dim in self.repeating.get(number, ())

    def _first(self, value: Any, dims: Dims) -> Any:
        """A tensor's first numbers along those of the dimensions that it has."""
        if not isinstance(value, Slot):
            return value
        number, tensor = value.number, self.tensors[value.number]
        dims = tuple(dim for dim in dims if -dim <= tensor.ndim and tensor.shape[dim] > 1)
        if (number, dims) not in self.firsts:
            found = value
            for dim in dims:
                found = self._add(_ATEN.slice.Tensor, found, dim, 0, 1)
            self.firsts[number, dims] = found.number
        return Slot(self.firsts[number, dims])

    def _add(self, func: Any, *args: Any, **kwargs: Any) -> Slot:
        """An operation that gives a new tensor."""
        self.count += 1
        self.operations.append(Operation(func, args, kwargs, [self.count - 1]))
        return Slot(self.count - 1)

    def _name(self, number: int, func: Any, *args: Any) -> None:
        """An operation that gives the tensor of that number."""
        self.operations.append(Operation(func, args, {}, [number]))

    def _place(self, number: int) -> int:
        return self.tensors[number].untyped_storage().data_ptr()
