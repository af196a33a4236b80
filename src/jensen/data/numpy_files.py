"""Reads .npy and .npz files; nothing in them is ever unpickled."""

import zipfile
import zlib
from pathlib import Path

import numpy as np

from jensen.data.arrays import from_array
from jensen.data.dataset import Dataset
from jensen.errors import DataError

NPY_MAGIC, _ZIP_MAGIC = b"\x93NUMPY", b"PK"
_SPLITS = ("train", "valid", "test")


def damaged(path: Path, error: BaseException | str) -> DataError:
    """The error for a file whose content can't be read.

    Args:
        path: The file.
        error: What the reader found.

    Returns:
        The error, to be raised.
    """
    return DataError(
        f"{path} is damaged or cut off ({error}). Write the file again, or fetch a fresh copy of it."
    )


def read_npy(path: Path, *, exact: bool = False) -> Dataset:
    """Reads an array from a .npy file.

    Args:
        path: The file.
        exact: See ``from_array``.

    Returns:
        The data set.

    Raises:
        DataError: If the file is damaged, holds Python objects, or its array can't be used.
    """
    try:
        check_magic(path, NPY_MAGIC, ".npz")
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError, OSError, MemoryError) as error:
        if isinstance(error, DataError):
            raise
        raise unreadable(path, error) from error
    return from_array(array, name=path.stem, source=str(path), exact=exact)


def read_npz(path: Path, key: str | None = None, *, exact: bool = False) -> Dataset:
    """Reads the array of one name from a .npz file.

    Without a name it is ``x`` (with labels ``y`` and names ``columns`` where the file has them), or the only
    array in the file.

    Args:
        path: The file.
        key: The array's name.
        exact: See ``from_array``.

    Returns:
        The data set.

    Raises:
        DataError: If the file is damaged, holds Python objects, has no such array or several that could be
            meant, or if the array can't be used.
    """
    try:
        check_magic(path, _ZIP_MAGIC, ".npy")
        with path.open("rb") as file, np.load(file, allow_pickle=False) as archive:
            key = _key(path, list(archive.files), key)
            x = archive[key]
            beside = archive.files if key == "x" else []
            y = archive["y"] if "y" in beside else None
            columns = [str(column) for column in archive["columns"]] if "columns" in beside else None
    except (ValueError, EOFError, OSError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, DataError):
            raise
        raise unreadable(path, error) from error
    name = path.stem if key == "x" else f"{path.stem}:{key}"
    return from_array(x, y, name=name, columns=columns, source=str(path), exact=exact)


def check_magic(path: Path, magic: bytes, other: str) -> None:
    """Refuses files of another format; numpy would take what isn't its own for a pickle."""
    with path.open("rb") as file:
        start = file.read(6)
    if start.startswith(_ZIP_MAGIC if magic == NPY_MAGIC else NPY_MAGIC):
        raise DataError(f"{path} holds the format {other}, not {path.suffix}. Rename it to end in {other}.")
    if not start.startswith(magic):
        raise DataError(
            f"{path} is no {path.suffix} file: it begins with {start!r}. Write it with numpy.save or "
            "numpy.savez; pickles are never loaded."
        )


def unreadable(path: Path, error: BaseException) -> DataError:
    """The error for what numpy refused to read: pickles, or damage."""
    if any(words in str(error) for words in ("allow_pickle", "Object arrays", "Python objects")):
        return DataError(
            f"{path} holds pickled Python objects, which jensen never loads. "
            "Save an array of numbers with np.save or np.savez, or fetch the file again if it is damaged."
        )
    return damaged(path, error)


def _key(path: Path, names: list[str], key: str | None) -> str:
    """The name of the array to read."""
    if key is not None:
        if key in names:
            return key
        raise DataError(f"{path} has no array '{key}'. It has: {', '.join(sorted(names))}.")
    if "x" in names:
        return "x"
    if len(names) == 1:
        return names[0]
    if not names:
        raise DataError(f"{path} holds no array. Save one with np.savez(path, x=array).")
    splits = [split for split in _SPLITS if split in names]
    example = splits[0] if splits else sorted(names)[0]
    raise DataError(
        f"{path} holds several arrays ({', '.join(sorted(names))}) and none is called 'x'. "
        f"Name the one to read after a colon, as in {path}:{example}."
    )
