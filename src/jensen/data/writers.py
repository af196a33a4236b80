"""Writes arrays to files, each as a whole or not at all."""

import csv
import io
import os
import uuid
import zipfile
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import ArrayLike, NDArray

from jensen.data.arrays import chunks
from jensen.errors import DataError

_ENDINGS = (".npy", ".npz", ".csv")


def write(path: str | Path, array: ArrayLike, columns: Sequence[str] | None = None) -> None:
    """Writes an array to a .npy, .npz (key ``x``) or .csv file.

    The file appears as a whole or not at all: it is written beside its place, flushed to the disk and then
    renamed. Folders on the way are made.

    Args:
        path: The file; its ending says the format.
        array: Numbers (or strings). A .csv takes one or two axes; its numbers are the shortest that read back
            the same.
        columns: Names of the columns: the header of a .csv, the key ``columns`` of a .npz; a .npy has no
            place for them.

    Raises:
        DataError: If the ending is another, the array doesn't fit the format, or the file can't be written.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write(f"{folder.name}/x.csv", np.array([[1.5, 2.0]]), columns=["height", "weight"])
        >>> print(Path(folder.name, "x.csv").read_text())
        height,weight
        1.5,2.0
        <BLANKLINE>
        >>> folder.cleanup()
    """
    path, values = Path(path), np.asarray(array)
    ending = _ending(path)
    values = _checked(path, values, columns)
    with _placed(path) as file:
        _write(file, ending, values, columns)


def write_blocks(
    path: str | Path, blocks: Iterable[NDArray[Any]], n: int, columns: Sequence[str] | None = None
) -> tuple[int, ...]:
    """Writes an array that comes in blocks of rows, with memory for one block.

    Like ``write``, the file appears as a whole or not at all.

    Args:
        path: The file; its ending says the format, as in ``write``.
        blocks: The rows in their order, (rows, *event) each.
        n: How many rows there are in all.
        columns: Names of the columns, as in ``write``.

    Returns:
        The shape of what was written, (n, *event).

    Raises:
        DataError: As in ``write``, or if the blocks don't have n rows together, or differ in shape or type.

    Example:
        >>> import tempfile
        >>> folder = tempfile.TemporaryDirectory()
        >>> write_blocks(f"{folder.name}/x.npy", (np.full((2, 3), i) for i in range(4)), 8)
        (8, 3)
        >>> np.load(f"{folder.name}/x.npy")[:, 0].tolist()
        [0, 0, 1, 1, 2, 2, 3, 3]
        >>> folder.cleanup()
    """
    path, left = Path(path), iter(blocks)
    ending = _ending(path)
    first = next(left, None)
    if first is None:
        raise DataError(f"can't write {path}: there are no blocks. Give at least one.")
    first = _checked(path, np.ascontiguousarray(first), columns)
    shape = (n, *first.shape[1:])

    def same() -> Iterator[NDArray[Any]]:
        rows = 0
        for block in chain([first], left):
            mine = _checked(path, np.ascontiguousarray(block), columns)
            rows += len(mine)
            if mine.shape[1:] != first.shape[1:] or mine.dtype != first.dtype or rows > n:
                raise DataError(
                    f"can't write {path}: a block of shape {mine.shape} and type {mine.dtype} doesn't fit into an "
                    f"array of shape {shape} and type {first.dtype}. Give blocks of one form."
                )
            yield mine
        if rows < n:
            raise DataError(
                f"can't write {path}: the blocks have {rows} rows, wanted are {n}. Give all of them."
            )

    with _placed(path) as file:
        if ending == ".csv":
            for number, block in enumerate(same()):
                _write_csv(file, block, columns if number == 0 else None)
        elif ending == ".npy":
            _write_npy(file, same(), shape, first.dtype)
        else:
            with zipfile.ZipFile(file, "w", allowZip64=True) as archive:
                with archive.open("x.npy", "w", force_zip64=True) as entry:
                    _write_npy(entry, same(), shape, first.dtype)
                if columns is not None:
                    with archive.open("columns.npy", "w") as entry:
                        np.lib.format.write_array(entry, np.asarray(columns, dtype=str), allow_pickle=False)
    return shape


def _ending(path: Path) -> str:
    """The ending of a path, if it is that of a format that can be written."""
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise DataError(
            f"can't write {path}: its ending is '{path.suffix}'. Use one of {', '.join(_ENDINGS)}."
        )
    return ending


def _checked(path: Path, values: NDArray[Any], columns: Sequence[str] | None) -> NDArray[Any]:
    """The values in the form that they are written in, if they can be."""
    csv_wanted = path.suffix.lower() == ".csv"
    if values.dtype.kind not in "buifU":
        raise DataError(f"can't write {path}: its cells are of type {values.dtype}. Give numbers or strings.")
    if csv_wanted and values.ndim not in (1, 2):
        raise DataError(
            f"can't write {path}: an array of shape {values.shape} is no table. "
            "Flatten it to (n, columns), or end the file in .npy."
        )
    if csv_wanted and values.ndim == 1:
        values = values[:, None]
    if columns is not None and (values.ndim != 2 or values.shape[1] != len(columns)):
        raise DataError(
            f"can't write {path}: {len(columns)} column names for an array of shape {values.shape}. "
            "Give one name for each column."
        )
    return values


@contextmanager
def _placed(path: Path) -> Generator[BinaryIO]:
    """A file beside its place, which takes it when all is written and on the disk."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"can't write {path} ({error}). Choose another place, or make room there.") from error


def _write_npy(
    file: Any, blocks: Iterable[NDArray[Any]], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """A header that promises all rows, then the rows."""
    header = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    for block in blocks:
        file.write(block.reshape(-1).view(np.uint8).data)


def _write(file: BinaryIO, ending: str, values: NDArray[np.generic], columns: Sequence[str] | None) -> None:
    """Writes the array in the format of the ending."""
    if ending == ".npy":
        np.save(file, values, allow_pickle=False)
    elif ending == ".npz":
        arrays = (
            {"x": values} if columns is None else {"x": values, "columns": np.asarray(columns, dtype=str)}
        )
        np.savez(file, allow_pickle=False, **arrays)
    else:
        _write_csv(file, values, columns)


def _write_csv(file: BinaryIO, values: NDArray[np.generic], columns: Sequence[str] | None) -> None:
    """Writes rows of text; numpy's strings of floats are the shortest that read back the same."""
    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text, lineterminator="\n")
    if columns is not None:
        writer.writerow(columns)
    if values.dtype.kind == "b":
        values = values.astype(np.uint8)
    if values.size:
        for _, block in chunks(values):
            writer.writerows(block.astype(str).tolist())
    text.detach()
