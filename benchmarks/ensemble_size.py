"""How many networks, or masks of dropout, a predictive needs: error, NLL, Brier score, calibration and unknown images.

An MLP 784-200-200-10 on all 60,000 images of MNIST; the 10,000 letters of notMNIST are the unknown. Deep ensembles of M
members stand beside MC-dropout that averages over M masks of one network. Ten members are trained, and every ensemble
of M is made of members that follow each other in a circle, so that each counts alike; networks with dropout are three,
of each of which three runs of M masks are taken. Neither setting was tuned: Adam at 0.001 falling to zero, batches of
100, dropout of 0.1 as in the paper on deep ensembles (https://arxiv.org/abs/1612.01474), whose figure this is.

Run with ``python benchmarks/ensemble_size.py``; it needs MNIST and notMNIST (``JENSEN_DATA``), and about ten minutes of
one core. ``--quick`` takes a tenth of the images and two epochs.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import jensen as jn
from common import keep
from jensen import evaluation
from jensen.seeding import seeded

MEMBERS = (1, 2, 3, 5, 8, 10)
MASKS = (1, 2, 3, 5, 8, 10, 20, 50)
RUNS = 3
"""Runs of masks, of each network, that a figure is the mean of."""

NETWORKS = 3
"""Networks with dropout."""

PUBLISHED = {
    "MAP": {"error_percent": 1.58, "nll": 0.0573},
    "bootstrap ensemble": {"error_percent": 1.53, "nll": 0.0497},
    "MC-dropout": {"error_percent": 1.37, "nll": 0.0436},
}
"""Of MLPs 784-1200-1200-10 by JavierAntoran/Bayesian-Neural-Networks: larger networks, trained for longer."""


def network(seed: int) -> nn.Module:
    """The MLP, its weights drawn by the seed."""
    with seeded(seed):
        return nn.Sequential(
            nn.Linear(784, 200), nn.ReLU(), nn.Linear(200, 200), nn.ReLU(), nn.Linear(200, 10)
        )


def images(name: str, split: str) -> tuple[Tensor, Tensor]:
    """Pixels in 0 to 1, (n, 784), and labels."""
    found = jn.data.load(name, split)
    assert found.y is not None
    x = torch.from_numpy(np.ascontiguousarray(found.x)).reshape(len(found.x), -1).float() / 255
    return x, torch.from_numpy(np.ascontiguousarray(found.y)).long()


def judged(
    posterior: jn.weights.Posterior, known: Tensor, unknown: Tensor, y: Tensor, group: list[int]
) -> dict[str, float]:
    """The figures of one group of sets of weights.

    Args:
        posterior: Whose likelihood it is.
        known: Outputs for the test images, (S, n, 10).
        unknown: Outputs for the letters.
        y: Labels of the test images.
        group: The sets that are averaged over.
    """
    inside, outside = (
        jn.weights.MixturePredictive(posterior.likelihood, part[group]) for part in (known, unknown)
    )
    numbers = evaluation.evaluate_classifier(inside.probabilities, y)
    result = {
        "error_percent": 100 * (1 - float(numbers["accuracy"])),
        **{name: float(numbers[name]) for name in ("nll", "brier", "ece", "ece_if_calibrated")},
        "auroc_entropy": evaluation.separation(inside.entropy, outside.entropy).auroc,
        "unknown_entropy": float(outside.entropy.mean()),
    }
    if len(group) > 1:
        epistemic = evaluation.separation(inside.mutual_information, outside.mutual_information)
        result["auroc_mutual_information"] = epistemic.auroc
    return result


def summary(found: list[dict[str, float]]) -> dict[str, dict[str, float]]:
    """Mean and standard deviation over groups; those of ensembles share members."""
    return {
        name: {"mean": float(np.mean(values)), "std": float(np.std(values))}
        for name in found[0]
        for values in [[one[name] for one in found]]
    }


def outputs(posterior: jn.weights.Posterior, x: Tensor, samples: int) -> Tensor:
    """(S, n, 10), the same sets of weights for whatever data."""
    found = posterior.predict(x, samples=samples, seed=0)
    assert isinstance(found, jn.weights.MixturePredictive)
    return found.outputs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a tenth of the images, two epochs")
    parser.add_argument("--epochs", type=int, default=10, help="of the members")
    parser.add_argument("--dropout-epochs", type=int, default=20, help="of the networks with dropout")
    options = parser.parse_args()
    x, y = images("mnist", "train+valid")
    test_x, test_y = images("mnist", "test")
    letters, _ = images("notmnist", "test")
    epochs, dropout_epochs = options.epochs, options.dropout_epochs
    if options.quick:
        x, y, epochs, dropout_epochs = x[:6000], y[:6000], 2, 2
    members = max(MEMBERS)
    rows: dict[str, dict[str, Any]] = {"ensemble": {}, "dropout": {}}
    seconds: dict[str, float] = {}

    start = time.perf_counter()
    ensemble = jn.weights.fit(
        network(0), x, y, method="ensemble", members=members, epochs=epochs, batch_size=100, seed=0
    )
    seconds["ensemble"] = time.perf_counter() - start
    known, unknown = (outputs(ensemble, part, members) for part in (test_x, letters))
    for size in MEMBERS:
        firsts = range(members if size < members else 1)
        groups = [[(first + i) % members for i in range(size)] for first in firsts]
        found = [judged(ensemble, known, unknown, test_y, group) for group in groups]
        rows["ensemble"][str(size)] = summary(found)
        show("ensemble", size, rows["ensemble"][str(size)])

    results: dict[int, list[dict[str, float]]] = {size: [] for size in MASKS}
    start = time.perf_counter()
    for seed in range(NETWORKS):
        posterior = jn.weights.fit(
            network(seed),
            x,
            y,
            method="dropout",
            insert=0.1,
            epochs=dropout_epochs,
            batch_size=100,
            seed=seed,
        )
        masks = max(MASKS)
        known, unknown = (outputs(posterior, part, masks) for part in (test_x, letters))
        for size in MASKS:
            firsts = [run * masks // RUNS for run in range(RUNS if size < masks else 1)]
            groups = [[(first + i) % masks for i in range(size)] for first in firsts]
            results[size] += [judged(posterior, known, unknown, test_y, group) for group in groups]
    seconds["dropout"] = time.perf_counter() - start
    for size in MASKS:
        rows["dropout"][str(size)] = summary(results[size])
        show("dropout", size, rows["dropout"][str(size)])
    content = {
        "what": "MLP 784-200-200-10 on MNIST, letters of notMNIST as the unknown",
        "settings": {
            "images": len(x),
            "members": members,
            "epochs": epochs,
            "networks_with_dropout": NETWORKS,
            "dropout": 0.1,
            "dropout_epochs": dropout_epochs,
            "batch_size": 100,
            "learning_rate": 1e-3,
            "runs_of_masks": RUNS,
        },
        "published": PUBLISHED,
        "seconds": seconds,
        "rows": rows,
    }
    print(keep("ensemble_size_quick" if options.quick else "ensemble_size", content))


def show(method: str, size: int, row: dict[str, dict[str, float]]) -> None:
    """Prints a row."""
    names = ("error_percent", "nll", "brier", "ece", "auroc_entropy", "auroc_mutual_information")
    cells = (f"{name} {row[name]['mean']:.4f}" for name in names if name in row)
    print(f"{method:9s} {size:3d}  {'  '.join(cells)}", flush=True)


if __name__ == "__main__":
    main()
