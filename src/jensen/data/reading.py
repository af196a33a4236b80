"""From a path or a known name to a data set: the one door through which data come in."""

import re
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import cast

import numpy as np

from jensen.data.arrays import from_array
from jensen.data.catalogue import KNOWN, known
from jensen.data.dataset import Dataset
from jensen.data.idx import read_idx
from jensen.data.images import read_images
from jensen.data.numpy_files import read_npy, read_npz
from jensen.data.opening import shard_paths, stored
from jensen.data.table_shards import ARROW
from jensen.data.tables import read_table
from jensen.errors import DataError

_IDX_NAME = re.compile(r"idx\d?(-ubyte)?(\.gz)?$", re.IGNORECASE)
_TABLES = (".csv", ".parquet", *ARROW)
_FORMS = ".npy, .npz, .csv, .parquet, .arrow, .feather, idx, idx.gz, or a folder of images or of shards"


def read(path: str | Path, *, target: str | int | None = None, exact: bool = False) -> Dataset:
    """Reads data from a file or a folder into memory; the ending says the format. ``stored`` leaves them on disk.

    A .npz holds the data under ``x`` and labels under ``y``, or one array; ``data.npz:test`` reads its array
    ``test``. A .csv may have a header or none. IDX files are known by "idx" in their name, as in
    train-images-idx3-ubyte.gz. Subfolders of a folder of images are classes. A folder of .npy, .parquet, .arrow or
    .feather files holds shards of one data set, in the order of their names.

    Args:
        path: The file (.npy, .npz, .csv, .parquet, .arrow, .feather, idx, idx.gz) or the folder.
        target: For tables: the column to be taken as labels, by name or place (-1 is the last).
        exact: Whether NaN may stand for missing cells and float64 is kept, for the exact models.

    Returns:
        The data set.

    Raises:
        DataError: If the path doesn't exist, has an unknown ending, is empty or damaged, or if what it holds
            can't be used; the message says what to do.

    Example:
        >>> import tempfile
        >>> from jensen.data import write
        >>> folder = tempfile.TemporaryDirectory()
        >>> write(f"{folder.name}/x.npy", [[0, 3], [2, 1]])
        >>> read(f"{folder.name}/x.npy").schema.kind
        'counts'
        >>> folder.cleanup()
    """
    path, key = _split_key(Path(path).expanduser())
    ending = path.suffix.lower()
    if target is not None and ending not in _TABLES and not path.is_dir():
        raise DataError(
            f"{path} is no table, so it has no column {target!r} for the labels. Leave target out."
        )
    try:
        if not path.exists():
            raise DataError(f"{path} doesn't exist. {_hint(path)}")
        if path.is_dir() and (shards := shard_paths(path)):
            return _joined(path, shards, target) if exact else stored(path, target=target).load()
        if path.is_dir():
            return read_images(path)
        if path.stat().st_size == 0:
            raise DataError(f"{path} is empty. Write the file again, or fetch a fresh copy of it.")
        if ending == ".npz":
            return read_npz(path, key, exact=exact)
        if ending in _TABLES:
            return read_table(path, target, exact=exact)
        if ending == ".npy":
            return read_npy(path, exact=exact)
        if _IDX_NAME.search(path.name):
            return read_idx(path)
    except OSError as error:
        raise DataError(f"can't read {path} ({error}). Check the path and its permissions.") from error
    raise DataError(f"{path} has the unknown ending '{path.suffix}'. Give {_FORMS}.")


def load(
    name_or_path: str | Path, split: str = "train", *, target: str | int | None = None, exact: bool = False
) -> Dataset:
    """Loads a known data set by its name, or reads a path.

    A known name goes before a path of the same name; write ``./mnist`` for the path.

    Args:
        name_or_path: A name in ``KNOWN``, such as "digits", or with its split, "digits:test"; else a path.
        split: The split of a known data set; without meaning for a path.
        target: For tables: the column to be taken as labels, by name or place.
        exact: See ``read``.

    Returns:
        The data set.

    Raises:
        ConfigError: If a known data set has no such split.
        DataError: If it is neither a known name nor an existing path, or if the data can't be used.

    Example:
        >>> len(load("digits")), len(load("digits:valid"))
        (1297, 250)
    """
    if not isinstance(cast(object, name_or_path), str | Path) or not str(name_or_path):
        got = repr(name_or_path) if isinstance(name_or_path, str) else type(name_or_path).__name__
        raise DataError(
            f"a known name or a path is wanted, got {got}. Make a data set of an array by jensen.data.from_array(x)."
        )
    text = str(name_or_path)
    name, _, part = text.partition(":")
    if isinstance(name_or_path, str) and name in KNOWN:
        return known(name, part or split)
    path, _ = _split_key(Path(name_or_path).expanduser())
    if not path.exists() and path.name == text and not path.suffix:
        near = get_close_matches(name, KNOWN, n=1, cutoff=0.5)
        suggestion = f" Did you mean '{near[0]}'?" if near else ""
        raise DataError(
            f"'{text}' is no known data set, and no path of that name exists.{suggestion} "
            f"There are: {', '.join(sorted(KNOWN))}; or give {_FORMS}."
        )
    return read(name_or_path, target=target, exact=exact)


def _joined(path: Path, shards: list[Path], target: str | int | None) -> Dataset:
    """The shards of a folder one below the other, with their missing cells and their precision."""
    parts = [read(shard, target=target, exact=True) for shard in shards]
    first = parts[0]
    for shard, part in zip(shards, parts, strict=True):
        if (part.schema.event_shape, part.schema.columns) != (first.schema.event_shape, first.schema.columns):
            raise DataError(
                f"{shard} has data of shape {part.schema.event_shape} and columns {part.schema.columns}, "
                f"{shards[0]} of shape {first.schema.event_shape} and columns {first.schema.columns}. "
                "Give shards of one form."
            )
    x = np.concatenate([part.x for part in parts])
    dataset = from_array(x, name=path.name, columns=first.schema.columns, source=str(path), exact=True)
    return replace(dataset, target=target)


def _split_key(path: Path) -> tuple[Path, str | None]:
    """Takes the array's name off a path such as data.npz:test."""
    stem, colon, key = path.name.rpartition(":")
    if colon and key and stem.lower().endswith(".npz") and not path.exists():
        return path.with_name(stem), key
    return path, None


def _hint(path: Path) -> str:
    """Where else to look: the nearest file in the folder, the nearest known name."""
    folder = path.parent
    if not folder.is_dir():
        return f"There is no folder {folder} either. Check the path."
    near = get_close_matches(path.name, [other.name for other in folder.iterdir()], n=1)
    names = get_close_matches(path.stem, KNOWN, n=1)
    nearest = [str(folder / near[0])] if near else []
    nearest += [f"the known data set '{names[0]}'"] if names else []
    return f"Did you mean {' or '.join(nearest)}?" if nearest else "Check the path, or give a known data set."
