"""Reads tables: .csv, .parquet, .arrow and .feather."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jensen.data.arrays import from_array
from jensen.data.dataset import Dataset
from jensen.data.numpy_files import damaged
from jensen.errors import DataError

_MISSING = ["", "?", "NA", "N/A", "NaN", "nan", "null", "NULL", "None"]
_SEPARATORS = ",;\t"
INDEX_NAMES = ("", "rownames", "Unnamed: 0")
_ROWS_FOR_HEADER = 20


@dataclass(frozen=True)
class _Head:
    """What the first rows of a .csv say about the rest."""

    separator: str
    names: tuple[str, ...] | None
    width: int


def _is_number(cell: str) -> bool:
    """Whether a cell reads as a number."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _head(path: Path) -> _Head:
    """Finds separator and header.

    The first row is a header if some column has text in it and only numbers below, or if all of its cells are
    text and nothing else is known (a table all of text).
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            first = file.readline()
            separator = max(_SEPARATORS, key=first.count)
            file.seek(0)
            reader = csv.reader(file, delimiter=separator)
            rows = [
                [cell.strip() for cell in row]
                for row, _ in zip(reader, range(_ROWS_FOR_HEADER), strict=False)
            ]
    except UnicodeDecodeError as error:
        raise _other_encoding(path, error) from error
    except csv.Error as error:
        raise damaged(path, error) from error
    rows = [row for row in rows if row]
    if not rows:
        raise DataError(f"{path} has no rows. Give a file with at least one row of numbers.")
    top, body = rows[0], rows[1:]
    below = [[row[i] for row in body if i < len(row) and row[i] not in _MISSING] for i in range(len(top))]
    text_above = [cell not in _MISSING and not _is_number(cell) for cell in top]
    numbers_below = [bool(cells) and all(map(_is_number, cells)) for cells in below]
    numeric = any(text and number for text, number in zip(text_above, numbers_below, strict=True))
    all_text = all(text_above) and not any(numbers_below)
    is_header = numeric or (all_text and len(set(top)) == len(top))
    if is_header and not body:
        raise DataError(f"{path} has a header but no rows. Give a file with at least one row of numbers.")
    return _Head(separator, tuple(top) if is_header else None, len(top))


def polars_for(path: Path) -> Any:
    """The module polars.

    Args:
        path: The table that it is wanted for.

    Returns:
        The module.

    Raises:
        DataError: If it is not installed.
    """
    try:
        import polars
    except ImportError as error:
        raise DataError(
            f"{path} is a table, and reading tables needs polars. Install it: pip install 'jensen[tables]'."
        ) from error
    return polars


def read_table(path: Path, target: str | int | None = None, *, exact: bool = False) -> Dataset:
    """Reads a table of numbers from a .csv, .parquet, .arrow or .feather file.

    A .csv may have a header or none, and commas, semicolons or tabs. A first column that only counts the rows
    (named "rownames", "Unnamed: 0" or not at all) is left out.

    Args:
        path: The file.
        target: A column to be taken as labels: its name, or its place (-1 is the last). It may hold text.
        exact: See ``from_array``; missing cells become NaN.

    Returns:
        The data set (n, columns); the names of the columns are those of the header.

    Raises:
        DataError: If polars is not installed, the file is damaged or has no rows, a column holds text, or
            cells are missing.
    """
    polars = polars_for(path)
    import narwhals as nw

    is_csv = path.suffix.lower() == ".csv"
    head = _head(path) if is_csv else None
    try:
        if head is not None:
            frame = nw.read_csv(
                str(path),
                backend="polars",
                separator=head.separator,
                has_header=head.names is not None,
                null_values=_MISSING,
                # All rows are looked at: a column may turn to text late in the file.
                infer_schema_length=None,
            )
        elif path.suffix.lower() == ".parquet":
            frame = nw.read_parquet(str(path), backend="polars")
        else:
            frame = nw.from_native(polars.scan_ipc(path).collect(), eager_only=True)
    except (polars.exceptions.PolarsError, OSError, ValueError) as error:
        if head is not None:
            _check_widths(path, head)
        raise damaged(path, str(error).splitlines()[0]) from error
    if is_csv:
        frame = _without_blank_end(path, frame)
    names = _names(path, frame, head)
    if not len(frame) or not names:
        raise DataError(f"{path} has no rows. Give a file with at least one row of numbers.")
    return _dataset(
        path, frame, names, named=head is None or head.names is not None, target=target, exact=exact
    )


def _check_widths(path: Path, head: _Head) -> None:
    """Says where a .csv that can't be read has a line of another encoding or with too many cells."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=head.separator)
            for row in reader:
                if len(row) > head.width:
                    raise DataError(
                        f"{path} has {len(row)} cells in line {reader.line_num}, but {head.width} in its first line. "
                        "Give every row the same number of cells."
                    )
    except UnicodeDecodeError as error:
        raise _other_encoding(path, error) from error
    except csv.Error:
        return


def _other_encoding(path: Path, error: UnicodeDecodeError) -> DataError:
    return DataError(
        f"{path} is no UTF-8 text (byte {error.object[error.start]:#04x}), which a .csv has to be. Save it in that "
        "encoding."
    )


def _without_blank_end(path: Path, frame: Any) -> Any:
    """Leaves out blank lines at a file's end, which the reader takes for rows of missing cells."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 4096))
        tail = file.read()
    for _ in range(tail[len(tail.rstrip(b"\r\n")) :].count(b"\n") - 1):
        if len(frame) and all(cell is None for cell in frame.row(len(frame) - 1)):
            frame = frame.head(len(frame) - 1)
    return frame


def _names(path: Path, frame: Any, head: _Head | None) -> list[str]:
    """The names that messages use: those of the header, else "column 1", "column 2", ..."""
    if head is None:
        return [str(name) for name in frame.columns]
    if head.names is None:
        return [f"column {place + 1}" for place in range(len(frame.columns))]
    if len(head.names) != len(frame.columns):
        raise damaged(path, f"its header has {len(head.names)} names for {len(frame.columns)} columns")
    return list(head.names)


def _dataset(
    path: Path, frame: Any, names: list[str], *, named: bool, target: str | int | None, exact: bool
) -> Dataset:
    """Takes index and labels out of a frame, and makes numbers of the rest."""
    places = list(range(len(names)))
    y = None
    if target is not None:
        place = label_place(path, names, target)
        places.remove(place)
        y = _labels(path, frame[frame.columns[place]], names[place])
    columns = {place: _Column.of(frame[frame.columns[place]], gaps=exact) for place in places}
    if named and places and _counts_rows(names[places[0]], columns[places[0]]):
        places = places[1:]
    text = [place for place in places if columns[place].text is not None]
    if text:
        shown = "; ".join(f"'{names[place]}' has '{columns[place].text}'" for place in text[:5])
        more = f", and {len(text) - 5} more" if len(text) > 5 else ""
        raise DataError(
            f"{path} has text in {len(text)} of its {len(places)} columns: {shown}{more}. "
            "Encode them as numbers, or leave them out; one column may be the labels (target=)."
        )
    gaps = {names[place]: columns[place].missing for place in places if columns[place].missing}
    if gaps and not exact:
        shown = ", ".join(f"'{name}' ({count})" for name, count in list(gaps.items())[:5])
        more = f" and {len(gaps) - 5} more" if len(gaps) > 5 else ""
        raise DataError(
            f"{path} has {sum(gaps.values())} missing cells, in the columns {shown}{more}. "
            "Fill them or drop their rows; models that take missing cells are ppca, factor-analysis, mixture, "
            "bernoulli-mixture and hmm."
        )
    if not places:
        raise DataError(
            f"{path} has no column of data beside row numbers and labels. Give a table with at least one."
        )
    x = _stack([columns[place].numbers for place in places])
    header = [names[place] for place in places] if named else None
    dataset = from_array(x, y, name=path.stem, columns=header, source=str(path), exact=exact)
    return replace(dataset, target=target)


def _stack(columns: Sequence[NDArray[np.generic]]) -> NDArray[np.generic]:
    """Columns side by side; numbers of one small type keep it, as pixels in a .parquet do."""
    return np.stack(columns, axis=1)


@dataclass(frozen=True)
class _Column:
    """One column as numbers, or the first text in it; how many cells are missing."""

    numbers: NDArray[np.generic]
    missing: int
    text: str | None = None

    @classmethod
    def of(cls, series: Any, *, gaps: bool = False) -> "_Column":
        """Reads a column of a data frame."""
        import narwhals as nw

        empty = np.empty(0)
        if series.dtype == nw.String or series.dtype == nw.Categorical:
            return cls._of_text(series.cast(nw.String), gaps=gaps)
        missing = int(series.null_count())
        if not (series.dtype.is_numeric() or series.dtype == nw.Boolean):
            if missing == len(series):
                return cls(np.full(missing, np.nan) if gaps else empty, missing)
            return cls(empty, missing, text=str(series.drop_nulls()[0]))
        if series.dtype.is_float():
            missing += int(series.is_nan().sum() or 0)
        if missing and not gaps:
            return cls(empty, missing)
        numbers = series.cast(nw.Float64) if series.dtype.is_decimal() else series
        if missing:
            numbers = numbers.cast(nw.Float64)
        return cls(np.asarray(numbers.to_numpy()), missing)

    @classmethod
    def _of_text(cls, series: Any, *, gaps: bool) -> "_Column":
        """Reads a column of strings, which may still be numbers with spaces around them."""
        cells = [None if cell is None else cell.strip() for cell in series.to_list()]
        present = [cell for cell in cells if cell is not None and cell not in _MISSING]
        text = next((cell for cell in present if not _is_number(cell)), None)
        missing = len(cells) - len(present)
        if text is not None or (missing and not gaps):
            return cls(np.empty(0), missing, text=text)
        numbers = [np.nan if cell is None or cell in _MISSING else float(cell) for cell in cells]
        return cls(np.array(numbers), missing)


def _counts_rows(name: str, column: _Column) -> bool:
    """Whether a column is no data but only counts the rows, from 0 or 1."""
    if name not in INDEX_NAMES or not len(column.numbers):
        return False
    count = np.arange(len(column.numbers))
    return bool((column.numbers == count).all() or (column.numbers == count + 1).all())


def label_place(path: Path, names: list[str], target: str | int) -> int:
    """Where the column of the labels is.

    Args:
        path: The table.
        names: Of its columns.
        target: The column, by name or by place (-1 is the last).

    Returns:
        Its place, counted from 0.

    Raises:
        DataError: If there is no such column.
    """
    if isinstance(target, str):
        if target in names:
            return names.index(target)
        raise DataError(f"{path} has no column '{target}' for the labels. It has: {', '.join(names)}.")
    if -len(names) <= target < len(names):
        return target % len(names)
    raise DataError(
        f"{path} has no column {target} for the labels: it has {len(names)}. Count from 0, or use -1."
    )


def _labels(path: Path, series: Any, name: str) -> NDArray[np.generic]:
    """The labels as numbers where all of them are, else as strings."""
    column = _Column.of(series)
    if column.missing:
        raise DataError(
            f"{path} has {column.missing} missing labels in column '{name}'. Fill them or drop their rows."
        )
    if column.text is not None:
        return np.array([str(cell).strip() for cell in series.to_list()])
    whole = column.numbers.dtype.kind == "f" and bool((column.numbers == np.floor(column.numbers)).all())
    return column.numbers.astype(np.int64) if whole else column.numbers
