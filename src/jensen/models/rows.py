"""Data for exact models: rows of float64 in chunks of bounded memory, wherever the array lies."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from jensen.errors import DataError
from jensen.models.stored_array import StoredArray

CELLS = 2**20
"""Cells in a chunk, about."""


@dataclass(frozen=True)
class Rows:
    """An array whose rows are gone through in chunks; one on disk is never read as a whole.

    Attributes:
        array: Data (n, *event) of any number type, in memory or on disk (``numpy.memmap``, ``StoredArray``); NaN where
            a cell is missing.
        cells: Cells in a chunk.

    Example:
        >>> [len(chunk) for chunk in Rows(np.zeros((5, 2)), cells=4)]
        [2, 2, 1]
    """

    array: NDArray[Any] | StoredArray
    cells: int = CELLS

    def __len__(self) -> int:
        """Number of data."""
        return len(self.array)

    @property
    def dim(self) -> int:
        """Cells of a datum."""
        return prod(self.array.shape[1:])

    def __iter__(self) -> Iterator[Float[Tensor, "chunk d"]]:
        """The rows in chunks, float64, each a copy."""
        step = max(1, self.cells // max(1, self.dim))
        for start in range(0, len(self), step):
            yield self[start : start + step]

    def __getitem__(self, rows: slice | NDArray[Any]) -> Float[Tensor, "chunk d"]:
        """Some rows, float64, as a copy."""
        return self._tensor(self.array[rows])

    @property
    def whole(self) -> NDArray[Any]:
        """The array itself.

        Raises:
            DataError: If the data stay on disk and can be read by rows only.
        """
        if isinstance(self.array, StoredArray):
            raise DataError(
                f"this way of fitting needs all of {self.array.stored.name} in memory, and they were opened on disk; "
                "load them (--no-stream, jensen.data.load(path, exact=True)), or choose another option, such as "
                "solver='em'"
            )
        return self.array

    def some(self, n: int, generator: torch.Generator) -> "Rows":
        """So many rows at random, in memory, in their order; all if there are no more."""
        if n >= len(self):
            return self
        chosen = torch.randperm(len(self), generator=generator)[:n].sort().values.numpy()
        return Rows(self[chosen].numpy(), self.cells)

    def shuffled(self, size: int, generator: torch.Generator) -> Iterator[Float[Tensor, "chunk d"]]:
        """All rows in parts of that size, in a random order; of what stays on disk, blocks are mixed."""
        if isinstance(self.array, StoredArray):
            yield from map(self._tensor, self.array.shuffled(size, generator))
            return
        order = torch.randperm(len(self), generator=generator).numpy()
        for start in range(0, len(order), size):
            yield self[np.sort(order[start : start + size])]

    def _tensor(self, some: NDArray[Any]) -> Tensor:
        some = np.array(some, dtype=np.float64, copy=True)
        return torch.from_numpy(some.reshape(len(some), self.dim))


def split_missing(
    x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
) -> tuple[Float[Tensor, "n d"], Bool[Tensor, "n d"] | None]:
    """Data with zeros in missing cells, and the mask of the others.

    Args:
        x: Data; NaN where a cell is missing.
        observed: True where a cell was observed; NaN cells count as missing in any case.

    Returns:
        The data, and the mask; None where every cell was observed.
    """
    # A sum is finite only if all cells are, and costs less than a mask.
    if observed is None and bool(torch.isfinite(x.sum())):
        return x, None
    present = ~x.isnan() if observed is None else observed & ~x.isnan()
    if bool(present.all()):
        return x, None
    return torch.where(present, x, 0.0), present


def patterns(observed: Bool[Tensor, "n d"]) -> tuple[Bool[Tensor, "b d"], Tensor]:
    """The different rows of a mask, and which of them each row is.

    Example:
        >>> mask = torch.tensor([[True, False], [True, True], [True, False]])
        >>> patterns(mask)[1].tolist()
        [0, 1, 0]
    """
    mask = observed.cpu().numpy()
    packed = np.ascontiguousarray(np.packbits(mask, axis=1))
    keys = packed.view(np.dtype((np.void, packed.shape[1])))[:, 0]
    _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
    found = torch.from_numpy(mask[first])
    return found.to(observed.device), torch.from_numpy(inverse.reshape(-1)).to(observed.device)


@dataclass(frozen=True)
class Columns:
    """What one pass says of each column, of its observed cells.

    Attributes:
        count: Observed cells, (d,).
        mean: (d,).
        variance: With 1/n, (d,).
        missing: Whether a cell is missing anywhere.
    """

    count: Float[Tensor, " d"]
    mean: Float[Tensor, " d"]
    variance: Float[Tensor, " d"]
    missing: bool


def columns(rows: Rows) -> Columns:
    """Mean and variance of each column in one pass, chunk by chunk.

    Raises:
        DataError: If a column has no observed cell, or a cell is infinite or its square is.
    """
    count = torch.zeros(rows.dim, dtype=torch.float64)
    mean, scatter = torch.zeros_like(count), torch.zeros_like(count)
    missing = False
    for chunk in rows:
        x, observed = split_missing(chunk)
        if not bool(torch.isfinite(x.sum(0)).all()):
            raise DataError("the data have infinite cells (or too large for float64); remove or rescale them")
        missing |= observed is not None
        mask = torch.ones_like(x) if observed is None else observed.to(x.dtype)
        n = mask.sum(0)
        own = x.sum(0) / n.clamp(min=1)
        delta = own - mean
        total = (count + n).clamp(min=1)
        scatter += ((x - own) * mask).square().sum(0) + delta.square() * count * n / total
        mean += delta * n / total
        count += n
    empty = (count == 0).nonzero()[:, 0].tolist()
    if empty:
        raise DataError(
            f"column {empty[0]} (counted from 0) has no observed cell"
            f"{f', and {len(empty) - 1} more' if len(empty) > 1 else ''}; leave it out"
        )
    if not bool(torch.isfinite(scatter).all()):
        raise DataError("the data are so large that their squares leave float64; rescale them")
    return Columns(count, mean, scatter / count, missing)


def scatter(rows: Rows, mean: Float[Tensor, " d"]) -> Float[Tensor, "d d"]:
    """Sum of (x - mean)(x - mean)^T over the data, chunk by chunk, (D, D); missing cells count as zeros."""
    total = torch.zeros(rows.dim, rows.dim, dtype=torch.float64).numpy()
    for chunk in rows:
        centred = split_missing(chunk.sub_(mean))[0].numpy()
        # numpy takes a product with its own transpose for the symmetric one, at half the work.
        total += centred.T @ centred
    return torch.from_numpy(total)


def covariance(rows: Rows, spread: Columns) -> Float[Tensor, "d d"]:
    """Covariance with divisor n; a missing cell counts as its column's mean, with its column's variance.

    Args:
        rows: Data.
        spread: What ``columns`` said of them.

    Example:
        >>> rows = Rows(np.array([[1.0, 2.0], [3.0, np.nan], [5.0, 6.0]]))
        >>> covariance(rows, columns(rows)).tolist()
        [[2.6666666666666665, 2.6666666666666665], [2.6666666666666665, 4.0]]
    """
    total = scatter(rows, spread.mean)
    total.diagonal().add_((len(rows) - spread.count) * spread.variance)
    return total / len(rows)
