"""A function of tensors as a plain list of operations, run by torch's own interpreter instead of Python."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.jit import optimized_execution  # pyright: ignore[reportPrivateImportUsage]
from torch.utils._python_dispatch import TorchDispatchMode

from jensen.recording.leaner import leaner
from jensen.recording.operations import Operation, Slot, each, leaves, needed

Values = Callable[..., tuple[Tensor, ...]]


class Dispatch(TorchDispatchMode):
    """A dispatch mode that doesn't load torch's compiler, which takes a second."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


def _looks(func: Any) -> bool:
    """Whether an operation takes a number out of tensors, as ``float()``, ``.item()``, ``if`` and ``equal`` do."""
    return torch.Tag.data_dependent_output in func.tags or func is torch.ops.aten.is_nonzero.default


_NOTHING = {torch.ops.aten.detach.default, torch.ops.aten.alias.default}
"""Operations that do nothing where no gradients are asked for."""


class _Recorder(Dispatch):
    """Keeps every operation that is run, below automatic differentiation and vmap."""

    def __init__(self, arguments: list[Tensor]) -> None:
        super().__init__()
        self.numbers = {id(argument): i for i, argument in enumerate(arguments)}
        self.arguments = len(arguments)
        # What may be another in the next run: arguments, random numbers, and what is made of them.
        self.moving = set(self.numbers.values())
        # Tensors are told apart by their ids, so none may be freed while others are made.
        self.alive = [*arguments]
        self.places: dict[int, list[int]] = {}
        for i, argument in enumerate(arguments):
            self.places.setdefault(_place(argument), []).append(i)
        self.constants: dict[int, Tensor] = {}
        self.operations: list[Operation] = []

    def number(self, tensor: Tensor) -> int:
        """Of a tensor that an operation gives or takes."""
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = len(self.alive)
            self.places.setdefault(_place(tensor), []).append(len(self.alive))
            self.alive.append(tensor)
        return self.numbers[id(tensor)]

    def makes(self, tensor: Tensor) -> bool:
        """Whether an operation has made a tensor."""
        number = self.numbers.get(id(tensor), 0)
        return number >= self.arguments and number not in self.constants

    def taken(self, value: Any) -> Any:
        """An operation's argument with slots for tensors; a tensor that nothing has made is a constant."""
        if not isinstance(value, Tensor):
            return value
        known = id(value) in self.numbers
        number = self.number(value)
        if not known:
            self.constants[number] = value
        return Slot(number)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        numbers: list[int | None] = []
        operation = Operation(func, each(self.taken, args), each(self.taken, kwargs), numbers)
        moving = torch.Tag.nondeterministic_seeded in func.tags or any(
            slot.number in self.moving for slot in operation.slots
        )
        if moving and _looks(func):
            raise RuntimeError(f"{func} looks at a value, so what it decides can't be recorded")
        if func is torch.ops.aten.resize_.default:
            raise RuntimeError(f"{func} gives a tensor another size, which can't be recorded")
        written = [_place(x) for x in _written(func, args, kwargs)] if operation.writes else []
        if written and not {_place(x) for x in self.constants.values()}.isdisjoint(written):
            raise RuntimeError(f"{func} writes into a tensor from outside, which can't be recorded")
        result = func(*args, **kwargs)
        numbers += [self.number(x) if isinstance(x, Tensor) else None for x in leaves(result)]
        if moving:
            self.moving.update(number for number in numbers if number is not None)
            for place in written:
                self.moving.update(self.places[place])
        self.operations.append(operation)
        return result


def _place(tensor: Tensor) -> int:
    """Where in memory a tensor's numbers are."""
    return tensor.untyped_storage().data_ptr()


def _written(func: Any, args: Any, kwargs: Any) -> list[Tensor]:
    """The tensors that an operation writes into."""
    names = [argument.name for argument in func._schema.arguments]
    values = {**dict(zip(names, args, strict=False)), **kwargs}
    aliased = [argument for argument in func._schema.arguments if argument.alias_info is not None]
    written = [values.get(argument.name) for argument in aliased if argument.alias_info.is_write]
    return [x for x in leaves(written) if isinstance(x, Tensor)]


def record(function: Values, *arguments: Tensor, exact: bool = False) -> Callable[..., Any]:
    """Runs a function once and gives one that does the same operations on any tensors of the same shapes.

    Tensors other than the arguments and what is made of them stay as they are; random numbers are drawn afresh. A
    factorisation that fails for some rows of the arguments (a matrix that isn't positive definite) doesn't raise: it
    gives -inf in results (n,) and zero in others. With a seed, random numbers are those of the function if ``exact``.

    Args:
        function: Of tensors, to a tuple of tensors.
        *arguments: To run it with.
        exact: Do the operations as they were done, to the last bit. Else work is left out where results are the same
            up to rounding (``leaner``).

    Returns:
        The recording; its results are detached.

    Raises:
        RuntimeError: If the function looks at a value, as a branch does that depends on an argument, or writes into
            a tensor that it was not given and did not make.

    Example:
        >>> shift = torch.tensor([1.0, 2.0])
        >>> recorded = record(lambda x: ((x + shift).square(),), torch.zeros(2))
        >>> recorded(torch.ones(2))[0]
        tensor([4., 9.])
    """
    inputs = [argument.detach().clone() for argument in arguments]
    recorder = _Recorder(inputs)
    with recorder:
        # Each result has to be one of an operation.
        made = [x if recorder.makes(x) else x.clone() for x in function(*inputs)]
    results = [recorder.number(x) for x in made]
    checks = [
        operation.args[0].number
        for operation in recorder.operations
        if operation.func is torch.ops.aten._linalg_check_errors.default
        and operation.args[0].number in recorder.moving
    ]
    ends = [*results, *checks]
    nothing = _NOTHING
    if any(torch.Tag.inplace_view in operation.func.tags for operation in recorder.operations):
        nothing = set[Any]()

    def traced(operations: list[Operation]) -> Any:
        operations = needed(operations, ends)

        def replay(*given: Tensor) -> tuple[Tensor, ...]:
            values: dict[int | None, Any] = {**recorder.constants, **dict(enumerate(given))}

            def filled(slot: Any) -> Any:
                return values[slot.number] if isinstance(slot, Slot) else slot

            for operation in operations:
                args, kwargs = each(filled, operation.args), each(filled, operation.kwargs)
                found = args[0] if operation.func in nothing else operation.func(*args, **kwargs)
                values.update(zip(operation.numbers, leaves(found), strict=True))
            failed = [(values[number] != 0).reshape(len(given[0]), -1).any(1) for number in checks]
            found = [_without(values[number], failed) for number in results]
            return tuple(found if exact else [x.contiguous() for x in found])

        with torch.no_grad(), warnings.catch_warnings():
            # Torch calls its interpreter deprecated in favour of a compiler that takes many seconds to start.
            warnings.simplefilter("ignore")
            return torch.jit.trace(_Replay(replay).eval(), tuple(inputs), check_trace=False)

    try:
        recording = traced(
            recorder.operations if exact else leaner(recorder.operations, recorder.alive, ends)
        )
    except Exception:
        # Something asks for tensors that lie in memory as they did.
        recording = traced(recorder.operations)

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        # The interpreter's optimiser takes longer than a hundred runs, and finds nothing in a list of plain operations.
        with torch.no_grad(), optimized_execution(False):
            return recording(*given)

    return run


def _without(result: Tensor, failed: list[Tensor]) -> Tensor:
    """A result (n, ...) where factorisations have failed at some points: their density is zero, without a slope."""
    for wrong in failed:
        wrong = wrong.reshape(-1, *[1] * (result.ndim - 1))
        result = torch.where(wrong, -torch.inf if result.ndim == 1 else 0.0, result)
    return result


class _Replay(torch.nn.Module):
    """A module, as tracing needs one: it would name a function, and keep it for good."""

    def __init__(self, replay: Values) -> None:
        super().__init__()
        self.replay = replay

    def forward(self, *given: Tensor) -> tuple[Tensor, ...]:
        return self.replay(*given)
