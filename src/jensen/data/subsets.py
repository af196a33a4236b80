"""Parts of a data set: random splits and chosen rows."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jensen.data.dataset import Dataset
from jensen.errors import DataError


def permutation(n: int, seed: int) -> NDArray[np.intp]:
    """A random order of 0..n-1 that is the same for a seed on every machine and version of numpy.

    numpy promises the raw numbers of a bit generator for good, but not what ``Generator.permutation`` makes
    of them; fixed splits are therefore made by sorting raw numbers.

    Args:
        n: How many.
        seed: The seed.

    Returns:
        The order (n,).

    Example:
        >>> sorted(permutation(5, seed=0).tolist())
        [0, 1, 2, 3, 4]
    """
    return np.argsort(np.random.PCG64(seed).random_raw(n), kind="stable")


def take(dataset: Dataset, indices: slice | Sequence[int] | NDArray[Any]) -> Dataset:
    """The data set of some of the data.

    Args:
        dataset: The data.
        indices: A slice, whole numbers (negative ones count from the end), or n booleans.

    Returns:
        These data in this order, with the same schema. A slice shares memory with ``dataset``.

    Raises:
        DataError: If an index is out of range, no index at all, or nothing is left.

    Example:
        >>> from jensen.data import from_array
        >>> take(from_array([[1.5], [2.5], [3.5]]), [2, 0]).x[:, 0].tolist()
        [3.5, 1.5]
    """
    rows = indices if isinstance(indices, slice) else _rows(np.asarray(indices), len(dataset))
    x = dataset.x[rows]
    if not len(x):
        raise DataError(
            f"no datum of {dataset.name} is left. Choose at least one of its {len(dataset)} data."
        )
    return replace(dataset, x=x, y=None if dataset.y is None else dataset.y[rows])


def _rows(indices: NDArray[Any], n: int) -> NDArray[Any]:
    """Indices along one axis that are within range."""
    if not indices.size:
        return np.empty(0, dtype=np.intp)
    if indices.ndim != 1 or indices.dtype.kind not in "iub":
        raise DataError(
            f"got indices of type {indices.dtype} and shape {indices.shape}. "
            "Give a slice or whole numbers along one axis."
        )
    if indices.dtype.kind == "b":
        if len(indices) != n:
            raise DataError(f"got {len(indices)} booleans for {n} data. Give one for each datum.")
    elif indices.min() < -n or indices.max() >= n:
        raise DataError(
            f"got indices from {indices.min()} to {indices.max()} for {n} data. Keep them below {n}."
        )
    return indices


def held_out(n: int, fraction: float) -> int:
    """How many data a fraction of them to validate on is.

    Args:
        n: Number of data.
        fraction: Between 0 and 1.

    Returns:
        The nearest whole number.

    Raises:
        DataError: If the fraction is not between 0 and 1, or so that a part would be empty.

    Example:
        >>> held_out(50, 0.1)
        5
    """
    if not 0 < fraction < 1:
        raise DataError(
            f"got a fraction of {fraction} to validate on. Give a number between 0 and 1, as in 0.1."
        )
    count = round(n * fraction)
    if not 0 < count < n:
        raise DataError(
            f"a fraction of {fraction} of {n} data leaves {count} to validate on and {n - count} to train "
            "on. Both need at least one: choose another fraction, or more data."
        )
    return count


def split(dataset: Dataset, fraction: float, seed: int = 0) -> tuple[Dataset, Dataset]:
    """Splits data at random into a part to train on and a part to validate on.

    Args:
        dataset: The data.
        fraction: The share of the second part, between 0 and 1.
        seed: The seed; the same seed gives the same parts on every machine.

    Returns:
        The data to train on and those to validate on, each in the order that they had.

    Raises:
        DataError: If the fraction is not between 0 and 1, or so that a part would be empty.

    Example:
        >>> from jensen.data import from_array
        >>> train, valid = split(from_array([[1.5], [2.5], [3.5], [4.5]]), 0.25)
        >>> len(train), len(valid)
        (3, 1)
    """
    n = len(dataset)
    count = held_out(n, fraction)
    order = permutation(n, seed)
    return take(dataset, np.sort(order[count:])), take(dataset, np.sort(order[:count]))
