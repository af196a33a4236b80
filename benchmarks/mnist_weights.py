"""Test error and NLL of posteriors over the weights of an MLP 784-400-400-10 on MNIST, beside published figures.

Run with ``python benchmarks/mnist_weights.py``; it needs MNIST (``JENSEN_DATA``) and about 40 minutes of one core. What
is found is merged into ``benchmarks/results/mnist_weights.json`` method by method. All 60,000 training images, pixels
in 0 to 1; the settings below were written down before a test figure was seen, and nothing was chosen. Only the ensemble
that is trained on adversarial examples too, as its paper does, was added afterwards.
"""

import argparse
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import jensen as jn
from common import keep, kept
from jensen import evaluation
from jensen.seeding import seeded

SETTINGS: dict[str, dict[str, Any]] = {
    "map": {"method": "map", "epochs": 20},
    "dropout": {"method": "dropout", "epochs": 60},
    "bayes-by-backprop": {
        "method": "bayes-by-backprop",
        "prior": "scale-mixture",
        "epochs": 60,
        "samples": 1,
    },
    "ensemble": {"method": "ensemble", "members": 5, "epochs": 20},
    "ensemble, adversarial": {"method": "ensemble", "members": 5, "epochs": 20, "adversarial": 0.01},
}
PUBLISHED = {
    "map": 1.83,
    "dropout": 1.37,
    "bayes-by-backprop": 1.36,
}
"""Test errors in percent: SGD and Bayes by backprop with the scale mixture of Blundell et al. (2015,
https://arxiv.org/abs/1505.05424), 2 x 400 units; MC-dropout by JavierAntoran/Bayesian-Neural-Networks, 2 x 1200 units,
whose own Bayes by backprop with the scale mixture has 2.38. Adversarial examples are those of the ensembles' own paper
(https://arxiv.org/abs/1612.01474), steps of 1 % of the pixels' range."""


def network(method: str, seed: int) -> nn.Module:
    """The MLP; for dropout with a fifth of the pixels and half of the units dropped."""

    def dropped(rate: float) -> list[nn.Module]:
        return [nn.Dropout(rate)] if method == "dropout" else []

    with seeded(seed):
        return nn.Sequential(
            *dropped(0.2),
            *(nn.Linear(784, 400), nn.ReLU(), *dropped(0.5)),
            *(nn.Linear(400, 400), nn.ReLU(), *dropped(0.5)),
            nn.Linear(400, 10),
        )


def images(split: str) -> tuple[Tensor, Tensor]:
    """Pixels (n, 784) and labels."""
    found = jn.data.load("mnist", split)
    assert found.y is not None
    x = torch.from_numpy(np.ascontiguousarray(found.x)).reshape(len(found.x), -1).float() / 255
    return x, torch.from_numpy(np.ascontiguousarray(found.y)).long()


def measure(method: str, seed: int, samples: int) -> dict[str, Any]:
    """One fit and its figures on all test images."""
    (x, y), (test_x, test_y) = images("train+valid"), images("test")
    start = time.perf_counter()
    posterior = jn.weights.fit(network(method, seed), x, y, seed=seed, **SETTINGS[method])
    seconds = time.perf_counter() - start
    found = posterior.predict(test_x, samples=samples, seed=seed)
    numbers = evaluation.evaluate_classifier(found.probabilities, test_y)
    error = 1 - float(numbers["accuracy"])
    return {
        "seed": seed,
        "setting": SETTINGS[method],
        "error_percent": 100 * error,
        "error_standard_error": 100 * (error * (1 - error) / len(test_y)) ** 0.5,
        "nll": float(numbers["nll"]),
        "ece": float(numbers["ece"]),
        "seconds": seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", nargs="+", default=list(SETTINGS), choices=list(SETTINGS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--samples", type=int, default=100, help="sets of weights that predictions average over"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = kept("mnist_weights").get("methods", {})
    for method in options.methods:
        for seed in options.seeds:
            found.setdefault(method, {})[str(seed)] = measure(method, seed, options.samples)
            keep("mnist_weights", {"published_error_percent": PUBLISHED, "methods": found})
            print(method, found[method][str(seed)], flush=True)


if __name__ == "__main__":
    main()
