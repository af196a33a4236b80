"""Work on weights that is shared among processes of this machine."""

import io
import multiprocessing
import os
import signal
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from jensen import errors
from jensen.errors import ConfigError, FitError, JensenError

Report = Callable[[int, int], None]
"""Of a process: epochs done and epochs planned."""

Share = TypeVar("Share")
Result = TypeVar("Result")

GRACE = 5.0
"""Seconds that a process gets to end before it is killed."""


@dataclass(frozen=True)
class _Task:
    """What a process gets.

    Attributes:
        work: A function of a module, which is sent by its name.
        share: As bytes.
        home: The device of the process that asks.
        threads: Of the processor.
        dtype: Default number type of the process that asks.
    """

    work: Callable[[Any, Report], Any]
    share: bytes
    home: str
    threads: int
    dtype: torch.dtype


@dataclass(frozen=True)
class _Done:
    result: bytes
    warned: list[tuple[type[Warning], str]]


@dataclass(frozen=True)
class _Failed:
    """An error's class, by its name in ``jensen.errors`` where it has one, its message and where it came from."""

    kind: str
    message: str
    trace: str
    unreadable: bool = False


def spread(
    work: Callable[[Share, Report], Result],
    shares: Sequence[Share],
    device: torch.device,
    on_epoch: Report | None = None,
) -> list[Result]:
    """Does each share of a piece of work in a process of its own, started afresh and ended afterwards.

    Shares and results go through pipes between these processes alone, as multiprocessing sends whatever a new process
    is to work on; nothing that comes from elsewhere, as from a file, is read so. Processes ignore Ctrl-C, which ends
    them by way of this one; they end too if this one is killed. On GPUs each takes the next one. The threads that torch
    may use are divided among them.

    Args:
        work: A function of a module; it gets a share and a function to report epochs by.
        shares: One for each process. What they hold has to be picklable.
        device: Where results are wanted.
        on_epoch: Told of each epoch that all processes have done.

    Returns:
        The results, in the order of the shares.

    Raises:
        ConfigError: If a share can't be sent, or not be read by another process.
        FitError: If a process dies.
        JensenError: What a process raised.
    """
    if multiprocessing.current_process().daemon:
        raise ConfigError(
            "this process was itself started as a daemon, which may not start others; use processes=1 here"
        )
    threads = max(1, torch.get_num_threads() // len(shares))
    tasks = [
        _Task(work, _packed(share, _place(device, i)), str(device), threads, torch.get_default_dtype())
        for i, share in enumerate(shares)
    ]
    with _processes(len(tasks)) as crew:
        for (process, pipe), task in zip(crew, tasks, strict=True):
            try:
                pipe.send(task)
            except OSError:
                raise _dead(process) from None
        return _gathered(crew, device, on_epoch)


def _gathered(
    crew: list[tuple[BaseProcess, Connection]], device: torch.device, on_epoch: Report | None
) -> list[Any]:
    """Waits for all results, in the order of the processes."""
    numbers = {pipe: i for i, (_, pipe) in enumerate(crew)}
    open_pipes = set(numbers)
    results: list[Any] = [None] * len(crew)
    epochs, told = [0] * len(crew), 0
    warned: dict[tuple[type[Warning], str], None] = {}
    while open_pipes:
        for pipe in cast("list[Connection]", wait(list(open_pipes))):
            number = numbers[pipe]
            try:
                message = pipe.recv()
            except (EOFError, OSError):
                raise _dead(crew[number][0]) from None
            if isinstance(message, _Failed):
                raise _error(message)
            if isinstance(message, _Done):
                results[number] = _unpacked(message.result)
                warned |= dict.fromkeys(message.warned)
                open_pipes.discard(pipe)
                continue
            epochs[number], planned = message
            if on_epoch is not None and min(epochs) > told:
                told = min(epochs)
                on_epoch(told, planned)
    for category, text in warned:
        warnings.warn(text, category, stacklevel=2)
    return results


@contextmanager
def _processes(count: int) -> Generator[list[tuple[BaseProcess, Connection]]]:
    """Processes that wait for tasks, each with the pipe to it; none of them is left after the block."""
    context = multiprocessing.get_context("spawn")
    crew: list[tuple[BaseProcess, Connection]] = []
    try:
        with _without_interrupts():
            for _ in range(count):
                # Windows has a class of its own for them.
                mine, its = cast("tuple[Connection, Connection]", context.Pipe())
                process = context.Process(target=_serve, args=(its,), daemon=True)
                process.start()
                its.close()
                crew.append((process, mine))
        yield crew
    finally:
        for process, pipe in crew:
            pipe.close()
            process.terminate()
        for process, _ in crew:
            process.join(GRACE)
            if process.is_alive():
                process.kill()
                process.join()


@contextmanager
def _without_interrupts() -> Generator[None]:
    """Ctrl-C waits until the block has ended; processes that are started within never get it."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    # It would let Ctrl-C through again when it is started.
    resource_tracker.ensure_running()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _serve(pipe: Connection) -> None:
    """What a process does: its task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    # Without the process that asked there is nobody to tell.
    with suppress(EOFError, OSError):
        task: _Task = pipe.recv()
        pipe.send(_answer(task, lambda done, planned: pipe.send((done, planned))))


def _answer(task: _Task, report: Report) -> _Done | _Failed:
    """The result of a task, or what went wrong."""
    torch.set_num_threads(task.threads)
    torch.set_default_dtype(task.dtype)
    try:
        share = _unpacked(task.share)
    except Exception as error:
        return _Failed(type(error).__name__, str(error), traceback.format_exc(), unreadable=True)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            result = _packed(task.work(share, report), task.home)
    except Exception as error:
        return _Failed(type(error).__name__, str(error), traceback.format_exc())
    # A class of the user's own may not be known to the one who asks.
    warned = [
        (w.category if w.category.__module__ == "builtins" else RuntimeWarning, str(w.message))
        for w in caught
    ]
    return _Done(result, warned)


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _place(device: torch.device, number: int) -> str:
    """The device of a process: GPUs take turns, from the one that was asked for on."""
    if device.type != "cuda":
        return str(device)
    return f"cuda:{((device.index or 0) + number) % torch.cuda.device_count()}"


def _packed(value: Any, device: str) -> bytes:
    """A value as bytes, as multiprocessing sends it but for tensors.

    These go by value: shared memory, which they would take by themselves, is scarce in many containers.

    Args:
        value: Anything.
        device: Where its tensors are wanted, those that aren't on the CPU.

    Raises:
        ConfigError: If something in it can't be sent.
    """
    buffer = io.BytesIO()
    pickler: Any = ForkingPickler(buffer)
    by_value = partial(_by_value, device=device)
    pickler.dispatch_table.update({Tensor: by_value, nn.Parameter: by_value})
    try:
        pickler.dump(value)
    except Exception as error:
        raise ConfigError(
            f"processes of their own need a network that can be pickled, and this one can't be ({error}); define its "
            "classes and functions at the top level of a module, not within a function, and keep lambdas and open "
            "files out of it, or use processes=1"
        ) from error
    return buffer.getvalue()


def _unpacked(value: bytes) -> Any:
    """The value again; it comes from a process that this one has started, or from the one that started this."""
    return cast("Any", ForkingPickler).loads(value)


def _by_value(tensor: Tensor, device: str) -> tuple[Callable[..., Tensor], tuple[Any, ...]]:
    """How a tensor is made again."""
    place = tensor.device.type
    found = tensor.detach()
    content = b""
    if place != "meta":
        # A view as bytes needs a stride of one, which not every copy of a single number has.
        row = found.new_empty(found.numel(), device="cpu").copy_(found.reshape(-1))
        content = row.view(torch.uint8).numpy().tobytes()
    wanted = place if place in ("cpu", "meta") else device
    learnt = tensor.requires_grad if isinstance(tensor, nn.Parameter) else None
    return _made, (content, tuple(tensor.shape), tensor.dtype, wanted, learnt)


def _made(
    content: bytes, shape: tuple[int, ...], dtype: torch.dtype, device: str, learnt: bool | None
) -> Tensor:
    """The tensor again; a parameter, if it says whether its gradient is wanted."""
    if content:
        tensor = torch.frombuffer(bytearray(content), dtype=dtype).reshape(shape).to(device)
    else:
        tensor = torch.empty(shape, dtype=dtype, device=device)
    return tensor if learnt is None else nn.Parameter(tensor, requires_grad=learnt)


def _error(failed: _Failed) -> JensenError:
    """What another process raised, to be raised in this one."""
    if failed.unreadable:
        return ConfigError(
            f"another process can't read the network ({failed.kind}: {failed.message}); define its classes in a "
            "module that can be imported, not in a notebook or at the prompt, or use processes=1"
        )
    kind = getattr(errors, failed.kind, None)
    if isinstance(kind, type) and issubclass(kind, JensenError):
        error = kind(failed.message)
    else:
        error = FitError(
            f"a process that trained members failed with {failed.kind}: {failed.message}; processes=1 shows it where "
            "it happens"
        )
    error.add_note(failed.trace)
    return error


def _dead(process: BaseProcess) -> FitError:
    """What to say of a process that is gone without a word."""
    process.join(GRACE)
    code = process.exitcode
    if code is not None and code < 0:
        how = f"was killed by signal {-code} ({signal.Signals(-code).name})"
        hint = "if memory ran out, use fewer processes or smaller batches"
    else:
        how = f"ended with exit code {code}"
        hint = (
            "what it printed says why. A script has to fit under `if __name__ == '__main__':`, since each process "
            "imports it first"
        )
    return FitError(f"a process that trained members {how}; {hint}. processes=1 needs no others")
