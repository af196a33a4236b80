"""Regression on five UCI data sets, 20 standard splits each: test NLL and RMSE of posteriors over weights.

Run with ``python benchmarks/uci_regression.py``; it needs ``JENSEN_DATA``, the folder that holds ``uci-regression``,
merges what it finds into ``benchmarks/results/uci_regression.json`` split by split, so that a run that was cut goes on
where it stopped, and prints a table in Markdown. ``--quick`` takes three data sets and three splits.

The setting is that of Hernandez-Lobato and Adams (2015, https://arxiv.org/abs/1502.05336): a hidden layer of 50 ReLU
units; the published figures are means over the splits at 40 epochs, from deep ensembles of 5
(https://arxiv.org/abs/1612.01474), MC-dropout (https://arxiv.org/abs/1506.02142) and probabilistic backpropagation.
Columns and targets are standardised by the training part; NLL is that of the targets in their own units, so the log of
the targets' standard deviation is added. One setting serves all data sets. It was chosen on parts held out from the
training data (``--choose``), never on a test part. What a setting leaves open is decided for each split on a fifth of
that split's training part: the rate of MC-dropout and, where the noise is constant, its size, as for the published
figures of dropout (which have constant noise); epochs and prior of "ensemble, any budget", beside which stand the
lowest figures known of any method at any number of epochs.
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
from torch import Tensor, nn
from torch.distributions import Normal

import jensen as jn
from common import keep, kept
from jensen.seeding import seeded
from jensen.weights.pbp import PbpOptions, filtering
from jensen.weights.pbp.moments import output_moments

SETS = ("boston", "concrete", "energy", "power-plant", "yacht")
SPLITS = 20
PUBLISHED = {
    "ensemble": (2.41, 3.06, 1.38, 2.79, 1.18),
    "dropout": (2.46, 3.04, 1.99, 2.80, 1.55),
    "dropout, constant noise": (2.46, 3.04, 1.99, 2.80, 1.55),
    "pbp": (2.57, 3.16, 2.04, 2.84, 1.63),
    "ensemble, any budget": (2.40, 2.93, 1.21, 2.79, 1.18),
}

DROPOUT: dict[str, Any] = {
    "method": "dropout",
    "prior_scale": 1.0,
    "epochs": 40,
    "batches": 250,
    "smallest_batch": 4,
    "learning_rate": 0.005,
    "rate_exponent": 0.5,
}

SETTINGS: dict[str, dict[str, Any]] = {
    "ensemble": {
        "method": "ensemble",
        "members": 5,
        "noise_scale": "network",
        "adversarial": 0.005,
        "prior_scale": 0.5,
        "epochs": 40,
        "batches": 64,
        "smallest_batch": 32,
        "learning_rate": 0.01,
    },
    "ensemble, any budget": {
        "method": "ensemble",
        "members": 10,
        "noise_scale": "network",
        "adversarial": 0.01,
        "choices": [{"epochs": 50, "prior_scale": 0.3}, {"epochs": 400, "prior_scale": 0.5}],
        "batches": 64,
        "smallest_batch": 32,
        "learning_rate": 0.01,
    },
    "dropout": {
        **DROPOUT,
        "noise_scale": "network",
        "choices": [{"insert": 0.01}, {"insert": 0.05}],
    },
    "dropout, constant noise": {
        **DROPOUT,
        "insert": [0.01, 0.05],
        "noise_factor": [1.0, 1.1, 1.25, 1.4],
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


def standardised(parts: tuple[np.ndarray, ...]) -> tuple[list[Tensor], float]:
    """Training data and targets and those of the test by the training part's moments, and the targets' unit."""
    x, y, x_test, y_test = parts
    # A column that is constant in the training part has no unit.
    centre, unit = x.mean(0), np.where(x.std(0) > 0, x.std(0), 1.0)
    shift, scale = float(y.mean()), float(y.std())
    standard = [(x - centre) / unit, (y - shift) / scale, (x_test - centre) / unit, (y_test - shift) / scale]
    return [torch.from_numpy(values).float() for values in standard], scale


def held_out(parts: tuple[np.ndarray, ...], seed: int) -> tuple[np.ndarray, ...]:
    """Four fifths and one fifth of the training part alone."""
    order = np.random.default_rng(seed).permutation(len(parts[0]))
    cut = len(order) // 5
    return parts[0][order[cut:]], parts[1][order[cut:]], parts[0][order[:cut]], parts[1][order[:cut]]


def sized(setting: dict[str, Any], n: int) -> dict[str, Any]:
    """The setting for so many data: a fixed number of batches an epoch, none smaller than the smallest.

    The step size grows with a power of the batch.
    """
    rest = {
        k: v for k, v in setting.items() if k not in ("choices", "batches", "smallest_batch", "rate_exponent")
    }
    if "batches" in setting:
        smallest = setting["smallest_batch"]
        rest["batch_size"] = max(smallest, n // setting["batches"])
        rest["learning_rate"] *= (rest["batch_size"] / smallest) ** setting.get("rate_exponent", 0.0)
    return rest


def constant_noise(setting: dict[str, Any], parts: tuple[np.ndarray, ...], seed: int) -> dict[str, Any]:
    """Rate and noise of MC-dropout chosen on a fifth of the training part, as for its published figures.

    The noise is learned on the other four fifths, whose residuals are smaller than those of new data: the factor makes
    up for it.
    """
    rest = {k: v for k, v in sized(setting, len(parts[0])).items() if k not in ("insert", "noise_factor")}
    (x, y, x_held, y_held), _ = standardised(held_out(parts, seed))
    best: tuple[float, dict[str, Any]] | None = None
    for rate in setting["insert"]:
        one = {**rest, "insert": rate}
        cells = fitted(one, x, y, seed).predict(x_held, samples=200).cells
        for factor in setting["noise_factor"]:
            each = Normal(cells.loc, factor * cells.scale).log_prob(y_held.reshape(cells.loc.shape[1:]))
            value = float(each.logsumexp(0).mean())
            if best is None or value > best[0]:
                best = value, {**one, "noise_scale": factor * float(cells.scale.mean())}
    assert best is not None
    return best[1]


def chosen(setting: dict[str, Any], parts: tuple[np.ndarray, ...], seed: int) -> dict[str, Any]:
    """The setting with what is left open decided on the training part alone."""
    if "noise_factor" in setting:
        return constant_noise(setting, parts, seed)
    choices = [{**setting, **choice} for choice in setting.get("choices", [{}])]
    if len(choices) > 1:
        trial = held_out(parts, seed)
        choices.sort(key=lambda one: scores(sized(one, len(trial[0])), trial, seed)["nll"])
    return sized(choices[0], len(parts[0]))


def fitted(setting: dict[str, Any], x: Tensor, y: Tensor, seed: int) -> Any:
    """The posterior over the weights of a network for standardised data."""
    torch.manual_seed(seed)
    return jn.weights.fit(network(x.shape[1], setting), x, y, likelihood="normal", seed=seed, **setting)


def scores(
    setting: dict[str, Any], parts: tuple[np.ndarray, ...], seed: int, samples: int = 500
) -> dict[str, float]:
    """NLL and RMSE in the targets' own units, and seconds of the fit."""
    (inputs, targets, inputs_test, targets_test), scale = standardised(parts)
    start = time.perf_counter()
    setting = chosen(setting, parts, seed)
    posterior = fitted(setting, inputs, targets, seed)
    seconds = time.perf_counter() - start
    found = posterior.predict(inputs_test, samples=samples)
    nll = -float(found.log_prob(targets_test).mean()) + log(scale)
    rmse = scale * float((found.mean - targets_test).square().mean().sqrt())
    return {"nll": nll, "rmse": rmse, "seconds": seconds, "chosen": setting}


def scores_together(splits: list[tuple[np.ndarray, ...]], epochs: int) -> list[dict[str, float]]:
    """Probabilistic backpropagation of many splits in one batch, each with weights and an order of its own.

    It is what ``jn.weights.fit(..., method="pbp")`` does, whose filter takes sets of networks; one after the other they
    would take as many times as long. Seconds are the batch's over the number of splits.
    """
    data, scales = zip(*map(standardised, splits), strict=True)
    x, y, x_test, y_test = (torch.stack(values).double() for values in zip(*data, strict=True))
    shapes = ((50, x.shape[-1] + 1), (1, 51))
    start = time.perf_counter()
    with seeded(0), torch.no_grad():
        state = filtering.started(shapes, len(splits), noise_variance=None, prior_variances=None)
        size = PbpOptions().batch(x.shape[1])
        state = filtering.filtered(state, x, y, epochs, size)
        mean, variance = output_moments(state.layers(state.mean, state.variance), x_test)
    seconds = (time.perf_counter() - start) / len(splits)
    assert state.noise is not None
    found = Normal(mean, (variance + state.noise.variance[:, None]).sqrt())
    nll = -found.log_prob(y_test).mean(1)
    rmse = (mean - y_test).square().mean(1).sqrt()
    return [
        {"nll": float(one) + log(scale), "rmse": scale * float(error), "seconds": seconds}
        for one, error, scale in zip(nll, rmse, scales, strict=True)
    ]


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
            if method == "pbp" and len(place["each"]) < splits:
                parts = [split(name, number) for number in range(splits)]
                place["each"] = scores_together(parts, SETTINGS[method]["epochs"])
                place["summary"] = summary(place["each"])
                keep("uci_regression", found)
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
