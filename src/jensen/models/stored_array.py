"""Data on disk as an array of rows, read block by block."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jensen.data import Stored

BUFFER = 16
"""Blocks that are mixed at once."""


class StoredArray:
    """Rows of data that stay on disk, asked for by slices and by places; one block is kept between two questions.

    Args:
        stored: The data.

    Attributes:
        shape: (n, *event).
        dtype: Of the cells.
    """

    def __init__(self, stored: Stored) -> None:
        self.stored = stored
        self.shape = (len(stored), *stored.schema.event_shape)
        self.dtype = stored.dtype
        self._edges = np.concatenate([[0], np.cumsum(stored.counts)])
        self._kept: tuple[int, NDArray[Any]] = (-1, np.empty(0))

    def __len__(self) -> int:
        """Number of data."""
        return self.shape[0]

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> NDArray[Any]:
        """Rows one after the other, or at places in ascending order, (rows, *event)."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(len(self))
            first, last = self._edges.searchsorted([start, max(start, stop - 1)], side="right") - 1
            parts = [
                self._block(block)[max(0, start - self._edges[block]) : stop - self._edges[block]]
                for block in range(int(first), int(last) + 1)
            ]
        else:
            where = self._edges.searchsorted(rows, side="right") - 1
            parts = [
                self._block(int(block))[rows[where == block] - self._edges[block]]
                for block in np.unique(where)
            ]
        return np.concatenate(parts) if parts else np.empty((0, *self.shape[1:]), self.dtype)

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[NDArray[Any]]:
        """All rows in parts of ``size``: blocks in a random order, the rows of some of them mixed."""
        order = torch.randperm(len(self.stored.counts), generator=generator).numpy()
        rest = np.empty((0, *self.shape[1:]), self.dtype)
        for first in range(0, len(order), BUFFER):
            blocks = [self.stored.read(int(block)) for block in order[first : first + BUFFER]]
            rest = np.concatenate([rest, *blocks])
            rest = rest[torch.randperm(len(rest), generator=generator).numpy()]
            while len(rest) >= size:
                yield rest[:size]
                rest = rest[size:]
        if len(rest):
            yield rest

    def _block(self, block: int) -> NDArray[Any]:
        if self._kept[0] != block:
            self._kept = (block, self.stored.read(block))
        return self._kept[1]
