"""How much memory there is."""

import os
from pathlib import Path

_UNKNOWN = 2**32
_PART = 0.25


def fits_memory(cells: int) -> bool:
    """Whether data may be held in memory: as float32 they take at most a quarter of what is free.

    The rest is for the copies that checking, scaling and moving them makes.

    Args:
        cells: Number of cells of all data.

    Returns:
        Whether they may.

    Example:
        >>> fits_memory(1000), fits_memory(10**15)
        (True, False)
    """
    return 4 * cells <= _PART * available()


def available(root: Path = Path("/")) -> int:
    """Bytes of memory that this process may still take: what the system has left, or the container's limit leaves.

    Args:
        root: Where proc and sys are found.

    Returns:
        The smaller of both; half of all memory where the system doesn't say, and 4 GiB where it doesn't say that.

    Example:
        >>> available() > 0
        True
    """
    free = [
        size
        for size in (_system(root / "proc/meminfo"), _container(root / "sys/fs/cgroup"))
        if size is not None
    ]
    if free:
        return min(free)
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, OSError, ValueError):
        return _UNKNOWN


def _system(path: Path) -> int | None:
    """What Linux counts as available, in bytes."""
    try:
        lines = path.read_text(encoding="utf8").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, IndexError, StopIteration):
        return None


def _container(folder: Path) -> int | None:
    """What a control group of version 2 leaves, in bytes."""
    try:
        limit, used = ((folder / name).read_text().strip() for name in ("memory.max", "memory.current"))
        return None if limit == "max" else max(0, int(limit) - int(used))
    except (OSError, ValueError):
        return None
