"""NLL of a VAE on static MNIST: 784-400-z40-400-784, default recipe, 5,000 importance samples, all test images.

Run it seed by seed; results are merged into benchmarks/results/mnist_static.json. The recipe is the default one, chosen
by the validation images of this set alone; --together then fits it to training and validation images, 60,000 in all, as
the published figures of Burda et al. do. With --recipe iwae it maximises the importance-weighted bound of 5 samples.
JENSEN_DATA has to name the folder with the data set, or it is fetched. With --pythae, the path of the Python of the
peers' environment, it also takes the time of an epoch of Pythae's trainer in turn with jensen's, and from it that of
Pythae's 500 epochs.
"""

import argparse
import json
import os
import statistics
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from common import keep, kept, machine
from jensen import data, evaluation, runs
from jensen.cli.progress import FitBar, counting

PUBLISHED = 89.78
"""Nats, by Pythae: 500 epochs of Adam 1e-4, batch 100, 200 importance samples."""

PUBLISHED_EPOCHS = 500
TARGET = 1 / 3
"""Of the time of Pythae's 500 epochs, at most."""


def measure(
    seed: int, recipe: str, options: dict[str, str], samples: int, *, together: bool
) -> dict[str, object]:
    """Fits and evaluates one seed.

    Args:
        seed: Of the fit.
        recipe: Its name.
        options: Of the recipe, beside its defaults.
        samples: Importance samples a datum.
        together: Fit on training and validation images together, for as many epochs as the recipe says.
    """
    train, valid, test = (data.known("mnist-static", split) for split in ("train", "valid", "test"))
    if together:
        x = np.concatenate([train.x, valid.x])
        train, valid = replace(train, x=x), None
    start = time.perf_counter()
    with FitBar() as bar:
        run = runs.fit(
            train, recipe, {"latent_dim": 40, **options}, valid=valid, seed=seed, device="cpu", watcher=bar
        )
    seconds = time.perf_counter() - start
    x = run.prepare(test)
    with counting("evaluating", len(x)) as count:
        numbers = evaluation.evaluate(run.model, x, samples, seed=seed, on_data=count)
    numbers.pop("kl_per_dimension")
    best = [record["valid"] for record in run.history if record["best"] and record["valid"] is not None]
    return {
        "recipe": recipe,
        "seed": seed,
        "fit_seconds": seconds,
        "epochs": len(run.history),
        "fitted_on": "training and validation images" if together else "training images",
        "set": options,
        "best_valid": best[-1] if best else None,
        "train_elbo": run.history[-1]["train"]["elbo"],
        "options": run.config.model_dump(mode="json"),
        "test": numbers,
        "machine": machine(),
    }


def pythae_time(
    python: str, options: dict[str, str], fits: list[dict[str, Any]], sizes: list[str]
) -> dict[str, Any]:
    """Seconds of an epoch of each, in turn, and our fits' time over that of Pythae's epochs.

    The ratio in turn takes both times from that run, so that it doesn't matter how busy the machine was when the
    fits were made; the other one takes the fits' own time.
    """
    here = Path(__file__).parent
    settings = [part for key, value in options.items() for part in ("--set", f"{key}={value}")]
    environment = {**os.environ, "PYTHONPATH": str(here.parent / "src")}
    command = [python, str(here / "epochs.py"), *settings, *sizes]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    measured = json.loads(done.stdout.splitlines()[-1])
    scale = 50_000 / measured["data"]
    first, second, theirs = (value * scale for value in measured["seconds_per_epoch"].values())
    total = PUBLISHED_EPOCHS * theirs
    measured |= {"pythae_epochs": PUBLISHED_EPOCHS, "pythae_seconds": total, "target": TARGET}
    if fits:
        late = [round(fit["options"]["tighten"] * fit["options"]["epochs"]) for fit in fits]
        each = [first * (fit["epochs"] - tail) + second * tail for fit, tail in zip(fits, late, strict=True)]
        measured["ratio_in_turn"] = statistics.median(each) / total
        measured["ratio_of_fit_seconds"] = statistics.median(fit["fit_seconds"] for fit in fits) / total
    return measured


def _key(record: dict[str, Any]) -> tuple[str, str, str, int]:
    changed = json.dumps(record.get("set", {}), sort_keys=True)
    return record.get("recipe", "vae"), record.get("fitted_on", "training images"), changed, record["seed"]


def merge(seeds: list[dict[str, Any]], pythae: dict[str, Any] | None) -> None:
    """Writes what is known by now, the old and the new."""
    before = kept("mnist_static")
    records = {_key(entry): entry for entry in [*before.get("seeds", []), *seeds]}
    content: dict[str, Any] = {
        "what": "test NLL in nats of vae on mnist-static, 784-400-z40-400-784 ReLU",
        "published": {
            "pythae": PUBLISHED,
            "setting": "200 samples, 500 epochs, batch 100, Adam 1e-4",
        },
        "seeds": [records[key] for key in sorted(records)],
        "pythae_time": before.get("pythae_time") if pythae is None else pythae,
    }
    keep("mnist_static", content)


def main() -> None:
    """Reads the arguments, measures, merges, prints a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--recipe", default="vae", choices=["vae", "iwae"])
    parser.add_argument("--samples", type=int, default=5000)
    parser.add_argument(
        "--together", action="store_true", help="fit on training and validation images together"
    )
    parser.add_argument("--epochs", help="the recipe's default if it isn't given")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--pythae", metavar="PYTHON", help="also time Pythae's epochs with that interpreter")
    parser.add_argument("--timing-data", default="50000", help="data of a timed epoch")
    parser.add_argument("--timing-rounds", default="5")
    arguments = parser.parse_args()
    options = dict(setting.split("=", 1) for setting in arguments.set)
    if arguments.epochs is not None:
        options["epochs"] = arguments.epochs
    for seed in arguments.seeds:
        record = measure(seed, arguments.recipe, options, arguments.samples, together=arguments.together)
        merge([record], None)
        print(f"seed {seed}: {record['epochs']} epochs, {record['fit_seconds']:.0f} s, {record['test']}")
    if arguments.pythae is not None:
        options.pop("epochs", None)
        sizes = ["--data", arguments.timing_data, "--rounds", arguments.timing_rounds]
        fits = [
            fit
            for fit in kept("mnist_static").get("seeds", [])
            if _key(fit)[:3] == ("vae", "training images", "{}")
        ]
        timing = pythae_time(arguments.pythae, options, fits, sizes)
        merge([], timing)
        print(timing)


if __name__ == "__main__":
    main()
