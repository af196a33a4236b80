"""How much is computed at once."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from jensen.models import Model

MEMORY = 16 * 2**20
"""Bytes of intermediate results at once. Small enough to stay in a processor's cache, large enough for its
matrix products; on a GPU give more."""


def part(values: Tensor | None, rows: slice) -> Tensor | None:
    """Some of the rows, if there are any."""
    return None if values is None else values[rows]


def row_bytes(model: Model, x: Tensor, context: Tensor | None, observed: Tensor | None) -> int:
    """Bytes of intermediate results of one draw for one datum; it doesn't depend on how many data there are."""
    one = slice(0, 1)
    with _counted_outputs() as count:
        model.terms(x[one], part(context, one), part(observed, one), samples=1)
    # The likelihood makes about four more arrays of the size of a datum.
    return count[0] + 4 * x[0].numel() * x.element_size()


@contextmanager
def _counted_outputs() -> Generator[list[int]]:
    """Counts the bytes that modules return within the block."""
    count = [0]

    def add(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not list(module.children()):
            count[0] += output.numel() * output.element_size()

    handle = torch.nn.modules.module.register_module_forward_hook(add)
    try:
        yield count
    finally:
        handle.remove()
