"""How the published files of each known data set become arrays."""

import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from jensen.data.idx import read_idx_array
from jensen.data.numpy_files import damaged
from jensen.data.subsets import permutation
from jensen.errors import DataError

Parsed = tuple[NDArray[np.generic], NDArray[np.generic] | None]
"""Data (n, *event) and labels (n,) or None."""

_MNIST_VALID = 10_000
_CIFAR_VALID = 5_000
_CIFAR_SHAPE = (3, 32, 32)
_OMNIGLOT_VALID = 1_345
_DIGITS_PARTS = {"train": slice(0, 1297), "valid": slice(1297, 1547), "test": slice(1547, 1797)}
_FREY_PARTS = {"train": slice(0, 1565), "valid": slice(1565, 1765), "test": slice(1765, 1965)}


def digits(paths: Sequence[Path], split: str) -> Parsed:
    """The digits that scikit-learn brings: 0..16 scaled to 0..255, split by a fixed permutation.

    Args:
        paths: None are needed.
        split: "train" (1,297), "valid" (250) or "test" (250).

    Returns:
        Images (n, 8, 8) uint8, and the digits.
    """
    del paths
    from sklearn.datasets import load_digits

    bunch = cast(Any, load_digits())
    rows = permutation(1797, seed=0)[_DIGITS_PARTS[split]]
    return np.round(bunch.images[rows] * (255 / 16)).astype(np.uint8), bunch.target[rows].astype(np.int64)


def mnist(paths: Sequence[Path], split: str) -> Parsed:
    """A set of the MNIST family; the last 10,000 data of its training files are to validate on.

    Args:
        paths: The files of images and labels.
        split: "train", "valid" or "test".

    Returns:
        Images (n, 28, 28) uint8, and labels.
    """
    images, labels = (read_idx_array(path) for path in paths)
    part = {"train": slice(0, -_MNIST_VALID), "valid": slice(-_MNIST_VALID, None)}.get(split, slice(None))
    return images[part], labels[part].astype(np.int64)


def bits(columns: int) -> Any:
    """A reader of texts of zeros and ones (.amat, .data), whatever separates them.

    Args:
        columns: Number of cells in a row.

    Returns:
        The function ``(paths, split) -> (data, None)``.
    """

    def parse(paths: Sequence[Path], split: str) -> Parsed:
        del split
        text = np.fromfile(paths[0], dtype=np.uint8)
        cells = text[(text == ord("0")) | (text == ord("1"))] - ord("0")
        if not cells.size or cells.size % columns:
            raise damaged(paths[0], f"{cells.size} cells don't fill rows of {columns}")
        return cells.reshape(-1, columns), None

    return parse


def _mat(path: Path, *names: str) -> list[NDArray[np.generic]]:
    """Arrays of a MATLAB file."""
    from scipy.io import loadmat
    from scipy.io.matlab import MatReadError

    try:
        content = cast(dict[str, NDArray[np.generic]], loadmat(path, variable_names=list(names)))
        return [content[name] for name in names]
    except (MatReadError, KeyError, ValueError, TypeError, OSError, NotImplementedError) as error:
        raise damaged(path, error) from error


def _upright(flat: NDArray[np.generic]) -> NDArray[np.generic]:
    """MATLAB stores columns first, so its flat images lie on their side: (n, 784) to (n, 28, 28)."""
    return flat.reshape(-1, 28, 28).transpose(0, 2, 1)


def omniglot(paths: Sequence[Path], split: str) -> Parsed:
    """Burda's 28x28 Omniglot; the validation data are drawn from the training data by a fixed permutation.

    Args:
        paths: chardata.mat.
        split: "train" (23,000), "valid" (1,345) or "test" (8,070).

    Returns:
        Intensities (n, 28, 28) uint8, and the numbers of the alphabets.
    """
    names = ("testdata", "testtarget") if split == "test" else ("data", "target")
    data, target = _mat(paths[0], *names)
    images = _upright(np.round(data.T.astype(np.float64) * 255).astype(np.uint8))
    labels = target.argmax(axis=0)
    if split == "test":
        return images, labels
    order = permutation(len(images), seed=0)
    rows = order[:-_OMNIGLOT_VALID] if split == "train" else order[-_OMNIGLOT_VALID:]
    return images[rows], labels[rows]


def caltech101(paths: Sequence[Path], split: str) -> Parsed:
    """The silhouettes with the split and the colours of their file.

    Args:
        paths: caltech101_silhouettes_28_split1.mat.
        split: "train" (4,100), "valid" (2,264) or "test" (2,307).

    Returns:
        Images (n, 28, 28) uint8 in {0, 1}, and the numbers of the classes from 1.
    """
    prefix = "val" if split == "valid" else split
    data, labels = _mat(paths[0], f"{prefix}_data", f"{prefix}_labels")
    return _upright(data.astype(np.uint8)), labels.ravel().astype(np.int64)


def frey_faces(paths: Sequence[Path], split: str) -> Parsed:
    """The faces, which follow each other as in a film, split by a fixed permutation.

    Args:
        paths: frey_rawface.mat.
        split: "train" (1,565), "valid" (200) or "test" (200).

    Returns:
        Images (n, 28, 20) uint8, no labels.
    """
    (faces,) = _mat(paths[0], "ff")
    images = faces.T.reshape(-1, 28, 20).astype(np.uint8)
    return images[permutation(len(images), seed=0)[_FREY_PARTS[split]]], None


def cifar10(paths: Sequence[Path], split: str) -> Parsed:
    """CIFAR-10 in its binary version, never the pickled one; the last 5,000 are to validate on.

    Args:
        paths: cifar-10-binary.tar.gz.
        split: "train" (45,000), "valid" (5,000) or "test" (10,000).

    Returns:
        Images (n, 3, 32, 32) uint8, and the classes.
    """
    batches = ["test_batch"] if split == "test" else [f"data_batch_{i}" for i in range(1, 6)]
    width = 1 + int(np.prod(_CIFAR_SHAPE))
    parts: list[NDArray[np.uint8]] = []
    try:
        with tarfile.open(paths[0]) as archive:
            for batch in batches:
                member = archive.extractfile(f"cifar-10-batches-bin/{batch}.bin")
                if member is None:
                    raise DataError(f"{paths[0]} has no batch {batch}. Fetch the file again.")
                parts.append(np.frombuffer(member.read(), dtype=np.uint8).reshape(-1, width))
    except (OSError, EOFError, KeyError, tarfile.TarError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise damaged(paths[0], error) from error
    rows = np.concatenate(parts)
    part = {"train": slice(0, -_CIFAR_VALID), "valid": slice(-_CIFAR_VALID, None)}.get(split, slice(None))
    return rows[part, 1:].reshape(-1, *_CIFAR_SHAPE), rows[part, 0].astype(np.int64)
