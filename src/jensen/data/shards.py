"""One file of many that hold data together: .npy files, read by rows from their place in the file."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from jensen.data.numpy_files import NPY_MAGIC, check_magic, damaged, unreadable
from jensen.errors import DataError


@dataclass(frozen=True)
class Form:
    """What all shards of one data set agree in.

    Attributes:
        event_shape: Shape of one datum.
        dtype: Of the cells as they are read.
        columns: Names of the columns of a table; None for arrays.
    """

    event_shape: tuple[int, ...]
    dtype: np.dtype[np.generic]
    columns: tuple[str, ...] | None = None

    @property
    def row_bytes(self) -> int:
        """Bytes of one datum."""
        return prod(self.event_shape) * self.dtype.itemsize


@runtime_checkable
class Shard(Protocol):
    """A file whose rows can be read anywhere."""

    @property
    def path(self) -> Path:
        """The file."""
        ...

    @property
    def rows(self) -> int:
        """How many data it holds."""
        ...

    @property
    def form(self) -> Form:
        """What one datum looks like."""
        ...

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """The rows from ``start`` up to ``stop``, (stop - start, *event); a DataError names the file if that fails."""
        ...


def gone(path: Path, error: BaseException | str) -> DataError:
    """The error for a shard that was there when the data were opened and can't be read any more.

    Args:
        path: The shard.
        error: What the reader found.

    Returns:
        The error, to be raised.
    """
    return DataError(
        f"{path} can't be read any more ({error}): it was removed, cut off or changed since the data were opened. "
        "Put it back as it was and go on with --resume (resume=True)."
    )


@dataclass(frozen=True)
class NpyShard:
    """A .npy file.

    Rows are read from their place in the file into memory of our own. A memory map would do the same without a
    copy, but a mapped file that is cut off kills the process (SIGBUS) where a read that comes up short is an
    error to report, and pages that were looked at count as the process's memory.
    """

    path: Path
    rows: int
    form: Form
    offset: int

    def read(self, start: int, stop: int) -> NDArray[np.generic]:
        """The rows from ``start`` up to ``stop``, in the machine's byte order."""
        block = np.empty((stop - start, *self.form.event_shape), self.form.dtype)
        view, got = block.reshape(-1).view(np.uint8).data, 0
        try:
            with self.path.open("rb", buffering=0) as file:
                file.seek(self.offset + start * self.form.row_bytes)
                while got < len(view) and (count := file.readinto(view[got:])):
                    got += count
        except OSError as error:
            raise gone(self.path, error.strerror or error) from error
        if got < len(view):
            size = self.offset + self.rows * self.form.row_bytes
            raise gone(self.path, f"it had {size} bytes and ends before row {stop} now")
        return block.astype(self.form.dtype.newbyteorder("="), copy=False)


def open_npy(path: Path) -> NpyShard:
    """Reads the header of a .npy file.

    Args:
        path: The file.

    Returns:
        The shard.

    Raises:
        DataError: If the file is damaged, cut off, holds no numbers or one axis only, has no rows, or is stored
            column by column.
    """
    try:
        check_magic(path, NPY_MAGIC, ".npz")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        if isinstance(error, DataError):
            raise
        raise unreadable(path, error) from error
    if array.dtype.kind not in "buif":
        raise DataError(
            f"{path} has cells of type {array.dtype}, not numbers. Write it as an array of numbers."
        )
    if array.ndim < 2:
        raise DataError(
            f"{path} has shape {array.shape}, where (n, ...) with at least two axes is needed; it looks like "
            "labels in place of data. A single column is x.reshape(-1, 1)."
        )
    if array.size == 0:
        raise DataError(f"{path} has no rows: its shape is {array.shape}. Take it away, or write it again.")
    if not array.flags.c_contiguous:
        raise DataError(
            f"{path} is stored column by column (Fortran order), so its rows can't be read one after the other. "
            "Write it again with np.save(path, np.ascontiguousarray(x))."
        )
    form = Form(array.shape[1:], array.dtype)
    size = path.stat().st_size
    wanted = array.offset + len(array) * form.row_bytes  # pyright: ignore[reportAttributeAccessIssue] a memmap
    if size != wanted:
        raise damaged(path, f"its header says {wanted} bytes, it has {size}")
    return NpyShard(path, len(array), form, int(array.offset))  # pyright: ignore[reportAttributeAccessIssue]
