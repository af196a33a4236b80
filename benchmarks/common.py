"""What benchmarks share: the machine's description, timing in turn, results on disk."""

import compileall
import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, Any]:
    """The machine, versions and date of a measurement."""
    versions: dict[str, str] = {}
    for package in ("jensen", "torch", "numpy", "lightning-fabric", "pythae", "pyro-ppl", "bayesian-torch"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {
        "platform": platform.platform(),
        "processor": _processor(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "versions": versions,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def compiled(*folders: Path) -> None:
    """Writes the byte code of sources, as an installation does, so that processes don't each compile them anew."""
    for folder in folders:
        compileall.compile_dir(folder, quiet=1)


def in_turn(contenders: Mapping[str, Callable[[], float]], rounds: int = 5) -> dict[str, list[float]]:
    """Measures contenders in turn, A B C A B C ..., after one round that isn't counted.

    Args:
        contenders: For each name a function that returns its figure, such as data a second.
        rounds: Counted rounds.

    Returns:
        For each name its figures, one a round.
    """
    figures: dict[str, list[float]] = {name: [] for name in contenders}
    for count in range(rounds + 1):
        for name, measure in contenders.items():
            figure = measure()
            if count > 0:
                figures[name].append(figure)
    return figures


def ratio(figures: Mapping[str, list[float]], name: str, other: str) -> float:
    """Median over the rounds of one contender's figure over another's."""
    return statistics.median(a / b for a, b in zip(figures[name], figures[other], strict=True))


def timed(work: Callable[[], object]) -> float:
    """Seconds that a piece of work takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def most_at_once(work: Callable[[], object]) -> int:
    """Bytes of tensors that a piece of work has at once, at most, beside those that were there before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    total = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            most = max(most, total)
    return most


def product_rate(rows: int, inner: int, columns: int, seconds: float = 0.5) -> float:
    """Floating-point operations a second of float32 matrix products of that shape on this machine now."""
    a, b = torch.randn(rows, inner), torch.randn(inner, columns)
    for _ in range(3):
        a @ b
    count, start = 0, time.perf_counter()
    while time.perf_counter() - start < seconds:
        a @ b
        count += 1
    return 2 * rows * inner * columns * count / (time.perf_counter() - start)


def keep(name: str, content: Mapping[str, Any]) -> Path:
    """Writes a result, with the machine beside it, to benchmarks/results/NAME.json."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({**content, "machine": machine()}, indent=2) + "\n")
    temporary.replace(path)
    return path


def kept(name: str) -> dict[str, Any]:
    """A result that was written before; empty if there is none."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text()) if path.exists() else {}
