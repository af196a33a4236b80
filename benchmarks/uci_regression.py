"""Regression on five UCI data sets, 20 standard splits each: test NLL and RMSE of posteriors over weights.

Run with ``python benchmarks/uci_regression.py``; it needs ``JENSEN_DATA``, the folder that holds ``uci-regression``,
merges what it finds into ``benchmarks/results/uci_regression.json`` split by split, so that a run that was cut goes on
where it stopped, and prints a table in Markdown. ``--quick`` takes three data sets and three splits.

The setting is that of Hernandez-Lobato and Adams (2015, https://arxiv.org/abs/1502.05336): a hidden layer of 50 ReLU
units; the published figures are means over the splits at 40 epochs, from deep ensembles of 5
(https://arxiv.org/abs/1612.01474), MC-dropout (https://arxiv.org/abs/1506.02142) and probabilistic backpropagation.
Columns and targets are standardised by the training part; NLL is that of the targets in their own units, so the log of
the targets' standard deviation is added. One setting serves all data sets. It was chosen on parts held out from the
training data (``--choose``), never on a test part. Beside "ensemble, 100 epochs" stand the lowest figures known of any
method at any number of epochs.
"""

import argparse
import os
import statistics
import time
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

import jensen as jn
from common import keep, kept

SETS = ("boston", "concrete", "energy", "power-plant", "yacht")
SPLITS = 20
PUBLISHED = {
    "ensemble": (2.41, 3.06, 1.38, 2.79, 1.18),
    "dropout": (2.46, 3.04, 1.99, 2.80, 1.55),
    "pbp": (2.57, 3.16, 2.04, 2.84, 1.63),
    "ensemble, 100 epochs": (2.40, 2.93, 1.21, 2.79, 1.18),
}

SETTINGS: dict[str, dict[str, Any]] = {
    "ensemble": {
        "method": "ensemble",
        "members": 5,
        "noise_scale": "network",
        "adversarial": 0.01,
        "prior_scale": 0.5,
        "epochs": 40,
        "batch_size": 32,
        "learning_rate": 0.01,
    },
    "ensemble, 100 epochs": {
        "method": "ensemble",
        "members": 5,
        "noise_scale": "network",
        "adversarial": 0.01,
        "prior_scale": 0.3,
        "epochs": 100,
        "batch_size": 32,
        "learning_rate": 0.01,
    },
    "dropout": {
        "method": "dropout",
        "insert": 0.01,
        "prior_scale": 0.5,
        "epochs": 40,
        "batch_size": 16,
        "learning_rate": 0.02,
    },
    "backprop": {
        "method": "bayes-by-backprop",
        "epochs": 40,
        "batch_size": 32,
        "learning_rate": 0.02,
        "samples": 4,
    },
    "pbp": {"method": "pbp", "epochs": 40},
    "map": {"method": "map", "epochs": 40, "batch_size": 32, "learning_rate": 0.02},
}


def folder(name: str) -> Path:
    """Where a data set lies."""
    place = Path(os.environ.get("JENSEN_DATA", "")) / "uci-regression" / name
    if not place.exists():
        raise SystemExit(f"{place} isn't there; set JENSEN_DATA to the folder that holds uci-regression")
    return place


def split(name: str, number: int) -> tuple[np.ndarray, ...]:
    """Training data and targets, and those of the test."""
    place = next(folder(name).glob("**/data.txt")).parent
    data = np.loadtxt(place / "data.txt")
    columns = np.loadtxt(place / "index_features.txt").astype(int)
    target = int(np.loadtxt(place / "index_target.txt"))
    x, y = data[:, columns], data[:, target]
    parts = [np.loadtxt(place / f"index_{part}_{number}.txt").astype(int) for part in ("train", "test")]
    return x[parts[0]], y[parts[0]], x[parts[1]], y[parts[1]]


def network(inputs: int, setting: dict[str, Any]) -> nn.Module:
    """One hidden layer of 50 ReLU units."""
    return nn.Sequential(
        nn.Linear(inputs, 50), nn.ReLU(), nn.Linear(50, 2 if setting.get("noise_scale") == "network" else 1)
    )


def scores(
    setting: dict[str, Any], parts: tuple[np.ndarray, ...], seed: int, samples: int = 500
) -> dict[str, float]:
    """NLL and RMSE in the targets' own units, and seconds of the fit."""
    x, y, x_test, y_test = parts
    # A column that is constant in the training part has no unit.
    centre, unit = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
    shift, scale = float(y.mean()), float(y.std())
    inputs, inputs_test = ((torch.from_numpy((v - centre) / unit).float()) for v in (x, x_test))
    targets, targets_test = ((torch.from_numpy((v - shift) / scale).float()) for v in (y, y_test))
    torch.manual_seed(seed)
    start = time.perf_counter()
    posterior = jn.weights.fit(
        network(x.shape[1], setting), inputs, targets, likelihood="normal", seed=seed, **setting
    )
    seconds = time.perf_counter() - start
    found = posterior.predict(inputs_test, samples=samples)
    nll = -float(found.log_prob(targets_test).mean()) + log(scale)
    rmse = scale * float((found.mean - targets_test).square().mean().sqrt())
    return {"nll": nll, "rmse": rmse, "seconds": seconds}


def held_out(parts: tuple[np.ndarray, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Four fifths and one fifth of the training part alone."""
    order = np.random.default_rng(seed).permutation(len(parts[0]))
    cut = len(order) // 5
    return parts[0][order[cut:]], parts[1][order[cut:]], parts[0][order[:cut]], parts[1][order[:cut]]


def summary(splits: list[dict[str, float]]) -> dict[str, float]:
    """Means over the splits and their standard errors."""
    result: dict[str, float] = {"splits": len(splits)}
    for key in ("nll", "rmse", "seconds"):
        values = [one[key] for one in splits]
        result[key] = statistics.mean(values)
        result[f"{key} standard error"] = (
            statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else float("nan")
        )
    return result


def choose(names: tuple[str, ...], methods: list[str], changes: list[dict[str, Any]]) -> None:
    """Prints, for changes of the settings, the NLL on parts held out from the training data of three splits."""
    for method in methods:
        for change in changes:
            setting = {**SETTINGS[method], **change}
            row = [
                statistics.mean(
                    scores(setting, held_out(split(name, number), number), number, 100)["nll"]
                    for number in range(3)
                )
                for name in names
            ]
            print(method, change, " ".join(f"{value:.3f}" for value in row), flush=True)


def run(names: tuple[str, ...], methods: list[str], splits: int) -> dict[str, Any]:
    """All splits of all data sets by all methods."""
    found: dict[str, Any] = {k: v for k, v in kept("uci_regression").items() if k != "machine"}
    for name in names:
        for method in methods:
            place = found.setdefault(name, {}).setdefault(method, {})
            if place.get("setting") != SETTINGS[method]:
                place = found[name][method] = {"setting": SETTINGS[method], "each": []}
            while len(place["each"]) < splits:
                number = len(place["each"])
                place["each"].append(scores(SETTINGS[method], split(name, number), number))
                place["summary"] = summary(place["each"])
                keep("uci_regression", found)
            print(name, method, f"{place['summary']['nll']:.3f}", flush=True)
    return found


def table(found: dict[str, Any], names: tuple[str, ...], methods: list[str]) -> str:
    """NLL with its standard error over the splits, RMSE, and the published NLL."""
    lines = [
        "| data | method | splits | NLL | published | RMSE | seconds |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]

    def show(values: dict[str, float], key: str) -> str:
        return f"{values[key]:.2f} ± {values[f'{key} standard error']:.2f}"

    for name in names:
        for method in methods:
            s = found[name][method]["summary"]
            published = PUBLISHED[method][SETS.index(name)] if method in PUBLISHED else "-"
            lines.append(
                f"| {name} | {method} | {s['splits']} | {show(s, 'nll')} | {published} | {show(s, 'rmse')} | "
                f"{s['seconds']:.1f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sets", nargs="+", default=list(SETS), choices=SETS)
    parser.add_argument(
        "--methods", nargs="+", default=["ensemble", "dropout", "map"], choices=list(SETTINGS)
    )
    parser.add_argument("--splits", type=int, default=SPLITS)
    parser.add_argument("--quick", action="store_true", help="boston, energy and yacht, three splits")
    parser.add_argument(
        "--choose", action="store_true", help="compare settings on parts of the training data"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    names, splits = tuple(arguments.sets), arguments.splits
    if arguments.quick:
        names, splits = ("boston", "energy", "yacht"), 3
    if arguments.choose:
        changes = [
            {"learning_rate": rate, "batch_size": size}
            for rate in (0.01, 0.03, 0.1)
            for size in (16, 32, 100)
        ]
        choose(names, arguments.methods, changes)
        return
    found = run(names, arguments.methods, splits)
    print(table(found, names, arguments.methods))


if __name__ == "__main__":
    main()
