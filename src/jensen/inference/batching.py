"""A function of one point at many points, with its gradient: one vmapped call, in chunks, recorded when it pays."""

from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution
from torch.func import vmap

from jensen.errors import FitError
from jensen.recording import Dispatch, record

Scalar = Callable[[Tensor], Tensor]

BUDGET = 64_000_000
"""Bytes of intermediate results that one call may hold, about."""

PIECE = 700_000
"""Bytes that the average one of them may have: small enough for the processor's cache, large enough to be worth a call
of an operation."""


AT_ONCE = 4
"""Pieces of one call that are worth a recording at once: where there are several their arithmetic takes long, and a
recording leaves much of it out."""

FEWEST_CALLS, MOST_CALLS = 10, 100
"""Calls after which so many more may be expected that a recording, which takes as long as it saves in ten to thirty, is
worth it: averages over fixed draws need fewer, searches for modes 30 to 200. A loop of hundreds of small operations,
where recording takes a third of a second, waits longer."""


def keep_freed_memory() -> None:
    """Tells the C library to keep what is freed for the next call's results.

    As it starts, glibc gives blocks of more than 128 KiB back to the system, and asks for them again, page by page,
    which can take longer than the arithmetic. Once a block of up to 32 MiB was freed, it keeps those of that size.
    """
    torch.empty(31 << 20, dtype=torch.uint8)


@contextmanager
def unvalidated() -> Generator[None]:
    """Torch's distributions don't look at their arguments within the block: vmap can't branch on values."""
    before: bool = Distribution._validate_args
    Distribution.set_default_validate_args(False)
    try:
        yield
    finally:
        Distribution.set_default_validate_args(before)


class Batched:
    """Values and gradients of a scalar function at many points.

    Points go through ``vmap`` in chunks whose intermediate results take about ``PIECE`` bytes each, and at most
    ``BUDGET`` together. A function that is called often enough is recorded once as a plain list of operations, which
    runs several times faster than Python's own calls where these are what takes the time.

    Args:
        function: Of one point (dim,), to a scalar.
        loop: Call it for one point after the other, for functions that vmap refuses.
        chunk: Points of one call; None measures it.
    """

    def __init__(self, function: Scalar, *, loop: bool = False, chunk: int | None = None) -> None:
        self.function = function
        self.loop = loop
        self._recorded: dict[tuple[int, bool], _Recording] = {}
        self.chunk = chunk
        self.at_once, self.calls = AT_ONCE, FEWEST_CALLS

    def values(self, points: Tensor) -> Tensor:
        """At (n, dim), differentiable: (n,)."""
        return torch.cat([self._call(chunk) for chunk in self._chunks(points)])

    def plain_values(self, points: Tensor) -> Tensor:
        """At (n, dim), detached: (n,)."""
        return self._gathered(points, gradient=False)[0]

    def values_and_gradients(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """At (n, dim), detached: (n,) and (n, dim)."""
        values, gradients = self._gathered(points, gradient=True)
        return values, gradients

    def _gathered(self, points: Tensor, gradient: bool) -> tuple[Tensor, Tensor]:
        if len(points) == 0:
            return points.new_zeros(0), points.new_zeros(points.shape)
        chunks = self._chunks(points.detach())
        alike = Counter(map(len, chunks))
        parts = [self._detached(chunk, gradient, alike[len(chunk)]) for chunk in chunks]
        if len(parts) == 1:
            return parts[0]
        return torch.cat([part[0] for part in parts]), torch.cat([part[1] for part in parts])

    def _detached(self, points: Tensor, gradient: bool, coming: int = 1) -> tuple[Tensor, Tensor]:
        key = (len(points), gradient)
        function = self._recorded.setdefault(
            key, _Recording(self._with_gradient if gradient else self._only_value)
        )
        try:
            with unvalidated():
                return function(
                    points, after=None if self.loop else 0 if coming >= self.at_once else self.calls
                )
        except (RuntimeError, ValueError) as error:
            if not no_density(error):
                raise
            # One point without a density fails the whole call: halves find it.
            if len(points) == 1:
                return points.new_full((1,), -torch.inf), torch.zeros_like(points)
            halves = [self._detached(half, gradient) for half in points.chunk(2)]
            return torch.cat([half[0] for half in halves]), torch.cat([half[1] for half in halves])

    def _with_gradient(self, points: Tensor) -> tuple[Tensor, Tensor]:
        # A point's value depends on that point alone, so the sum's gradient holds every value's. (torch.func's own
        # gradient loads torch's compiler, which takes a second.)
        with torch.enable_grad():
            leaves = points.detach().requires_grad_()
            values = self._call(leaves)
            (gradients,) = torch.autograd.grad(values.sum(), leaves)
        return values.detach(), gradients

    def _only_value(self, points: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            return self._call(points), points

    def _call(self, points: Tensor) -> Tensor:
        with unvalidated():
            if self.loop:
                return torch.stack([self.function(point) for point in points])
            return self._mapped(self.function, points)

    def _mapped(self, function: Callable[[Tensor], Any], points: Tensor) -> Any:
        try:
            return vmap(function)(points)
        except RuntimeError as error:
            raise explained(error) from error

    def _chunks(self, points: Tensor) -> tuple[Tensor, ...]:
        if self.chunk is None:
            self.chunk = self._fitting(points[0])
        return points.split(self.chunk)

    def _fitting(self, point: Tensor) -> int:
        """How many points a call should take."""
        keep_freed_memory()
        counter = _Bytes()
        with torch.no_grad(), unvalidated(), counter:
            try:
                self.function(point)
            except RuntimeError as error:
                raise explained(error) from error
        self.at_once = max(AT_ONCE, counter.results // 20)
        self.calls = max(FEWEST_CALLS, min(MOST_CALLS, counter.results // 10))
        total = max(1, counter.total)
        return max(1, min(BUDGET, PIECE * counter.results) // total)


class _Bytes(Dispatch):
    """Counts the results of operations, and adds up their bytes."""

    def __init__(self) -> None:
        super().__init__()
        self.total = self.results = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.total += result.numel() * result.element_size()
            self.results += 1
        return result


class _Recording:
    """A function of a batch of fixed size, called as it is until a recording would have paid for itself.

    When it is recorded depends on the number of calls alone, so that the same seed gives the same numbers.
    """

    def __init__(self, function: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self.function = function
        self.calls = 0
        self.recorded: Callable[[Tensor], tuple[Tensor, Tensor]] | None = None
        self.refused = False

    def __call__(self, points: Tensor, *, after: int | None) -> tuple[Tensor, Tensor]:
        points = points.contiguous()
        if self.recorded is not None:
            # What fails in a recording fails as it should without one, or succeeds.
            with suppress(RuntimeError):
                return self.recorded(points)
        result = self.function(points)
        self.calls += 1
        if self.recorded is None and after is not None and not self.refused and self.calls > after:
            self._record(points)
        return result

    def _record(self, points: Tensor) -> None:
        try:
            recorded = record(self.function, points)
            elsewhere = points + 0.01
            again = zip(self.function(elsewhere), recorded(elsewhere), strict=True)
            self.recorded = recorded if all(same(a, b) for a, b in again) else None
        except Exception:  # Whatever a user's function does that can't be recorded, it goes on as it is.
            self.recorded = None
        self.refused = self.recorded is None


def same(a: Tensor, b: Tensor) -> bool:
    """Whether results agree but for rounding, which sums of large numbers of both signs show beside the largest.

    Args:
        a: Of a function.
        b: Of its recording.
    """
    largest = float(a.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).abs().max())
    return torch.allclose(a, b, rtol=1e-8, atol=1e-10 * (1 + largest), equal_nan=True)


def no_density(error: Exception) -> bool:
    """Whether a log-joint has failed as it does at values that its distributions can't have."""
    if isinstance(error, ValueError):
        # A distribution that was told to validate its arguments.
        return str(error).startswith("Expected ")
    return isinstance(error, torch.linalg.LinAlgError)  # pyright: ignore[reportPrivateImportUsage]


def explained(error: RuntimeError) -> Exception:
    """An error of torch's as the log-joint's, where it is known what to do; else the same error.

    Args:
        error: Raised by a log-joint.
    """
    text = str(error)
    first = text.splitlines()[0] if text else ""
    if no_density(error):
        return error
    if "vmap" in text or "data-dependent" in text or "functorch" in text or "data pointer" in text:
        return FitError(
            f"the log-joint can't be evaluated at many points at once: {first} Use torch operations without branches "
            "on values (torch.where in place of if, no .item() or .numpy(), no writing into tensors, no "
            "validate_args=True), or give Target(..., loop=True) to evaluate one point after the other, which is slower"
        )
    if "dtype" in text or "scalar type" in text:
        return FitError(
            f"the log-joint mixes precisions: {first}. Parameters come in float64; give data in it too: x.double()"
        )
    if "in-place" in text:
        return FitError(
            f"the log-joint writes into its parameters: {first} Make new tensors, as in x = x + 1"
        )
    if "numpy()" in text:
        return FitError(
            f"the log-joint leaves torch: {first} Write it in torch operations, or use gradient='score' or "
            "mcmc.metropolis, with Target(..., loop=True)"
        )
    return error
