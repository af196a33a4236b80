"""From a path to data that stay on disk: which files belong together, and what one pass over them finds."""

import zlib
from collections.abc import Callable
from dataclasses import replace
from math import prod
from pathlib import Path

import numpy as np

from jensen.data.arrays import Facts, facts_of, kind_of, where
from jensen.data.dataset import Schema
from jensen.data.images import IMAGES
from jensen.data.memory import fits_memory
from jensen.data.shards import Form, Shard, open_npy
from jensen.data.stored import Stored
from jensen.data.table_shards import ARROW, open_table
from jensen.errors import DataError, ShapeError

BLOCK_BYTES = 2**20
"""About the size of a block of an array: long enough to be read at a disk's full rate, and short enough for many of
them to be mixed."""
TABLE_BLOCK_BYTES = 2**22
"""The same for tables, where finding a slice takes time."""
_LEAST_ROWS = 16
_FORMATS = {".npy": ".npy", ".parquet": ".parquet", **dict.fromkeys(ARROW, "Arrow")}


def shard_paths(path: Path) -> list[Path]:
    """The files at a path that can be read without loading them whole.

    Args:
        path: A file, or a folder, of which files that begin with a dot or an underscore are passed over.

    Returns:
        The file, or the folder's files in the order of their names; none if it is of another format.

    Raises:
        DataError: If a folder mixes formats.
    """
    if not path.is_dir():
        return [path] if path.suffix.lower() in _FORMATS else []
    files = sorted(p for p in path.iterdir() if p.is_file() and p.name[0] not in "._")
    found: dict[str, Path] = {}
    for file in files:
        ending = file.suffix.lower()
        found.setdefault(_FORMATS.get(ending, "images" if ending in IMAGES else ""), file)
    formats = [name for name in dict.fromkeys(_FORMATS.values()) if name in found]
    if not formats:
        return []
    if len(found.keys() - {""}) > 1:
        shown = " and ".join(f"{name} ({found[name].name})" for name in (*formats, "images") if name in found)
        raise DataError(f"{path} mixes {shown}. Put the files of one data set into a folder of their own.")
    return [file for file in files if _FORMATS.get(file.suffix.lower()) == formats[0]]


def stored(
    path: str | Path,
    *,
    target: str | int | None = None,
    block_rows: int | None = None,
    on_data: Callable[[int], None] | None = None,
) -> Stored:
    """Opens data that stay on disk: a .npy, .parquet, .arrow or .feather file, or a folder of such files (shards).

    One pass over all cells checks that they are finite, finds what they hold, and takes a checksum; it needs
    memory for one block.

    Args:
        path: The file or the folder; its shards are taken in the order of their names.
        target: For tables: the column of labels, by name or place, which is left out.
        block_rows: Rows of a block, the unit of reading and shuffling; by default about a megabyte of them (four
            of tables).
        on_data: Called with the number of data looked at after each block, as a progress bar wants.

    Returns:
        The data.

    Raises:
        DataError: If the path has another format, mixes several, or a shard is empty, damaged or of another form
            than the first one; or if a cell is not finite. The message names the shard, and the row.

    Example:
        >>> import tempfile
        >>> from jensen.data import write
        >>> folder = tempfile.TemporaryDirectory()
        >>> write(f"{folder.name}/a.npy", np.array([[0.5, 3.0], [2.0, 1.0]]))
        >>> write(f"{folder.name}/b.npy", np.array([[1.5, 4.0]]))
        >>> data = stored(folder.name)
        >>> len(data), data.schema.kind, data.facts.high, data.statistics.plain.mean.tolist()
        (3, 'real', 4.0, [1.3333333333333333, 2.6666666666666665])
        >>> folder.cleanup()
    """
    path = Path(path).expanduser()
    shards = _open(path, target)
    form = shards[0].form
    bytes_ = BLOCK_BYTES if form.columns is None else TABLE_BLOCK_BYTES
    rows = max(_LEAST_ROWS, bytes_ // form.row_bytes) if block_rows is None else block_rows
    if rows < 1:
        raise DataError(f"got block_rows={block_rows}. Give a number of rows, at least 1.")
    name = path.name if path.is_dir() else path.stem
    facts = Facts(np.inf, -np.inf)
    found = Stored(
        shards, Schema(form.event_shape, "real", form.columns), facts, 0, rows, name, str(path), target
    )
    return _examined(found, form, on_data)


def exceeds_memory(path: str | Path, *, target: str | int | None = None) -> bool:
    """Whether data at a path had better stay on disk: as float32 they would take over a quarter of the free memory.

    Only headers are read. What can't be read by rows (.npz, .csv, idx, images, a damaged file) is left to the readers
    in memory, and to what they say of it.

    Args:
        path: A file or a folder.
        target: For tables: the column of labels.

    Returns:
        Whether to open it by ``stored``.

    Example:
        >>> exceeds_memory("no/such/file.npy")
        False
    """
    path = Path(path).expanduser()
    if not path.exists() or (path.is_file() and not path.stat().st_size) or not shard_paths(path):
        return False
    try:
        shards = _open(path, target)
    except DataError:
        return False
    cells = sum(shard.rows for shard in shards) * prod(shards[0].form.event_shape)
    return not fits_memory(cells)


def _open(path: Path, target: str | int | None) -> tuple[Shard, ...]:
    """Reads the headers of all shards, and holds them against the first."""
    if not path.exists():
        raise DataError(f"{path} doesn't exist. Check the path.")
    try:
        paths = shard_paths(path)
        if not paths:
            raise DataError(
                f"{path} can't be read from disk by rows. Give a .npy, .parquet, .arrow or .feather file, or a folder "
                "of such files; other data are read into memory (--no-stream)."
            )
        shards: list[Shard] = []
        for file in paths:
            if not file.stat().st_size:
                raise DataError(f"{file} is empty. Take it away, or write it again.")
            shards.append(_shard(file, target, shards[0].form if shards else None))
            _check_same(shards[0], shards[-1])
    except OSError as error:
        raise DataError(f"can't read {path} ({error}). Check the path and its permissions.") from error
    return tuple(shards)


def _shard(path: Path, target: str | int | None, like: Form | None) -> Shard:
    if path.suffix.lower() != ".npy":
        return open_table(path, target, like)
    if target is not None:
        raise DataError(
            f"{path} is no table, so it has no column {target!r} for the labels. Leave target out."
        )
    return open_npy(path)


def _check_same(first: Shard, other: Shard) -> None:
    """Refuses a shard of another form than the first."""
    a, b = first.form, other.form
    if a == b:
        return
    advice = "Give shards of one form, or put them into folders of their own."
    if a.columns is not None and b.columns is not None and a.columns != b.columns:
        lacks = [f"'{name}'" for name in a.columns if name not in b.columns]
        extra = [f"'{name}'" for name in b.columns if name not in a.columns]
        parts = [f"lacks {', '.join(lacks[:5])}"] if lacks else []
        parts += [f"has also {', '.join(extra[:5])}"] if extra else []
        raise ShapeError(
            f"{other.path} has other columns than {first.path}: it {' and '.join(parts)} "
            f"({len(b.columns)} columns against {len(a.columns)}). {advice}"
        )
    if a.event_shape != b.event_shape:
        raise ShapeError(
            f"{other.path} has data of shape {b.event_shape}, {first.path} of shape {a.event_shape}. {advice}"
        )
    raise DataError(f"{other.path} has cells of type {b.dtype}, {first.path} of type {a.dtype}. {advice}")


def _examined(data: Stored, form: Form, on_data: Callable[[int], None] | None) -> Stored:
    """The pass over all cells: are they finite, what do they hold, their checksum."""
    facts, checksum = data.facts, 0
    for number in range(len(data.counts)):
        block = data.raw(number)
        if block.dtype.kind == "f" and not (finite := np.isfinite(block)).all():
            row, *event = np.argwhere(~finite)[0].tolist()
            count = finite.size - int(np.count_nonzero(finite))
            shard, start, _ = data.where(number)
            raise DataError(
                f"{shard.path} has a cell that is NaN, infinite or missing at "
                f"{where(start + row, event, form.columns)} "
                f"(counted from 0 in this file), the first of {count} in {data.place(number)}. "
                "Fill these cells or drop their rows; models that take missing cells read them into memory "
                "(--no-stream)."
            )
        facts = facts.merged(facts_of(block))
        checksum = zlib.crc32(np.ascontiguousarray(block).reshape(-1).view(np.uint8).data, checksum)
        if on_data is not None:
            on_data(len(block))
    schema = replace(data.schema, kind=kind_of(form.dtype, facts, data.name))
    return replace(data, schema=schema, facts=facts, checksum=checksum)
