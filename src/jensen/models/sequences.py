"""Sequences of unequal length as one array, NaN behind their ends."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from jensen.errors import DataError, ShapeError

CELLS = 2**22
"""States of sequences at once, about."""


def padded(sequences: Sequence[ArrayLike]) -> NDArray[np.float64]:
    """Sequences of unequal length as one array, NaN behind their ends.

    Args:
        sequences: Each (length,) or (length, D).

    Returns:
        (n, T) or (n, T, D).

    Raises:
        DataError: If one is empty or there are none.
        ShapeError: If their cells differ.

    Example:
        >>> padded([[1.0, 2.0], [3.0]])
        array([[ 1.,  2.],
               [ 3., nan]])
    """
    arrays = [np.asarray(sequence, dtype=np.float64) for sequence in sequences]
    if not arrays:
        raise DataError("there are no sequences; give at least one")
    empty = [i for i, array in enumerate(arrays) if array.ndim == 0 or len(array) == 0]
    if empty:
        raise DataError(f"sequence {empty[0]} (counted from 0) has length 0; leave it out")
    if len({array.shape[1:] for array in arrays}) > 1:
        raise ShapeError(
            f"sequences should all have the same cells, got shapes {sorted({a.shape[1:] for a in arrays})}"
        )
    result = np.full((len(arrays), max(len(a) for a in arrays), *arrays[0].shape[1:]), np.nan)
    for row, array in zip(result, arrays, strict=True):
        row[: len(array)] = array
    return result


@dataclass(frozen=True)
class Batch:
    """Some sequences, time first.

    Attributes:
        x: (T, B, D); missing cells are zero.
        observed: (T, B, D); None where all cells within the sequences were observed.
        present: Whether anything was observed at a time, (T, B).
        lengths: (B,).
        rows: Which sequences they are.
    """

    x: Float[Tensor, "t b d"]
    observed: Bool[Tensor, "t b d"] | None
    present: Bool[Tensor, "t b"]
    lengths: Int[Tensor, " b"]
    rows: NDArray[np.int64]


class Sequences:
    """Sequences in an array, gone through in batches of similar length.

    Args:
        array: (n, T) or (n, T, D); NaN behind a sequence's end, and where a cell is missing.

    Raises:
        DataError: If a sequence has length 0 or a cell is infinite.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self.array: NDArray[Any] = array if array.ndim == 3 else array[..., None]
        if np.isinf(self.array).any():
            raise DataError("the sequences have infinite cells; remove them")
        there: NDArray[np.bool_] = np.asarray(~np.isnan(self.array).all(2))
        steps = there.shape[1]
        self.lengths = np.where(there.any(1), steps - there[:, ::-1].argmax(1), 0)
        empty = np.flatnonzero(self.lengths == 0)
        if len(empty):
            raise DataError(
                f"sequence {empty[0]} (counted from 0) has length 0: all its cells are missing; leave it out"
            )
        self.missing = bool(np.isnan(self.array).any())

    def __len__(self) -> int:
        """Number of sequences."""
        return len(self.array)

    @property
    def dim(self) -> int:
        """Cells at a time."""
        return self.array.shape[2]

    def steps(self) -> NDArray[np.float64]:
        """All times at which something was observed, (total, D)."""
        flat = self.array.reshape(-1, self.dim)
        return np.asarray(flat[~np.isnan(flat).all(1)], dtype=np.float64)

    def batches(self, states: int) -> Iterator[Batch]:
        """The sequences, the longest last."""
        order = np.argsort(self.lengths, kind="stable")
        start = 0
        while start < len(order):
            longest = int(self.lengths[order[start]])
            size = max(1, CELLS // (longest * states))
            longest = int(self.lengths[order[min(start + size, len(order)) - 1]])
            size = min(size, max(1, 2 * CELLS // (longest * states)))
            rows = order[start : start + size]
            yield self._batch(rows)
            start += size

    def _batch(self, rows: NDArray[np.int64]) -> Batch:
        lengths = torch.from_numpy(self.lengths[rows].astype(np.int64))
        longest = int(lengths.max())
        some = np.array(self.array[rows, :longest], dtype=np.float64)
        x = torch.from_numpy(np.ascontiguousarray(some.swapaxes(0, 1)))
        inside = torch.arange(longest)[:, None] < lengths
        if not self.missing:
            return Batch(x, None, inside, lengths, rows)
        seen = ~x.isnan()
        present = seen.any(2)
        whole = bool((seen == present[..., None]).all())
        return Batch(torch.where(seen, x, 0.0), None if whole else seen, present, lengths, rows)
