"""Variational inference on the reference posteriors: errors, k-hat and seconds, jensen's methods beside the peers'.

Every fit is a process of its own (worker.py), contenders in turn. Run with jensen's Python; ``JENSEN_PEERS`` names
that of the peers' environment, without which jensen is measured alone. ``--quick`` makes one seed of everything.
What is found is merged into ``benchmarks/results/posteriordb_vi.json``, so a session that was cut goes on.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from reference import POSTERIORS, judge, read_draws

HERE = Path(__file__).parent
SOURCE = HERE.parents[1] / "src"
sys.path.insert(0, str(HERE.parent))

from common import compiled, keep, kept  # noqa: E402

OURS = ("jensen:auto", "jensen:flow")
PEERS = (
    "numpyro AutoNormal",
    "numpyro AutoMultivariateNormal",
    "numpyro NUTS",
    "blackjax Pathfinder",
    "pymc ADVI",
)
SVI = ("numpyro AutoNormal", "numpyro AutoMultivariateNormal", "pymc ADVI")
NUTS = "numpyro NUTS"
AFTER, WHOLE = "seconds_after_imports", "seconds_to_result"
"""The second from the start of the process to its draws, without the process's end."""
LIMITS = {
    "after imports, of the fastest SVI": 1 / 5,
    "from start, of the fastest SVI": 1 / 2,
    "from start, of NUTS": 1 / 3,
}
"""Of our default's seconds."""
RESULT = "posteriordb_vi"
LIMIT_SECONDS = 900


def fit(method: str, posterior: str, seed: int) -> dict[str, Any]:
    """One fit: its verdict, its times, and what it says of itself; or the last line of what went wrong."""
    python = sys.executable if method.startswith("jensen") else os.environ["JENSEN_PEERS"]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "draws.npz"
        command = [python, str(HERE / "worker.py"), method, posterior, str(seed), str(file)]
        start = time.time()
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
            )
        except subprocess.TimeoutExpired:
            return {"failed": f"not done after {LIMIT_SECONDS} s"}
        if done.returncode:
            return {"failed": (done.stderr.strip().splitlines() or ["no message"])[-1][:300]}
        with np.load(file) as archive:
            draws = dict(archive)
    said = json.loads(done.stdout.strip().splitlines()[-1])
    seconds = said.pop("result_at") - start
    return {WHOLE: seconds, **said, **judge(draws, read_draws(posterior)).record()}


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the seeds, the worst verdict, and the largest k-hat."""
    done = [row for row in rows if "failed" not in row]
    if not done:
        return {"failed": rows[0]["failed"]}
    numbers: dict[str, Any] = {
        key: statistics.median(row[key] for row in done)
        for key in ("mean_median", "mean_largest", "log_sd_median", "log_sd_largest")
    }
    numbers |= {key: statistics.median(row[key] for row in done) for key in (AFTER, WHOLE)}
    if all("pareto_k" in row for row in done):
        numbers["pareto_k"] = max(row["pareto_k"] for row in done)
    return numbers | {"good": sum(row["good"] for row in done), "fits": len(rows)}


def table(found: dict[str, Any]) -> str:
    """In Markdown, one line a posterior and method."""
    lines = [
        "| posterior | method | mean, median | mean, largest | log sd, median | log sd, largest | k-hat "
        "| good | after imports, s | from start, s |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for posterior in POSTERIORS:
        for method, seeds in found.get(posterior, {}).items():
            row = summary(list(seeds.values()))
            if "failed" in row:
                lines.append(f"| {posterior} | {method} | {row['failed'].replace('|', '/')} |||||||||")
                continue
            errors = [row[key] for key in ("mean_median", "mean_largest", "log_sd_median", "log_sd_largest")]
            cells = [f"{value:.3f}" if value < 100 else f"{value:.1e}" for value in errors]
            cells.append(f"{row['pareto_k']:.2f}" if "pareto_k" in row else "")
            cells.append(f"{row['good']}/{row['fits']}")
            cells += [f"{row[key]:.2f}" for key in (AFTER, WHOLE)]
            lines.append(f"| {posterior} | {method} | {' | '.join(cells)} |")
    return "\n".join(lines)


def times(found: dict[str, Any]) -> dict[str, Any]:
    """Our default's seconds over the fastest SVI's and over NUTS', posterior by posterior, of seeds that all have."""
    ratios: dict[str, dict[str, float]] = {}
    for posterior, methods in found.items():
        raced = {
            method: seeds
            for method, seeds in methods.items()
            if method in (OURS[0], *SVI, NUTS) and not any("failed" in row for row in seeds.values())
        }
        rivals = [method for method in raced if method in SVI]
        shared = set.intersection(*map(set, raced.values())) if raced else set()
        if OURS[0] not in raced or NUTS not in raced or not rivals or not shared:
            continue
        medians = {
            (method, key): statistics.median(seeds[seed][key] for seed in shared)
            for method, seeds in raced.items()
            for key in (AFTER, WHOLE)
        }
        fastest = {key: min(medians[method, key] for method in rivals) for key in (AFTER, WHOLE)}
        parts = (
            medians[OURS[0], AFTER] / fastest[AFTER],
            medians[OURS[0], WHOLE] / fastest[WHOLE],
            medians[OURS[0], WHOLE] / medians[NUTS, WHOLE],
        )
        ratios[posterior] = dict(zip(LIMITS, parts, strict=True))
    reached = {
        what: f"{sum(row[what] <= limit for row in ratios.values())} of {len(ratios)} at most {limit:.2f}"
        for what, limit in LIMITS.items()
    }
    return {"ratios": ratios, "reached": reached}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one seed")
    parser.add_argument("--seeds", type=int, nargs="*", default=list(range(5)))
    parser.add_argument("--posteriors", nargs="*", default=list(POSTERIORS), choices=list(POSTERIORS))
    parser.add_argument("--methods", nargs="*", default=[*OURS, *PEERS])
    parser.add_argument("--again", action="store_true", help="also what was measured before")
    arguments = parser.parse_args()
    methods = arguments.methods
    if "JENSEN_PEERS" not in os.environ:
        methods = [method for method in methods if method.startswith("jensen")]
        print("JENSEN_PEERS is not set: jensen alone; see benchmarks/README.md")
    compiled(SOURCE, HERE)
    found: dict[str, Any] = kept(RESULT).get("posteriors", {})
    for posterior in arguments.posteriors:
        for seed in arguments.seeds[:1] if arguments.quick else arguments.seeds:
            for method in methods:
                seeds = found.setdefault(posterior, {}).setdefault(method, {})
                if str(seed) in seeds and not arguments.again:
                    continue
                seeds[str(seed)] = fit(method, posterior, seed)
                keep(RESULT, {"posteriors": found, "times": times(found)})
                print(posterior, method, seed, seeds[str(seed)], file=sys.stderr, flush=True)
    print(table(found))
    print(times(found)["reached"])


if __name__ == "__main__":
    main()
