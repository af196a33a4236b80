"""What a fit costs: its time against the number of data, the batch, the latents and the processes.

Each row varies one thing and fits a line to the seconds; imports don't count.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import keep
from contenders import images
from jensen import runs

BASE: dict[str, Any] = {"epochs": 2, "batch_size": 100, "latent_dim": 40, "patience": None}


def seconds(data: int, options: Mapping[str, Any], repeats: int) -> float:
    """The least time of a few fits, kept in a folder, without validation."""
    torch.set_num_threads(1)
    dataset = images(data)
    times: list[float] = []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as folder:
            start = time.perf_counter()
            runs.fit(dataset, options={**BASE, **options}, device="cpu", folder=folder)
            times.append(time.perf_counter() - start)
    return min(times)


def line(x: Sequence[float], y: Sequence[float]) -> dict[str, float]:
    """Slope and intercept of the straight line, and the part of the variance that it explains."""
    slope, intercept = np.polyfit(x, y, 1)
    rest = np.asarray(y) - (slope * np.asarray(x) + intercept)
    return {
        "slope": float(slope),
        "intercept": float(intercept),
        "explained": float(1 - rest.var() / np.var(y)),
    }


def shared(processes: int, data: int) -> float:
    """Seconds of the steps of a fit by so many processes, as the Run has recorded them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable]
        if processes > 1:
            command += ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}"]
        subprocess.run(
            [*command, __file__, "--worker", folder, "--data", str(data)],
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    return sum(json.loads(text)["seconds"] for text in lines)


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=int, default=4000, help="the largest number of data")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--worker", type=Path)
    arguments = parser.parse_args()
    n = arguments.data
    if arguments.worker is not None:
        torch.set_num_threads(1)
        runs.fit(images(n), options=BASE, device="cpu", folder=arguments.worker / "run")
        return
    # The first fit of a process sets libraries up.
    seconds(200, {}, 1)
    rows: dict[str, dict[str, Any]] = {}
    sizes = [n // 8, n // 4, n // 2, n]
    rows["data"] = {"x": sizes, "seconds": [seconds(size, {}, arguments.repeats) for size in sizes]}
    batches = [50, 100, 200, 400]
    rows["steps (batch 400 to 50)"] = {
        "x": [BASE["epochs"] * -(-n // batch) for batch in batches],
        "seconds": [seconds(n, {"batch_size": batch}, arguments.repeats) for batch in batches],
    }
    latents = [10, 40, 160, 640]
    rows["latents"] = {
        "x": latents,
        "seconds": [seconds(n, {"latent_dim": latent}, arguments.repeats) for latent in latents],
    }
    for row in rows.values():
        row |= line(row["x"], row["seconds"])
    processes = {str(number): shared(number, n) for number in (1, 2)}
    print(f"{'against':26}{'seconds':>32}{'slope':>12}{'intercept':>11}{'explained':>11}")
    for name, row in rows.items():
        times = " ".join(f"{value:7.2f}" for value in row["seconds"])
        print(f"{name:26}{times:>32}{row['slope']:12.2e}{row['intercept']:11.2f}{row['explained']:11.3f}")
    print(f"seconds of the steps by processes: {processes}")
    path = keep("cost", {"what": f"seconds of a fit, {BASE}", "rows": rows, "processes": processes})
    print(f"written to {path}")


if __name__ == "__main__":
    main()
