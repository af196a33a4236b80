"""What to do when memory runs out."""

from collections.abc import Generator
from contextlib import contextmanager

import torch

from jensen.errors import FitError


@contextmanager
def saying_what_to_lower() -> Generator[None]:
    """Turns running out of memory, on a GPU or the CPU, into an error that names the options that help.

    Raises:
        FitError: In that case.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        first = (str(error).splitlines() or [""])[0]
        on_cpu = isinstance(error, MemoryError) or "can't allocate memory" in first
        if not on_cpu and not isinstance(error, torch.OutOfMemoryError):
            raise
        raise FitError(
            f"out of memory ({first or type(error).__name__}); raise accumulate, so that a batch is taken in "
            "parts, or lower batch_size, samples or the network's hidden widths or channels; checkpointing=true "
            "and precision=bf16-mixed help as well. What was saved last is kept"
        ) from error
