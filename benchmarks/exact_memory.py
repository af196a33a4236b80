"""Memory of the exact models' fits, and the time of EM over an array on disk, each in a process of its own.

Peaks are of the process's own pages (RssAnon, every two milliseconds); pages of a mapped file belong to the system,
which takes them back when it needs them. By default the sizes are small; ``--full`` takes those of the targets.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from common import keep, timed

TARGETS = {
    "wide, peak over data": 3.0,
    "mixture, above data over 2 N (D + K) floats": 1.0,
    "streamed, peak of the largest over the smallest": 1.1,
}


class Peak:
    """The most own memory of this process within the block, in bytes, above what it had before."""

    above = 0

    def __enter__(self) -> "Peak":
        self._before, self._on = _own(), True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._on = False
        self._thread.join()

    def _watch(self) -> None:
        while self._on:
            self.above = max(self.above, _own() - self._before)
            time.sleep(0.002)


def _own() -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return 1024 * int(line.split()[1])
    raise RuntimeError("this system doesn't tell a process's own memory")


def wide(n: int, d: int) -> dict[str, float]:
    """Fit, score and reconstruction of data with more cells than there are data."""
    import jensen as jn

    jn.PPCA(1).fit(np.random.default_rng(0).normal(size=(20, 30)))
    with Peak() as all_of_it:
        x = np.random.default_rng(0).standard_normal((n, d))
        x += np.random.default_rng(1).normal(size=(n, 1))
        seconds = timed(lambda: jn.PPCA(10).fit(x).score(x))
    return {
        "data": x.nbytes,
        "peak": all_of_it.above,
        "over_data": all_of_it.above / x.nbytes,
        "seconds": seconds,
    }


def mixture(n: int, d: int, k: int) -> dict[str, Any]:
    """Memory above the data of fits and of what is asked of them."""
    import jensen as jn

    rng = np.random.default_rng(0)
    x = 3 * rng.normal(size=(k, d))[rng.integers(0, k, n)] + rng.normal(size=(n, d))
    allowed = 8 * 2 * n * (d + k)
    jn.GaussianMixture(2, max_iter=1).fit(x[:100])
    found: dict[str, Any] = {"allowed": allowed}
    for solver in ("cavi", "em"):
        model = jn.GaussianMixture(k, solver, max_iter=3, random_state=0)
        for name, work in {
            "fit": lambda model=model: model.fit(x),
            "score": lambda model=model: model.score(x),
            "predict_proba": lambda model=model: model.predict_proba(x),
        }.items():
            with Peak() as peak:
                work()
            found[f"{solver}, {name}"] = {"above": peak.above, "over_allowed": peak.above / allowed}
    return found


def streamed(path: str, gaps: bool) -> dict[str, float]:
    """Five iterations of EM over a memory-mapped array."""
    import jensen as jn

    jn.PPCA(1).fit(np.random.default_rng(0).normal(size=(20, 30)))
    x = np.load(path, mmap_mode="r")
    with Peak() as peak:
        model = jn.PPCA(10, solver="em", max_iter=5, tol=1e-300, random_state=0)
        seconds = timed(lambda: model.fit(x))
    return {"data": x.nbytes, "above": peak.above, "seconds": seconds}


def write(path: Path, n: int, d: int, gaps: bool) -> None:
    """Data on disk, made in parts; where wanted, one row in ten has some of twenty patterns of gaps."""
    x = np.lib.format.open_memmap(path, "w+", np.float64, (n, d))
    rng = np.random.default_rng(0)
    factor, patterns = rng.normal(size=(10, d)), rng.random((20, d)) < 0.2
    for start in range(0, n, 10_000):
        some = rng.normal(size=(min(10_000, n - start), 10)) @ factor
        some += rng.normal(size=some.shape)
        if gaps:
            some[::10][patterns[rng.integers(0, 20, len(some[::10]))]] = np.nan
        x[start : start + len(some)] = some
    x.flush()


def child(*arguments: Any) -> Any:
    """What a function of this file gives, called in a process of its own."""
    command = [sys.executable, __file__, "--child", *(json.dumps(argument) for argument in arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the sizes of the targets")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        name, *rest = (json.loads(text) for text in arguments.child)
        print(json.dumps({"wide": wide, "mixture": mixture, "streamed": streamed}[name](*rest)))
        return
    full = arguments.full
    rows, d = ([50_000, 200_000], 200) if full else ([20_000, 80_000], 100)
    result: dict[str, Any] = {
        "targets": TARGETS,
        "full": full,
        "wide": child("wide", *((5000, 20_000) if full else (1000, 5000))),
        "mixture": child("mixture", *((200_000, 16, 20) if full else (50_000, 16, 20))),
    }
    with tempfile.TemporaryDirectory() as folder:
        for gaps in (False, True):
            found = []
            for n in rows:
                path = Path(folder) / "x.npy"
                write(path, n, d, gaps)
                found.append({"n": n, "d": d, **child("streamed", str(path), gaps)})
                path.unlink()
            result["streamed, with gaps" if gaps else "streamed, complete"] = found
    print(keep("exact_memory", result))
    print(json.dumps({name: part for name, part in result.items() if name != "targets"}, indent=1))


if __name__ == "__main__":
    main()
