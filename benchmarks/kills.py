"""Fits killed at random moments and gone on with: are they, bit for bit, what an uninterrupted fit gives?

Every fit runs in a process forked from this one, is killed by SIGKILL, and is then resumed in another one. It saves
what resuming needs after each step, so that many kills come in the middle of a write.
"""

import argparse
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

from common import keep
from jensen.data import Dataset, from_array
from jensen.errors import RunError
from jensen.runs import Run, fit, keeping

OPTIONS = {"epochs": 12, "latent_dim": 3, "hidden": 16, "batch_size": 20, "averaging": 0.99}


def dataset() -> Dataset:
    return from_array((np.random.default_rng(0).random((200, 12)) < 0.3).astype(np.uint8), name="random")


def forked(folder: Path) -> int:
    """Starts a fit in a process of its own, or goes on with it; returns its number."""
    process = os.fork()
    if process == 0:
        status = 1
        try:
            fit(dataset(), options=OPTIONS, valid=0.2, device="cpu", folder=folder, resume=True)
            status = 0
        finally:
            os._exit(status)
    return process


def outcome(folder: Path) -> tuple[bytes, list[dict[str, Any]]]:
    """Weights and history but for times."""
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in record.items() if k not in ("seconds", "rate")} for record in history]
    return (folder / "weights.safetensors").read_bytes(), timeless


def trial(folder: Path, seconds: float, reference: Any) -> dict[str, Any]:
    """One fit, killed after so many seconds and gone on with."""
    process = forked(folder)
    time.sleep(seconds)
    os.kill(process, signal.SIGKILL)
    killed = os.WIFSIGNALED(os.waitpid(process, 0)[1])
    begun = (folder / "config.json").exists()
    readable = True
    if begun:
        try:
            Run.load(folder)
        except RunError as error:
            print(error)
            readable = False
    resumed = os.waitpid(forked(folder), 0)[1] == 0
    return {
        "seconds": seconds,
        "killed": killed,
        "begun": begun,
        "readable": readable,
        "equal": resumed and outcome(folder) == reference,
    }


def main() -> None:
    """Reads the arguments, kills, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--print-only", action="store_true", help="keep no result")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    keeping.SAVE_EVERY = keeping.SAVE_WITHIN = 0.0
    # The forked processes needn't import what torch's optimisers import when the first one is made.
    torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], fused=True)
    generator = np.random.default_rng(arguments.seed)
    root = Path(tempfile.mkdtemp())
    try:
        start = time.perf_counter()
        if os.waitpid(forked(root / "whole"), 0)[1] != 0:
            raise SystemExit("the uninterrupted fit failed")
        whole = time.perf_counter() - start
        reference = outcome(root / "whole")
        trials: list[dict[str, Any]] = []
        while sum(one["killed"] for one in trials) < arguments.kills:
            folder = root / str(len(trials))
            trials.append(trial(folder, float(generator.uniform(0, whole)), reference))
            shutil.rmtree(folder)
    finally:
        shutil.rmtree(root)
    hit = [one for one in trials if one["killed"]]
    result = {
        "kills": len(hit),
        "bit_equal": sum(one["equal"] for one in hit),
        "unreadable": sum(not one["readable"] for one in hit),
        "before_the_run_began": sum(not one["begun"] for one in hit),
        "seconds_of_a_whole_fit": whole,
    }
    print(json.dumps(result))
    if not arguments.print_only:
        keep("kills", {"what": "fits killed by SIGKILL at random moments and resumed", **result})


if __name__ == "__main__":
    main()
