"""Where a fit runs: the device, and the processes that share it, by way of Lightning Fabric."""

import atexit
import logging
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from typing import Any, Literal, Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn

from jensen.errors import ConfigError, FitError

Device = Literal["auto", "cpu", "cuda"]


def resolve(device: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one.

    Raises:
        ConfigError: If there is no such device on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device '{device}'; there are: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for, but torch sees no GPU here; use device='cpu' or 'auto'"
        )
    return torch.device(device)


def processes() -> tuple[int, int]:
    """The number of this process and how many there are, as ``torchrun`` has set them; (0, 1) without it."""
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


@runtime_checkable
class Engine(Protocol):
    """What a fit runs on.

    Attributes:
        device: Where this process runs.
        rank: Its number, from 0.
        world_size: How many processes there are.
    """

    device: torch.device
    rank: int
    world_size: int

    def wrapped(self, module: nn.Module) -> Callable[..., Any]:
        """The module as the steps call it."""
        ...

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of a loss, averaged over the processes, to the parameters' own."""
        ...

    def unsynchronised(self, forward: Callable[..., Any]) -> AbstractContextManager[None]:
        """Within the block a backward pass leaves the other processes alone."""
        ...

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes; each of them has to ask for it."""
        ...

    def wait(self) -> None:
        """Waits until every process has come here."""
        ...


class Alone:
    """One process by itself: nothing has to be synchronised, and nothing stands between a step and torch.

    Args:
        device: Where it runs.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.rank = 0
        self.world_size = 1

    def wrapped(self, module: nn.Module) -> Callable[..., Any]:
        """The module itself."""
        return module

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient of a loss to the parameters' own."""
        loss.backward()

    def unsynchronised(self, forward: Callable[..., Any]) -> AbstractContextManager[None]:
        """Does nothing."""
        return nullcontext()

    def total(self, values: Tensor) -> Tensor:
        """The values themselves."""
        return values

    def wait(self) -> None:
        """Does nothing."""


class Together:
    """One of several processes, started by ``torchrun``, that share a fit; gradients are averaged by DDP.

    Args:
        device: CPU, or CUDA with a GPU for each process.

    Raises:
        ConfigError: If ``torchrun`` hasn't said how many processes this machine has.
    """

    def __init__(self, device: torch.device) -> None:
        from lightning_fabric import Fabric

        logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
        rank, world_size = processes()
        here = int(os.environ.get("LOCAL_WORLD_SIZE", "0"))
        if here < 1 or world_size % here != 0:
            raise ConfigError(
                f"{world_size} processes were started, and LOCAL_WORLD_SIZE says {here} of them on this machine; "
                "start them by torchrun with as many on each machine"
            )
        strategy = "ddp"
        if device.type == "cpu" and world_size > 2:
            from jensen.training.ordered import OrderedDDP

            strategy = OrderedDDP()
        self._fabric = Fabric(
            accelerator=device.type, strategy=strategy, devices=here, num_nodes=world_size // here
        )
        self.rank, self.world_size = rank, world_size
        self._alive(self._fabric.launch)
        self.device = self._fabric.device

    def wrapped(self, module: nn.Module) -> Callable[..., Any]:
        """The module in DDP.

        Raises:
            FitError: If another process is gone, here and where it is called.
        """
        return _Wrapped(self._alive(lambda: self._fabric.setup_module(module)), self._alive)

    def backward(self, loss: Tensor) -> None:
        """Adds the gradient, averaged over the processes, to the parameters' own.

        Raises:
            FitError: If another process is gone.
        """
        self._alive(lambda: self._fabric.backward(loss))

    def unsynchronised(self, forward: Callable[..., Any]) -> AbstractContextManager[None]:
        """Within the block a backward pass leaves the other processes alone."""
        module = forward.module if isinstance(forward, _Wrapped) else forward
        return cast("AbstractContextManager[None]", self._fabric.no_backward_sync(cast(Any, module)))

    def total(self, values: Tensor) -> Tensor:
        """The sum over the processes.

        Raises:
            FitError: If another process is gone.
        """
        return cast(Tensor, self._alive(lambda: self._fabric.all_reduce(values, reduce_op="sum")))

    def wait(self) -> None:
        """Waits until every process has come here.

        Raises:
            FitError: If another process is gone.
        """
        self._alive(self._fabric.barrier)

    def _alive(self, communicate: Callable[[], Any]) -> Any:
        try:
            return communicate()
        except RuntimeError as error:
            if not _of_communication(error):
                raise
            # The backend's own words: without the place in its source, and without its advice.
            what = re.sub(r"\[/\S*\] *", "", str(error).splitlines()[0]).partition(" This is ")[0].rstrip(".")
            raise FitError(
                f"process {self.rank} of {self.world_size} can't reach the others, one of which has died ({what}); "
                "what was saved last is kept, go on with it by --resume (resume=True)"
            ) from error


class _Wrapped:
    """A module in DDP, which exchanges its buffers with the other processes when it is called."""

    def __init__(self, module: Any, alive: Callable[[Callable[[], Any]], Any]) -> None:
        self.module = module
        self._alive = alive

    def __call__(self, *arguments: Any) -> Any:
        return self._alive(lambda: self.module(*arguments))


def _of_communication(error: RuntimeError) -> bool:
    """Whether an error is one of the exchange among processes, and none of the computation."""
    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in ("gloo", "nccl", "connection closed", "connection reset", "peer"))


def engine(device: str) -> Engine:
    """What a fit runs on.

    Args:
        device: "auto", "cpu" or "cuda".

    Returns:
        One process by itself, or one of those that ``torchrun`` has started.

    Raises:
        ConfigError: If there is no such device.

    Example:
        >>> engine("cpu").world_size
        1
    """
    place = resolve(device)
    return Alone(place) if processes()[1] == 1 else _together(place)


@cache
def _together(device: torch.device) -> Together:
    """The one group of processes that there is in this process's life, however many fits it makes."""
    together = Together(device)
    # Left to the end of Python, the threads that exchange data may find their sockets closed and abort the process.
    atexit.register(_leave)
    return together


def _leave() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
