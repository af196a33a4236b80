"""Reads the IDX format of the MNIST family, plain or gzipped."""

import gzip
import math
import struct
import zlib
from io import BufferedReader
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jensen.data.arrays import from_array
from jensen.data.dataset import Dataset
from jensen.data.numpy_files import damaged
from jensen.errors import DataError

_DTYPES = {0x08: ">u1", 0x09: ">i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
# Deflate can't shrink data further than this, so a header that promises more is damaged.
_GZIP_MAX_RATIO = 1032


def read_idx_array(path: Path) -> NDArray[np.generic]:
    """Reads the array of an IDX file; whether it is gzipped is seen from its first bytes.

    Args:
        path: The file.

    Returns:
        The array, in the machine's byte order.

    Raises:
        DataError: If the file is no IDX file, damaged or cut off.
    """
    with path.open("rb") as start:
        gzipped = start.read(2) == _GZIP_MAGIC
    try:
        with gzip.open(path, "rb") if gzipped else path.open("rb") as file:
            return _read(path, file, path.stat().st_size * (_GZIP_MAX_RATIO if gzipped else 1))
    except (OSError, EOFError, zlib.error) as error:
        raise damaged(path, error) from error


def _read(path: Path, file: BufferedReader | gzip.GzipFile, most: int) -> NDArray[np.generic]:
    """Reads header and cells; ``most`` is the largest number of bytes that the file can hold."""
    magic = file.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or not 1 <= magic[3] <= 8:
        raise DataError(
            f"{path} is no IDX file: it begins with {magic!r}. Give one such as train-images-idx3-ubyte.gz."
        )
    axes = magic[3]
    header = file.read(4 * axes)
    if len(header) < 4 * axes:
        raise damaged(path, "it ends in its header")
    shape = struct.unpack(f">{axes}I", header)
    dtype = np.dtype(_DTYPES[magic[2]])
    size = math.prod(shape) * dtype.itemsize
    if size > most:
        raise damaged(path, f"its header says {size} bytes of cells in shape {shape}, more than it can hold")
    # Read into an array of our own: a view on bytes would be read-only, which torch warns of.
    array = np.empty(shape, dtype)
    view, got = array.reshape(-1).view(np.uint8).data, 0
    while got < size and (count := file.readinto(view[got:])):
        got += count
    if got < size or file.read(1):
        raise damaged(path, f"its header says {size} bytes of cells, it has {'more' if got == size else got}")
    return array.astype(dtype.newbyteorder("="), copy=False)


def read_idx(path: Path) -> Dataset:
    """Reads a data set from an IDX file, such as train-images-idx3-ubyte.gz.

    Args:
        path: The file.

    Returns:
        The data set; images are (n, rows, columns) uint8.

    Raises:
        DataError: If the file is damaged, holds labels in place of data, or can't be used.
    """
    array = read_idx_array(path)
    if array.ndim == 1:
        hint = path.name.replace("labels", "images").replace("idx1", "idx3")
        raise DataError(
            f"{path} holds labels in place of data: {len(array)} numbers along one axis. "
            + (f"Give the images, as in {hint}." if hint != path.name else "Give the file of the images.")
        )
    return from_array(array, name=path.name.removesuffix(".gz"), source=str(path))
