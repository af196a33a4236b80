"""A function of tensors as a plain list of operations, run by torch's own interpreter instead of Python."""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.jit import optimized_execution  # pyright: ignore[reportPrivateImportUsage]
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

Values = Callable[..., tuple[Tensor, ...]]


class Dispatch(TorchDispatchMode):
    """A dispatch mode that doesn't load torch's compiler, which takes a second."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False


class _Slot:
    """Where in a recording a tensor stands."""

    def __init__(self, number: int) -> None:
        self.number = number


_LOOKS = {torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default}
"""Operations that take a number out of a tensor, as ``float()``, ``.item()`` and ``if`` do."""


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
        self.constants: dict[int, Tensor] = {}
        self.operations: list[tuple[Any, Any, Any, list[int | None]]] = []

    def number(self, tensor: Tensor) -> int:
        """Of a tensor that an operation gives or takes."""
        if id(tensor) not in self.numbers:
            self.numbers[id(tensor)] = len(self.alive)
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
        return _Slot(number)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        taken = tree_map(self.taken, (args, kwargs))
        moving = torch.Tag.nondeterministic_seeded in func.tags or any(
            slot.number in self.moving for slot in tree_leaves(taken) if isinstance(slot, _Slot)
        )
        if moving and func in _LOOKS:
            raise RuntimeError(f"{func} looks at a value, so what it decides can't be recorded")
        outside = {_place(x) for x in self.constants.values()} if func._schema.is_mutable else set[int]()
        if any(_place(x) in outside for x in _written(func, args, kwargs)):
            raise RuntimeError(f"{func} writes into a tensor from outside, which can't be recorded")
        result = func(*args, **kwargs)
        numbers = [self.number(x) if isinstance(x, Tensor) else None for x in tree_leaves(result)]
        if moving:
            self.moving.update(number for number in numbers if number is not None)
        self.operations.append((func, *taken, numbers))
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
    return [x for x in tree_leaves(written) if isinstance(x, Tensor)]


def record(function: Values, *arguments: Tensor) -> Callable[..., Any]:
    """Runs a function once and gives one that does the same operations on any tensors of the same shapes.

    Tensors other than the arguments and what is made of them stay as they are; random numbers are drawn afresh. A
    factorisation that fails for some rows of the arguments (a matrix that isn't positive definite) doesn't raise: it
    gives -inf in results (n,) and zero in others.

    Args:
        function: Of tensors, to a tuple of tensors.
        *arguments: To run it with.

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
        args[0].number
        for func, args, _, _ in recorder.operations
        if func is torch.ops.aten._linalg_check_errors.default and args[0].number not in recorder.constants
    ]
    operations = _needed(recorder.operations, [*results, *checks])

    def replay(*given: Tensor) -> tuple[Tensor, ...]:
        values: dict[int, Any] = {**recorder.constants, **dict(enumerate(given))}

        def filled(slot: Any) -> Any:
            return values[slot.number] if isinstance(slot, _Slot) else slot

        for func, args, kwargs, numbers in operations:
            args, kwargs = tree_map(filled, (args, kwargs))
            if func in _NOTHING:
                values[numbers[0]] = args[0]
                continue
            found = zip(numbers, tree_leaves(func(*args, **kwargs)), strict=True)
            values.update((number, value) for number, value in found if number is not None)
        failed = [(values[number] != 0).reshape(len(given[0]), -1).any(1) for number in checks]
        return tuple(_without(values[number], failed) for number in results)

    with torch.no_grad(), warnings.catch_warnings():
        # Torch calls its interpreter deprecated in favour of a compiler that takes many seconds to start.
        warnings.simplefilter("ignore")
        traced: Any = torch.jit.trace(_Replay(replay).eval(), tuple(inputs), check_trace=False)

    def run(*given: Tensor) -> tuple[Tensor, ...]:
        # The interpreter's optimiser takes longer than a hundred runs, and finds nothing in a list of plain operations.
        with torch.no_grad(), optimized_execution(False):
            return traced(*given)

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


def _needed(operations: list[Any], results: list[int]) -> list[Any]:
    """The operations that results depend on, and those that write into tensors."""
    needed, kept = set(results), []
    for operation in reversed(operations):
        func, args, kwargs, numbers = operation
        if func._schema.is_mutable or any(number in needed for number in numbers):
            kept.append(operation)
            needed.update(slot.number for slot in tree_leaves((args, kwargs)) if isinstance(slot, _Slot))
    return kept[::-1]
