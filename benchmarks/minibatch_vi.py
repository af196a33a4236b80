"""Logistic regression with many rows: a mean field by minibatches beside the same family fitted to all data at once.

Each fit is a process of its own, which makes the data, fits, and tells its seconds, its means and deviations, and how
far its memory rose above what it held with the data. ``--rows 1000000`` is the size of the target; the default is a
tenth of it. Writes ``benchmarks/results/minibatch_vi.json``.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus

from common import keep
from jensen.inference import Target, fit, real
from jensen.inference.fit import METHODS, starting_points
from jensen.inference.stochastic_methods import climbed

COLUMNS = 50
CHUNK = 10_000


def data(rows: int) -> tuple[Tensor, Tensor]:
    """Predictors with an intercept, and labels; made part by part."""
    generator = torch.Generator().manual_seed(0)
    weight = 0.3 * torch.randn(COLUMNS, dtype=torch.float64, generator=generator)
    x, y = torch.empty(rows, COLUMNS, dtype=torch.float64), torch.empty(rows, dtype=torch.float64)
    for start in range(0, rows, CHUNK):
        part = x[start : start + CHUNK].normal_(generator=generator)
        part[:, 0] = 1
        y[start : start + CHUNK] = torch.bernoulli(torch.sigmoid(part @ weight), generator=generator)
    return x, y


def log_prior(p: dict[str, Tensor]) -> Tensor:
    return -0.5 * (p["w"] ** 2).sum()


def log_likelihood(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    logits = x @ p["w"]
    return y * logits - softplus(logits)


def megabytes() -> float:
    """The process's greatest memory so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def one(kind: str, rows: int, batch: int, seed: int) -> dict[str, Any]:
    """A fit without the judging at the end, which passes over all data for either."""
    target = Target(log_prior, {"w": real(COLUMNS)}, log_likelihood=log_likelihood, data=data(rows))
    # Whatever torch loads at its first use is there before the clock starts.
    fit(Target(lambda p: -p["w"].square().sum(), {"w": real(2)}), "mean-field", pool=200)
    before, start, work = megabytes(), time.perf_counter(), time.process_time()
    if kind == "minibatch":
        starts = torch.zeros(1, COLUMNS, dtype=torch.float64)
        found = climbed(target, starts, family="mean-field", batch_size=batch, seed=seed)
    else:
        found = METHODS["mean-field"].run(target, starting_points(target, None, 1, seed), seed=seed)
    seconds, processor = time.perf_counter() - start, time.process_time() - work
    q = found.posterior
    assert q is not None
    return {
        "seconds": seconds,
        "processor_seconds": processor,
        "megabytes_above_data": megabytes() - before,
        "mean": q.mean.tolist(),
        "sd": q.stddev.tolist(),
        "notes": list(found.notes),
    }


def apart(kind: str, rows: int, batch: int, seed: int) -> dict[str, Any]:
    """The same in a process of its own."""
    command = [
        sys.executable,
        __file__,
        "--one",
        kind,
        "--rows",
        str(rows),
        "--batch",
        str(batch),
        "--seed",
        str(seed),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.strip().splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--batch", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--one", choices=["minibatch", "full"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.one:
        print(json.dumps(one(arguments.one, arguments.rows, arguments.batch, arguments.seed)))
        return
    part = apart("minibatch", arguments.rows, arguments.batch, arguments.seed)
    print(
        f"minibatch: {part['seconds']:.1f} s, {part['megabytes_above_data']:.0f} MB above the data",
        flush=True,
    )
    small = apart("minibatch", arguments.rows // 10, arguments.batch, arguments.seed)
    full = apart("full", arguments.rows, arguments.batch, arguments.seed)
    sd, means = torch.tensor(full["sd"]), torch.tensor(part["mean"]) - torch.tensor(full["mean"])
    found = {
        "seconds": {"minibatch": part["seconds"], "full": full["seconds"]},
        "processor_seconds": {"minibatch": part["processor_seconds"], "full": full["processor_seconds"]},
        # Of the processor's seconds: a machine that does other things as well doesn't change them.
        "ratio": part["processor_seconds"] / full["processor_seconds"],
        "mean_largest": float((means / sd).abs().max()),
        "log_sd_largest": float((torch.tensor(part["sd"]) / sd).log().abs().max()),
        "megabytes_above_data": {
            str(arguments.rows // 10): small["megabytes_above_data"],
            str(arguments.rows): part["megabytes_above_data"],
        },
        "notes": {"minibatch": part["notes"], "full": full["notes"]},
    }
    found["met"] = found["ratio"] < 0.2 and found["mean_largest"] <= 0.2 and found["log_sd_largest"] <= 0.1
    print(json.dumps(found, indent=2))
    keep("minibatch_vi", {"settings": vars(arguments), "columns": COLUMNS, "found": found})


if __name__ == "__main__":
    main()
