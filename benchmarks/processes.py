"""Two processes against one at equal batches: how far their loss curves differ, and what the loop costs one process.

It starts itself under torchrun; ``--worker FOLDER`` is what each process then does.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from common import in_turn, keep, ratio, timed
from contenders import BATCH, assemble, images
from jensen import runs
from jensen.recipes import RECIPES
from jensen.training import ArrayBatches, Batch, Progress, Settings, Training

CASES: dict[str, dict[str, Any]] = {
    "defaults": {},
    "dropout": {"dropout": 0.2, "input_dropout": 0.1},
    "importance weighted": {"bound": "iwae", "samples": 3, "gradient": "doubly-reparameterised"},
    "in two parts": {"accumulate": 2},
}


def fit(folder: Path, data: int, epochs: int) -> None:
    """Fits every case and keeps it in a folder."""
    torch.set_num_threads(1)
    dataset = images(data)
    for name, options in CASES.items():
        runs.fit(
            dataset,
            options={"epochs": epochs, "batch_size": BATCH, "latent_dim": 40, "patience": None, **options},
            valid=0.1,
            device="cpu",
            folder=folder / name,
        )


def curves(folder: Path) -> dict[str, list[dict[str, float]]]:
    """For each case, epoch by epoch, the bound on training and validation data and the data a second."""
    result: dict[str, list[dict[str, float]]] = {}
    for name in CASES:
        lines = (folder / name / "metrics.jsonl").read_text().splitlines()
        records = [json.loads(line) for line in lines]
        result[name] = [
            {"train": r["train"]["elbo"], "valid": r["valid"]["elbo"], "rate": r["rate"]} for r in records
        ]
    return result


def differences(one: list[dict[str, float]], two: list[dict[str, float]]) -> dict[str, float]:
    """The largest relative difference of each curve."""
    return {
        key: max(abs(b[key] / a[key] - 1) for a, b in zip(one, two, strict=True))
        for key in ("train", "valid")
    }


def overhead(data: int, rounds: int) -> dict[str, Any]:
    """The loop of training against its own step called by hand, without states, signals, records and watchers."""
    torch.set_num_threads(1)
    dataset = images(data)
    options = {"latent_dim": 40, "epochs": 1000, "averaging": None}

    def training() -> Training:
        model, config = assemble(dataset, options)
        return Training(
            RECIPES["vae"].objective(model, config),
            ArrayBatches(torch.as_tensor(dataset.x), BATCH),
            Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__}),
        )

    loop = training().run()
    by_hand = training()
    objective, optimiser, guard = by_hand.objective, by_hand.optimiser, by_hand.guard

    def hand() -> float:
        def steps(batches: Iterator[Batch]) -> None:
            for number, batch in enumerate(batches):
                for parameter in guard.parameters:
                    parameter.grad = None
                loss, _ = objective(batch, Progress(number, 0.0, 0.0))
                loss.backward()
                guard.prepare()
                optimiser.step()

        return len(dataset) / timed(lambda: steps(by_hand.batches.epoch(0)))

    contenders: dict[str, Callable[[], float]] = {"loop": lambda: next(loop).rate, "by hand": hand}
    figures = in_turn(contenders, rounds)
    return {"overhead": ratio(figures, "by hand", "loop") - 1, "rounds": figures}


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=int, default=3000)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--worker", type=Path)
    arguments = parser.parse_args()
    if arguments.worker is not None:
        fit(arguments.worker, arguments.data, arguments.epochs)
        return
    with tempfile.TemporaryDirectory() as place:
        folders = [Path(place) / name for name in ("one", "two")]
        own = [__file__, "--data", str(arguments.data), "--epochs", str(arguments.epochs), "--worker"]
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
        for folder, command in zip(folders, ([sys.executable], torchrun), strict=True):
            subprocess.run(
                [*command, *own, str(folder)], check=True, env={**os.environ, "OMP_NUM_THREADS": "1"}
            )
        one, two = (curves(folder) for folder in folders)
    found = {name: differences(one[name], two[name]) for name in CASES}
    cost = overhead(arguments.data, arguments.rounds)
    print(f"{'':24}{'training':>12}{'validation':>12}   largest relative difference of two processes to one")
    for name, worst in found.items():
        print(f"{name:24}{worst['train']:12.1e}{worst['valid']:12.1e}")
    print(f"the loop costs one process {100 * cost['overhead']:.1f} % above its step called by hand")
    path = keep(
        "processes",
        {
            "what": f"two processes against one, batch {BATCH} together, {arguments.epochs} epochs",
            "largest_relative_difference": found,
            "target_difference": 1e-5,
            "target_overhead": 0.05,
            "curves": {"one": one, "two": two},
            **cost,
        },
    )
    print(f"written to {path}")


if __name__ == "__main__":
    main()
