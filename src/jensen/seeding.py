"""Randomness that is asked for by a seed and leaves nothing seeded behind, and that processes share."""

import threading
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@contextmanager
def seeded(seed: int | None) -> Generator[None]:
    """Seeds torch's generators for the block and restores them after it.

    ``Distribution.rsample`` takes no generator, so a public call that draws runs inside this block.

    Args:
        seed: The seed; None leaves the generators as they are, and the block moves them on.

    Yields:
        Nothing.

    Example:
        >>> with seeded(0):
        ...     first = torch.randn(2)
        >>> with seeded(0):
        ...     second = torch.randn(2)
        >>> bool((first == second).all())
        True
    """
    if seed is None:
        yield
        return
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        if torch.cuda.is_available():
            torch.manual_seed(seed)
        else:
            # Where there is no GPU to be seeded this takes a microsecond, not a hundred.
            torch.default_generator.manual_seed(seed)
        yield


class Rows(NamedTuple):
    """Which rows of a larger batch a smaller one holds: ``first``, ``first + stride`` and so on.

    Attributes:
        first: Number of the first one.
        stride: From one to the next.
        number: How many.
        total: Rows of the larger batch.

    Example:
        >>> Rows(1, 2, 3, 6).of(torch.arange(6), 0)
        tensor([1, 3, 5])
    """

    first: int
    stride: int
    number: int
    total: int

    def of(self, values: Tensor, dim: int) -> Tensor:
        """These rows of the larger batch's values."""
        stop = self.first + self.stride * self.number
        return values[(*[slice(None)] * dim, slice(self.first, stop, self.stride))]

    def every(self, start: int, step: int) -> "Rows":
        """Every so many-th of these rows, from one of them on.

        Example:
            >>> Rows(1, 2, 3, 6).every(1, 2)
            Rows(first=3, stride=4, number=1, total=6)
        """
        count = len(range(start, self.number, step))
        return Rows(self.first + self.stride * start, self.stride * step, count, self.total)


_active = threading.local()


def shared_rows() -> Rows | None:
    """The rows that draws of this thread are made for now; None: whole batches."""
    return getattr(_active, "rows", None)


def sharing(rows: Rows | None) -> AbstractContextManager[Any]:
    """Within the block what is drawn for a part of a batch is what the whole batch would have drawn for it.

    Every draw of torch's own generator whose shape has these rows is made for the whole batch, and the part's rows
    are taken from it. So two processes with half of a batch each get together the noise that one process gets for
    all of it, their generators stay alike, and a gradient that is accumulated over parts is that of the whole. Rows
    are looked for in the first dimension, in the second one (samples come first), and in the first one where
    samples and rows are flattened into it. Noise of other shapes is the same for all parts.

    Args:
        rows: Of the part; None, or all of them, changes nothing.

    Returns:
        A context manager.

    Example:
        >>> with seeded(0):
        ...     whole = torch.randn(4, 2)
        >>> with seeded(0), sharing(Rows(1, 2, 2, 4)):
        ...     part = torch.randn(2, 2)
        >>> bool((part == whole[1::2]).all())
        True
    """
    return nullcontext() if rows is None or rows.number == rows.total else _Sharing(rows)


class _Sharing(TorchFunctionMode):
    def __init__(self, rows: Rows) -> None:
        super().__init__()
        self.rows = rows
        self.outer: Rows | None = None

    def __enter__(self) -> "_Sharing":
        self.outer, _active.rows = shared_rows(), self.rows
        super().__enter__()
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        _active.rows = self.outer
        super().__exit__(kind, error, trace)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        draw = _DRAWS.get(func)
        kwargs = kwargs or {}
        if draw is None or kwargs.get("generator") is not None:
            return func(*args, **kwargs)
        return draw(self.rows, func, args, kwargs)


def _whole(shape: tuple[int, ...], rows: Rows) -> tuple[tuple[int, ...], int, bool] | None:
    """The whole batch's shape for that of a part, its dimension of rows, and whether samples are apart from it."""
    count = rows.number
    if len(shape) == 3 and shape[1] == count:
        return (shape[0], rows.total, *shape[2:]), 1, False
    if shape and shape[0] == count:
        return (rows.total, *shape[1:]), 0, False
    if len(shape) > 1 and shape[1] == count:
        return (shape[0], rows.total, *shape[2:]), 1, False
    if shape and shape[0] > count and shape[0] % count == 0:
        return (shape[0] // count, rows.total, *shape[1:]), 1, True
    return None


def _take(rows: Rows, shape: tuple[int, ...], make: Callable[[tuple[int, ...]], Tensor]) -> Tensor:
    """The part's rows of what is drawn in the whole batch's shape."""
    found = _whole(shape, rows)
    if found is None:
        return make(shape)
    whole, dim, flattened = found
    drawn = make((whole[0] * whole[1], *whole[2:]) if flattened else whole)
    return rows.of(drawn.reshape(whole), dim).reshape(shape)


def _fill(rows: Rows, values: Tensor, other: float) -> Callable[[tuple[int, ...]], Tensor]:
    """Makes a whole batch that holds the part's values, and another value elsewhere."""

    def make(shape: tuple[int, ...]) -> Tensor:
        if shape == tuple(values.shape):
            return values
        whole, dim, _ = _whole(tuple(values.shape), rows) or (shape, 0, False)
        result = values.new_full(whole, other)
        rows.of(result, dim).copy_(values.reshape(rows.of(result, dim).shape))
        return result.reshape(shape)

    return make


def _factory(rows: Rows, func: Any, args: Any, kwargs: Any) -> Tensor:
    size = kwargs.pop("size", args[0] if len(args) == 1 and not isinstance(args[0], int) else args)
    return _take(rows, tuple(size), lambda shape: func(shape, **kwargs))


def _like(rows: Rows, func: Any, args: Any, kwargs: Any) -> Tensor:
    template: Tensor = args[0]
    return _take(
        rows, tuple(template.shape), lambda shape: func(template.new_empty(shape), *args[1:], **kwargs)
    )


def _in_place(rows: Rows, func: Any, args: Any, kwargs: Any) -> Tensor:
    if any(isinstance(argument, Tensor) for argument in args[1:]):
        return func(*args, **kwargs)
    return args[0].copy_(_like(rows, func, args, kwargs))


def _with_values(rows: Rows, func: Any, args: Any, kwargs: Any) -> Tensor:
    values: Tensor = args[0].detach()
    make = _fill(rows, values, 0.5)
    return _take(rows, tuple(values.shape), lambda shape: func(make(shape), *args[1:], **kwargs))


def _categories(rows: Rows, func: Any, args: Any, kwargs: Any) -> Tensor:
    probabilities: Tensor = args[0]
    found = _whole(tuple(probabilities.shape[:1]), rows)
    if probabilities.ndim != 2 or found is None:
        return func(*args, **kwargs)
    whole = found[0][0] * (found[0][1] if found[2] else 1)
    filled = _fill(rows, probabilities.detach(), 1.0)((whole, probabilities.shape[1]))
    drawn = func(filled, *args[1:], **kwargs)
    if found[2]:
        return rows.of(drawn.reshape(*found[0], -1), 1).reshape(len(probabilities), -1)
    return rows.of(drawn, 0)


def _dropout(rows: Rows, func: Any, args: Any, kwargs: Any) -> Tensor:
    def parts(
        input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False
    ) -> tuple[Tensor, float, bool]:
        return input, p, training

    x, p, training = parts(*args, **kwargs)
    if not training or p == 0:
        return x
    return x * _take(rows, tuple(x.shape), lambda shape: func(x.new_ones(shape), p, True))


_DRAWS: dict[Any, Callable[[Rows, Any, Any, Any], Tensor]] = {
    torch.randn: _factory,
    torch.rand: _factory,
    torch.randn_like: _like,
    torch.rand_like: _like,
    Tensor.normal_: _in_place,
    Tensor.uniform_: _in_place,
    Tensor.exponential_: _in_place,
    Tensor.bernoulli_: _in_place,
    torch.bernoulli: _with_values,
    Tensor.bernoulli: _with_values,
    torch.multinomial: _categories,
    Tensor.multinomial: _categories,
    functional.dropout: _dropout,
}
