"""How many threads of the processor a fit takes."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

SMALL = 2e8
"""Floating-point operations of a step below which one thread does them as fast as several, and steadily so."""


def operations(parameters: int, batch_size: int) -> float:
    """About how many floating-point operations a step takes.

    Args:
        parameters: Numbers in the model.
        batch_size: Data in a batch; forward and backward pass take six operations for each number and datum.

    Returns:
        That many.
    """
    return 6.0 * parameters * batch_size


def chosen(asked: int | None, work: float) -> int:
    """The number of threads for a fit on the CPU.

    Starting several threads for an operation and waiting for the last of them costs more than a small operation
    takes, and many times more where other programs keep the cores busy. It depends on the model alone, since
    another number of threads rounds otherwise.

    Args:
        asked: What the user wants; None leaves it to the size of a step.
        work: Floating-point operations of a step.

    Returns:
        What was asked for, else one for small steps and torch's own number for others.

    Example:
        >>> chosen(None, operations(10_000, 100)), chosen(3, operations(10_000, 100))
        (1, 3)
    """
    if asked is not None:
        return asked
    return 1 if work < SMALL else torch.get_num_threads()


@contextmanager
def threads(number: int) -> Generator[None]:
    """Within the block torch computes with so many threads.

    Args:
        number: Of threads.

    Yields:
        Nothing.
    """
    before = torch.get_num_threads()
    if number == before:
        yield
        return
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)
