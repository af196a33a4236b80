"""Numbers too small for a normal float, which cost the processor many times the others, are taken for zero."""

from collections.abc import Generator
from contextlib import contextmanager

import torch


@contextmanager
def flushed() -> Generator[None]:
    """Within the block, numbers too small for a normal float are zero to this thread and to those that it starts.

    In float32 these are the ones below 1.2e-38. Gradients of cells that are all but certain come to lie there, and
    Adam's averages where there is no gradient any more, and stay; arithmetic with them takes many times longer. Threads
    that torch had started before go on as they were.

    Yields:
        Nothing.

    Example:
        >>> with flushed():
        ...     float(torch.tensor(1e-30) * 1e-10)
        0.0
    """
    before = float(torch.tensor(1e-30, dtype=torch.float32) * 1e-10) == 0.0
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(before)
