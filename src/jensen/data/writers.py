"""Writes arrays to files, each as a whole or not at all."""

import csv
import io
import os
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

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
    ending = path.suffix.lower()
    if ending not in _ENDINGS:
        raise DataError(
            f"can't write {path}: its ending is '{path.suffix}'. Use one of {', '.join(_ENDINGS)}."
        )
    if values.dtype.kind not in "buifU":
        raise DataError(f"can't write {path}: its cells are of type {values.dtype}. Give numbers or strings.")
    if ending == ".csv" and values.ndim not in (1, 2):
        raise DataError(
            f"can't write {path}: an array of shape {values.shape} is no table. "
            "Flatten it to (n, columns), or end the file in .npy."
        )
    if ending == ".csv" and values.ndim == 1:
        values = values[:, None]
    if columns is not None and (values.ndim != 2 or values.shape[1] != len(columns)):
        raise DataError(
            f"can't write {path}: {len(columns)} column names for an array of shape {values.shape}. "
            "Give one name for each column."
        )
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                _write(file, ending, values, columns)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise DataError(f"can't write {path} ({error}). Choose another place, or make room there.") from error


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
