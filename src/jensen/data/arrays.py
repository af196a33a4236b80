"""From an array in memory to a checked data set: what its cells hold, and why it can't be used."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jensen.data.dataset import Dataset, Kind, Schema
from jensen.errors import DataError

_CHUNK_CELLS = 1 << 20
# From here on float32 rounds to infinity: half a step above its largest number.
_FLOAT32_OVERFLOW = 2.0**128 - 2.0**103
# Above this, float32 no longer holds every whole number, so counting with it would be wrong.
_COUNT_MAX = 1 << 24


@dataclass(frozen=True)
class Facts:
    """What one pass over an array finds.

    Attributes:
        low: The smallest cell.
        high: The largest cell.
        fraction: A cell that is no whole number; None if all are.
    """

    low: float
    high: float
    fraction: float | None = None

    @property
    def integral(self) -> bool:
        """Whether all cells are whole numbers."""
        return self.fraction is None

    def merged(self, other: "Facts") -> "Facts":
        """What a pass over both arrays finds.

        Example:
            >>> Facts(0.0, 1.0).merged(Facts(0.5, 2.5, fraction=2.5))
            Facts(low=0.0, high=2.5, fraction=2.5)
        """
        fraction = other.fraction if self.fraction is None else self.fraction
        return Facts(min(self.low, other.low), max(self.high, other.high), fraction)


def facts_of(block: NDArray[Any]) -> Facts:
    """The facts about some cells, all of which are finite.

    Args:
        block: Cells, at least one.

    Returns:
        Their range, and one that is not whole if there is any.
    """
    low, high = float(block.min()), float(block.max())
    if block.dtype.kind != "f":
        return Facts(low, high)
    broken = block != np.floor(block)
    return Facts(low, high, float(block[broken][0]) if broken.any() else None)


def chunks(x: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
    """Goes through an array in blocks of rows, so that no check needs temporaries of the data's size.

    Args:
        x: Array (n, *event), not empty.

    Yields:
        The index of the block's first row, and the block (a view).
    """
    step = max(1, _CHUNK_CELLS // max(1, x.size // len(x)))
    for start in range(0, len(x), step):
        yield start, x[start : start + step]


def where(row: int, event: Sequence[int], columns: Sequence[str] | None) -> str:
    """The place of a cell in words, counted from 0."""
    if len(event) > 1:
        return f"row {row}, cell {tuple(event)}"
    return f"row {row}, column {event[0]}" + (f" ('{columns[event[0]]}')" if columns else "")


def _scan(x: NDArray[np.generic], name: str, columns: Sequence[str] | None, *, gaps: bool = False) -> Facts:
    """Finds the range of the cells and whether they are whole; refuses cells that are infinite, or NaN."""
    if x.dtype.kind != "f":
        return facts_of(x)
    found, not_finite, first = Facts(np.inf, -np.inf), 0, ""
    for start, block in chunks(x):
        finite = np.isfinite(block)
        if gaps and not finite.all():
            missing = np.isnan(block)
            finite |= missing
            block = block[~missing]
            if not block.size:
                continue
        if not finite.all():
            if not first:
                row, *event = np.argwhere(~finite)[0].tolist()
                first = where(start + row, event, columns)
            not_finite += finite.size - int(np.count_nonzero(finite))
            continue
        found = found.merged(facts_of(block))
    if not_finite:
        raise DataError(
            f"{name} has {not_finite} of {x.size} cells that are NaN or infinite, the first at {first} "
            "(counted from 0). "
            "Fill these cells or drop their rows; models that take missing cells (NaN) are ppca, "
            "factor-analysis, mixture, bernoulli-mixture and hmm."
        )
    return found


def kind_of(dtype: np.dtype[np.generic], facts: Facts, name: str, *, exact: bool = False) -> Kind:
    """What the cells hold, judged by all of them together.

    Args:
        dtype: In which they were given.
        facts: About all of them.
        name: How messages call the data.
        exact: Whether they are held as they are, so that float32 need not hold them.

    Returns:
        "binary" if all are in {0, 1}; "uint8" for other cells of that type; "counts" for other whole numbers
        from 0 to 2^24; else "real".

    Raises:
        DataError: If float32 can't hold them.
    """
    if not exact and max(abs(facts.low), abs(facts.high)) >= _FLOAT32_OVERFLOW:
        raise DataError(
            f"{name} has values from {facts.low:g} to {facts.high:g}, which float32 can't hold. "
            "Rescale the data, for instance to zero mean and unit variance."
        )
    if facts.integral and facts.low >= 0 and facts.high <= 1:
        return "binary"
    if dtype == np.uint8:
        return "uint8"
    if facts.integral and facts.low >= 0 and facts.high <= _COUNT_MAX:
        return "counts"
    return "real"


def dtype_of(kind: Kind) -> type[np.uint8] | type[np.float32]:
    """The dtype in which a data set holds cells of a kind.

    Args:
        kind: What a cell holds.

    Returns:
        ``numpy.uint8`` for binary cells and intensities, ``numpy.float32`` for counts and real numbers.

    Example:
        >>> dtype_of("counts").__name__
        'float32'
    """
    return np.uint8 if kind in ("binary", "uint8") else np.float32


def _as_numbers(x: ArrayLike, name: str) -> NDArray[np.generic]:
    """The data as a numeric array with at least two axes and one cell."""
    if isinstance(x, np.ma.MaskedArray) and bool(np.ma.is_masked(x)):
        raise DataError(f"{name} is a masked array with masked cells. Fill them with x.filled(value) first.")
    try:
        array = np.asarray(x)
    except (ValueError, TypeError) as error:
        raise DataError(
            f"{name} is no array of one shape ({error}). Give every row the same number of cells."
        ) from error
    if array.dtype.kind not in "buif":
        raise DataError(
            f"{name} has cells of type {array.dtype}, not numbers. "
            "Encode text and categories as numbers, or leave those columns out."
        )
    if array.ndim < 2:
        raise DataError(
            f"{name} has shape {array.shape}, where (n, ...) with at least two axes is needed; "
            "it looks like labels in place of data. A single column is x.reshape(-1, 1)."
        )
    if array.size == 0:
        raise DataError(f"{name} is empty: its shape is {array.shape}. Give at least one row with one cell.")
    return array


def _as_labels(y: ArrayLike, n: int, name: str, *, several: bool = False) -> NDArray[np.generic]:
    """The labels as an array (n,) of numbers or strings, or (n, d) of numbers where a datum may have several."""
    labels = np.asarray(y)
    if labels.dtype.kind == "O" and all(isinstance(label, str) for label in labels.flat):
        labels = labels.astype(str)
    if labels.shape == (n, 1):
        labels = labels[:, 0]
    columns = several and labels.ndim == 2 and len(labels) == n and labels.dtype.kind in "buif"
    if labels.shape != (n,) and not columns:
        raise DataError(
            f"{name} has labels of shape {labels.shape} for {n} data. Give one label for each datum: ({n},)."
        )
    if labels.dtype.kind not in "buifU":
        raise DataError(f"{name} has labels of type {labels.dtype}. Give whole numbers, numbers or strings.")
    if labels.dtype.kind == "f" and not np.isfinite(labels).all():
        bad = np.flatnonzero(~np.isfinite(labels).reshape(n, -1).all(1))
        raise DataError(
            f"{name} has {len(bad)} labels that are NaN or infinite, the first at row {bad[0]}. "
            "Fill them or drop their rows."
        )
    return labels


def from_array(
    x: ArrayLike,
    y: ArrayLike | None = None,
    *,
    name: str = "array",
    columns: Sequence[str] | None = None,
    source: str = "",
    exact: bool = False,
    several: bool = False,
) -> Dataset:
    """Makes a data set from an array: checks it and finds what its cells hold.

    All cells in {0, 1} make it "binary"; other uint8 arrays are "uint8"; other whole numbers from 0 to 2^24
    are "counts"; the rest is "real". A column that is constant is fine here (see ``constant_columns``).

    Args:
        x: The data, (n, *event): booleans, whole numbers or real numbers; at least two axes, no NaN, no inf.
        y: Labels (n,), where there are any: numbers or strings.
        name: How reports and messages call the data.
        columns: Names of the columns of a table (n, columns), each once.
        source: Where the data come from.
        exact: Whether NaN may stand for missing cells and cells are held as float64, as exact models want.
        several: Whether a datum may have several labels, numbers (n, d), as those that a regressor predicts.

    Returns:
        The data set. Binary cells and intensities are held as uint8, counts and real numbers as float32; the
        array is shared with ``x`` where no conversion is needed.

    Raises:
        DataError: If the data are empty, not numbers, not finite, have one axis only or overflow float32, or
            if the labels or names don't fit them.

    Example:
        >>> dataset = from_array([[0.5, 2.0], [1.5, -1.0]], columns=["height", "weight"])
        >>> dataset.schema.kind, dataset.schema.event_shape, len(dataset)
        ('real', (2,), 2)
    """
    array = _as_numbers(x, name)
    names = None if columns is None else tuple(columns)
    if names is not None and (array.ndim != 2 or len(names) != array.shape[1]):
        raise DataError(
            f"{name} has shape {array.shape} but {len(names)} column names. Give one name for each column."
        )
    if names is not None and len(set(names)) < len(names):
        twice = sorted({column for column in names if names.count(column) > 1})
        raise DataError(f"{name} has the column name '{twice[0]}' more than once. Rename one of them.")
    facts = _scan(array, name, names, gaps=exact)
    if facts.high < facts.low:
        raise DataError(
            f"{name} has no observed cell: all are NaN. Give data with at least one number in a column."
        )
    kind = kind_of(array.dtype, facts, name, exact=exact)
    return Dataset(
        x=np.ascontiguousarray(array, dtype=_exact_dtype(array) if exact else dtype_of(kind)),
        schema=Schema(event_shape=array.shape[1:], kind=kind, columns=names),
        y=None if y is None else _as_labels(y, len(array), name, several=several),
        name=name,
        source=source,
    )


def _exact_dtype(array: NDArray[np.generic]) -> type[np.generic]:
    """The array's own floating type, else float64."""
    return np.float32 if array.dtype == np.float32 else np.float64


def constant_columns(dataset: Dataset) -> list[int]:
    """The cells that have the same value in every datum, which a model with a learned scale can't use.

    Args:
        dataset: The data, (n, *event).

    Returns:
        Indices of these cells, counted over the flattened event.

    Example:
        >>> constant_columns(from_array([[1.0, 5.0], [2.5, 5.0]]))
        [1]
    """
    varies = np.zeros(dataset.x.shape[1:], dtype=bool)
    for _, block in chunks(dataset.x):
        varies |= (block != dataset.x[0]).any(axis=0)
    return [int(index) for index in np.flatnonzero(~varies)]
