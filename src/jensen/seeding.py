"""Randomness that is asked for by a seed and leaves nothing seeded behind."""

from collections.abc import Generator
from contextlib import contextmanager

import torch


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
        torch.manual_seed(seed)
        yield
