"""Tables as shards: Parquet and Arrow IPC files, read by slices of rows."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jensen.data.numpy_files import damaged
from jensen.data.shards import Form, gone
from jensen.data.tables import INDEX_NAMES, label_place, polars_for
from jensen.errors import DataError

ARROW = (".arrow", ".feather")
_ROWS_FOR_INDEX = 1000


def _scan(path: Path) -> Any:
    """A lazy frame; nothing but the file's footer is read."""
    polars = polars_for(path)
    return polars.scan_ipc(path) if path.suffix.lower() in ARROW else polars.scan_parquet(path)


def _numbers(frame: Any) -> Any:
    """The same with types that numpy has: decimals as float64, booleans as bytes."""
    import polars

    return frame.with_columns(
        polars.col(polars.Decimal).cast(polars.Float64), polars.col(polars.Boolean).cast(polars.UInt8)
    )


@dataclass(frozen=True)
class TableShard:
    """A Parquet or Arrow IPC file; a slice of rows decodes only what it overlaps."""

    path: Path
    rows: int
    form: Form

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """The rows from ``start`` up to ``stop``; a missing cell is NaN."""
        import polars

        try:
            frame = _scan(self.path).slice(start, stop - start).select(self.form.columns)
            cells = _numbers(frame).collect().to_numpy()
        except (polars.exceptions.PolarsError, OSError) as error:
            raise gone(self.path, str(error).splitlines()[0]) from error
        if len(cells) < stop - start:
            raise gone(self.path, f"it had {self.rows} rows and ends before row {stop} now")
        return np.ascontiguousarray(cells)


def open_table(path: Path, target: str | int | None = None, like: Form | None = None) -> TableShard:
    """Reads names and types of a table.

    Args:
        path: The file.
        target: A column that holds labels, by name or place, which is left out.
        like: The form of the first shard: columns in another order are read in its order.

    Returns:
        The shard.

    Raises:
        DataError: If polars is not installed, the file is damaged, has no rows or no columns, or a column holds no
            numbers.
    """
    polars = polars_for(path)
    try:
        scan = _scan(path)
        schema = scan.collect_schema()
        rows = int(scan.select(polars.len()).collect().item())
        first = scan.head(1).collect()
    except (polars.exceptions.PolarsError, OSError) as error:
        raise damaged(path, str(error).splitlines()[0]) from error
    names = list(schema)
    if not rows or not names:
        raise DataError(f"{path} has no rows. Take it away, or write it again.")
    if target is not None:
        names.pop(label_place(path, names, target))
    if like is None and names and names[0] in INDEX_NAMES and _counts_rows(scan, names[0]):
        names = names[1:]
    if like is not None and like.columns is not None and set(like.columns) <= set(names):
        # A column of row numbers that the first shard had is not in its form.
        extra = set(names) - set(like.columns)
        names = list(like.columns) if extra <= set(INDEX_NAMES) else names
    _check_numbers(path, schema, names)
    cells = _numbers(first.select(names)).to_numpy()
    return TableShard(path, rows, Form((len(names),), cells.dtype, tuple(names)))


def _check_numbers(path: Path, schema: Any, names: Sequence[str]) -> None:
    """Refuses columns that hold no numbers."""
    import polars

    text = [
        name
        for name in names
        if not (schema[name].is_numeric() or schema[name] in (polars.Boolean, polars.Null))
    ]
    if text:
        shown = ", ".join(f"'{name}' ({schema[name]})" for name in text[:5])
        more = f", and {len(text) - 5} more" if len(text) > 5 else ""
        raise DataError(
            f"{path} has {len(text)} columns of its {len(names)} that hold no numbers: {shown}{more}. "
            "Encode them as numbers, or leave them out; one column may be the labels (target=)."
        )
    if not names:
        raise DataError(
            f"{path} has no column of data beside row numbers and labels. Give a table with at least one."
        )


def _counts_rows(scan: Any, name: str) -> bool:
    """Whether a first column only counts the rows, as far as the first of them tell."""
    cells = scan.select(name).head(_ROWS_FOR_INDEX).collect()[name]
    if not cells.dtype.is_integer():
        return False
    numbers, count = cells.to_numpy(), np.arange(len(cells))
    return bool((numbers == count).all() or (numbers == count + 1).all())
