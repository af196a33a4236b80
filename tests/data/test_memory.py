from pathlib import Path

import pytest

from jensen.data import fits_memory
from jensen.data.memory import available


def machine(root: Path, free_kib: int | None, limit: str | None = None, used: int = 0) -> Path:
    (root / "proc").mkdir()
    if free_kib is not None:
        (root / "proc/meminfo").write_text(f"MemTotal: 99999999 kB\nMemAvailable:   {free_kib} kB\n")
    if limit is not None:
        (root / "sys/fs/cgroup").mkdir(parents=True)
        (root / "sys/fs/cgroup/memory.max").write_text(f"{limit}\n")
        (root / "sys/fs/cgroup/memory.current").write_text(f"{used}\n")
    return root


@pytest.mark.parametrize(
    ("free_kib", "limit", "used", "expected"),
    [
        (1000, None, 0, 1_024_000),
        (1000, "max", 5, 1_024_000),
        (1000, "500000", 100_000, 400_000),
        (1000, "500000", 600_000, 0),
        (None, "500000", 0, 500_000),
    ],
)
def test_the_smaller_of_what_the_system_and_the_container_leave(
    tmp_path: Path, free_kib: int | None, limit: str | None, used: int, expected: int
) -> None:
    assert available(machine(tmp_path, free_kib, limit, used)) == expected


def test_half_of_all_where_nothing_is_said(tmp_path: Path) -> None:
    assert available(tmp_path) > 2**20


def test_a_quarter_of_it_is_for_data(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jensen.data.memory.available", lambda: 1600)
    assert fits_memory(100)
    assert not fits_memory(101)
