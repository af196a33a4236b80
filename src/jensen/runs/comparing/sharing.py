"""Which fits of a comparison are this process's, when torchrun started several; they talk by files alone."""

import os
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import torch

T = TypeVar("T")

POLL = 0.5
"""Seconds from one look at the others' files to the next."""

_GROUP = (
    "RANK",
    "WORLD_SIZE",
    "LOCAL_RANK",
    "LOCAL_WORLD_SIZE",
    "GROUP_RANK",
    "GROUP_WORLD_SIZE",
    "ROLE_RANK",
    "ROLE_WORLD_SIZE",
    "ROLE_NAME",
    "MASTER_ADDR",
    "MASTER_PORT",
)


def place() -> tuple[int, int]:
    """This process's number among those that torchrun started, and how many there are.

    Example:
        >>> place()
        (0, 1)
    """
    return int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))


def share(work: Sequence[T], rank: int, size: int) -> list[T]:
    """The part of the work that is this process's: every size-th, from its own number on.

    Example:
        >>> share(["a", "b", "c", "d", "e"], 1, 2)
        ['b', 'd']
    """
    return list(work[rank::size])


@contextmanager
def alone() -> Generator[None]:
    """Within the block nothing says that there are other processes: each fit is one process's own.

    On GPUs each process of a machine takes its own.

    Yields:
        Nothing.
    """
    kept = {
        name: value for name, value in os.environ.items() if name in _GROUP or name.startswith("TORCHELASTIC")
    }
    if "LOCAL_RANK" in kept and torch.cuda.is_available():
        torch.cuda.set_device(int(kept["LOCAL_RANK"]) % torch.cuda.device_count())
    for name in kept:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(kept)


def wait_for(found: Callable[[], T | None]) -> T:
    """Waits until something is there.

    Args:
        found: Returns it, or None as long as it isn't there.

    Returns:
        It.
    """
    while (result := found()) is None:
        time.sleep(POLL)
    return result
