"""The table of the IWAE paper: 2x200 tanh, 50 latents, static and dynamic MNIST, VAE, IWAE-5 and IWAE-50.

Each cell is written to benchmarks/results/iwae_table.json when it is done, and a cell that is there with the same
options is left out, so a session that was cut goes on where it stopped; with --runs FOLDER even within a cell.
The published values took 3,280 epochs of batch 20; ours say what they took.
"""

import argparse
import time
from itertools import product
from pathlib import Path
from typing import Any

from common import keep, kept, machine
from jensen import data, evaluation, runs
from jensen.cli.progress import FitBar, counting

NETWORK = {"latent_dim": 50, "hidden": "200,200", "activation": "tanh"}
METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "VAE": ("vae", {"tighten": 0}),
    "IWAE-5": ("iwae", {"samples": 5}),
    "IWAE-50": ("iwae", {"samples": 50}),
}
PUBLISHED = {
    "mnist-static": {"VAE": 88.71, "IWAE-5": 87.63, "IWAE-50": 87.10},
    "mnist-dynamic": {"VAE": 86.76, "IWAE-5": 85.54, "IWAE-50": 84.78},
}
PUBLISHED_SETTING = "Importance weighted autoencoders (2015): 3,280 epochs of batch 20, 5,000 samples"


def options_of(method: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """All options of a cell."""
    options = {
        **NETWORK,
        **METHODS[method][1],
        "epochs": arguments.epochs,
        "batch_size": arguments.batch_size,
    }
    if METHODS[method][0] == "iwae":
        options["gradient"] = arguments.gradient
    return options | dict(setting.split("=", 1) for setting in arguments.set)


def measure(name: str, method: str, options: dict[str, Any], arguments: argparse.Namespace) -> dict[str, Any]:
    """Fits and evaluates one cell."""
    train, valid, test = (data.known(name, split) for split in ("train", "valid", "test"))
    folder = None if arguments.runs is None else Path(arguments.runs) / f"{name}-{method}-{arguments.seed}"
    start = time.perf_counter()
    with FitBar() as bar:
        run = runs.fit(
            train,
            METHODS[method][0],
            options,
            valid=valid,
            seed=arguments.seed,
            device=arguments.device,
            folder=folder,
            resume=folder is not None,
            watcher=bar,
        )
    seconds = time.perf_counter() - start
    if run.history[-1]["status"] == "interrupted":
        raise KeyboardInterrupt
    x = run.prepare(test, arguments.seed)[: arguments.images]
    with counting("evaluating", len(x)) as count:
        numbers = evaluation.evaluate(run.model, x, arguments.samples, seed=arguments.seed, on_data=count)
    numbers.pop("kl_per_dimension")
    return {
        "fit_seconds_of_last_session": seconds,
        "step_seconds": sum(record["seconds"] for record in run.history),
        "epochs": len(run.history),
        "status": run.history[-1]["status"],
        "test": numbers,
    }


def merge(cell: dict[str, Any]) -> None:
    """Writes a cell beside those that are there; one for the same data, method and seed is replaced."""
    key = ("data", "method", "seed")
    cells = [c for c in kept("iwae_table").get("cells", []) if any(c[k] != cell[k] for k in key)]
    cells = sorted([*cells, cell], key=lambda c: [str(c[k]) for k in key])
    keep(
        "iwae_table",
        {
            "what": "test NLL in nats, 2x200 tanh, 50 latents",
            "published": PUBLISHED,
            "published_setting": PUBLISHED_SETTING,
            "cells": cells,
        },
    )


def table() -> str:
    """What there is, with the published values beside it."""
    lines = [
        "| data | method | epochs | batch | samples | NLL | sampling ± | data ± | paper, 3,280 epochs of batch 20 |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for cell in kept("iwae_table").get("cells", []):
        test, options = cell["test"], cell["options"]
        numbers = [f"{test[k]:.2f}" for k in ("nll", "nll_standard_error", "nll_test_standard_error")]
        counts = [str(n) for n in (cell["epochs"], options["batch_size"], test["samples"])]
        published = f"{PUBLISHED[cell['data']][cell['method']]:.2f}"
        lines.append(f"| {' | '.join([cell['data'], cell['method'], *counts, *numbers, published])} |")
    return "\n".join(lines)


def read_arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", choices=list(PUBLISHED), default=list(PUBLISHED))
    parser.add_argument("--methods", nargs="+", choices=list(METHODS), default=list(METHODS))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=100)
    parser.add_argument("--samples", type=int, default=5000, help="importance samples of the evaluation")
    parser.add_argument("--images", type=int, default=10_000, help="test images")
    parser.add_argument("--gradient", default="pathwise", help="of IWAE; the paper's is the path-wise one")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument(
        "--runs", metavar="FOLDER", help="keep Runs there, and go on with those that were cut"
    )
    return parser.parse_args()


def main() -> None:
    """Measures the cells that are missing and prints the table."""
    arguments = read_arguments()
    for name, method in product(arguments.data, arguments.methods):
        options = options_of(method, arguments)
        asked = {"data": name, "method": method, "seed": arguments.seed, "options": options}
        asked |= {"samples": arguments.samples, "images": arguments.images}
        if any(all(cell[k] == v for k, v in asked.items()) for cell in kept("iwae_table").get("cells", [])):
            print(f"{name} {method}: is there already")
            continue
        merge({**asked, **measure(name, method, options, arguments), "machine": machine()})
        print(f"{name} {method}: done", flush=True)
    print(table())


if __name__ == "__main__":
    main()
