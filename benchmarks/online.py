"""Forgetting: tasks one after the other, the posterior after one as the prior of the next.

Split digits: is a digit odd? first for 0 and 1, then for 2 and 3, ..., with one network of one output. Permuted
images: all ten classes, with other places for the pixels in each task. Beside the methods of online learning stand
training that goes on without a posterior, and training on all tasks at once. By default scikit-learn's 8 x 8 digits;
``--mnist`` takes permuted MNIST too, which needs the data set.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

import jensen as jn
from common import keep

Split = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class Tasks:
    """Data in the order in which they come.

    Attributes:
        train: Data and targets of each task.
        test: Likewise.
        outputs: Of the network.
        width: Hidden units of each of two layers.
        epochs: For each task.
        batch_size: Data in a batch.
    """

    train: list[Split]
    test: list[Split]
    outputs: int
    width: int
    epochs: int
    batch_size: int

    @property
    def options(self) -> dict[str, Any]:
        """Of training."""
        return {"epochs": self.epochs, "batch_size": self.batch_size, "learning_rate": 3e-3}

    def network(self, seed: int) -> nn.Module:
        """A new network."""
        torch.manual_seed(seed)
        inputs = self.train[0][0].shape[1]
        return nn.Sequential(
            nn.Linear(inputs, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.width),
            nn.ReLU(),
            nn.Linear(self.width, self.outputs),
        )

    def accuracies(self, predict: Callable[[Tensor], Tensor]) -> list[float]:
        """On each task's test data, of predicted class numbers."""
        return [float((predict(x) == y).double().mean()) for x, y in self.test]


def digits() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scikit-learn's digits in (0, 1), four fifths to train on."""
    x, y = load_digits(return_X_y=True)
    parts = train_test_split((x / 16).astype(np.float32), y, test_size=0.2, random_state=0, stratify=y)
    a, b, c, d = (torch.as_tensor(part) for part in parts)
    return a, c, b, d


def split_digits() -> Tasks:
    """Odd or even, two digits a task."""
    x, y, x_test, y_test = digits()

    def part(x: Tensor, y: Tensor, task: int) -> Split:
        rows = (y // 2) == task
        return x[rows], y[rows] % 2

    return Tasks(
        [part(x, y, t) for t in range(5)], [part(x_test, y_test, t) for t in range(5)], 1, 100, 60, 32
    )


def permuted(data: tuple[Tensor, Tensor, Tensor, Tensor], count: int, epochs: int, batch_size: int) -> Tasks:
    """The same images with their pixels in other places in each task."""
    x, y, x_test, y_test = data
    orders = [torch.randperm(x.shape[1], generator=torch.Generator().manual_seed(t)) for t in range(count)]
    return Tasks(
        [(x[:, order], y) for order in orders],
        [(x_test[:, order], y_test) for order in orders],
        10,
        100,
        epochs,
        batch_size,
    )


def mnist() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pixels in (0, 1)."""
    parts: list[Tensor] = []
    for split in ("train", "test"):
        data = jn.data.load("mnist", split=split)
        parts += [torch.as_tensor(np.asarray(data.x)).reshape(len(data.x), -1) / 255, torch.as_tensor(data.y)]
    return parts[0].float(), parts[1].long(), parts[2].float(), parts[3].long()


def classes(
    posterior: jn.weights.Posterior, outputs: int, options: dict[str, Any]
) -> Callable[[Tensor], Tensor]:
    """The predicted class numbers."""

    def predict(x: Tensor) -> Tensor:
        mean = posterior.predict(x, **options).mean
        return mean.argmax(1) if outputs > 1 else (mean > 0.5).long()

    return predict


def sequence(tasks: Tasks, method: str, fit_options: dict[str, Any], seed: int) -> list[list[float]]:
    """Accuracies on all tasks after each one."""
    likelihood = "categorical" if tasks.outputs > 1 else "bernoulli"
    posterior: jn.weights.Posterior | None = None
    table: list[list[float]] = []
    sampled = {"samples": 16} | ({"predictive": "sampled"} if method == "laplace" else {})
    for x, y in tasks.train:
        if posterior is None:
            posterior = jn.weights.fit(
                tasks.network(seed),
                x,
                y,
                method=method,
                likelihood=likelihood,
                seed=seed,
                **tasks.options,
                **fit_options,
            )
        else:
            posterior = posterior.update(x, y, seed=seed)
        table.append(tasks.accuracies(classes(posterior, tasks.outputs, sampled)))
    return table


def trained(tasks: Tasks, seed: int, *, together: bool) -> list[list[float]]:
    """Accuracies of the most probable weights: trained on one task after the other, or on all at once."""
    likelihood = "categorical" if tasks.outputs > 1 else "bernoulli"
    network, table = tasks.network(seed), []
    data = (
        [(torch.cat([x for x, _ in tasks.train]), torch.cat([y for _, y in tasks.train]))]
        if together
        else tasks.train
    )
    for x, y in data:
        posterior = jn.weights.fit(
            network, x, y, method="map", likelihood=likelihood, prior_scale=1.0, seed=seed, **tasks.options
        )
        network.load_state_dict(posterior.network.all)
        table.append(tasks.accuracies(classes(posterior, tasks.outputs, {})))
    return table


def summary(table: list[list[float]]) -> dict[str, Any]:
    """Mean accuracy over all tasks at the end, and by how much the earlier ones have fallen since they were new."""
    last = table[-1]
    fallen = [table[task][task] - last[task] for task in range(len(table) - 1)]
    return {
        "accuracy": float(np.mean(last)),
        "forgetting": float(np.mean(fallen)) if fallen else 0.0,
        "after_each_task": table,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mnist", action="store_true", help="permuted MNIST too")
    parser.add_argument("--quick", action="store_true", help="split digits only, a third of the epochs")
    parser.add_argument("--seeds", type=int, default=1)
    options = parser.parse_args()
    sets = {"split digits": split_digits()}
    if options.quick:
        tasks = sets["split digits"]
        sets = {"split digits": Tasks(tasks.train, tasks.test, 1, 50, 20, 32)}
    else:
        sets["permuted digits"] = permuted(digits(), 5, 40, 64)
    if options.mnist:
        sets["permuted MNIST"] = permuted(mnist(), 5, 3, 200)
    once = {"rounds": 1, "polish": 0, "prior_scale": 1.0}
    methods: dict[str, Callable[[Tasks, int], list[list[float]]]] = {
        "all tasks at once": lambda tasks, seed: trained(tasks, seed, together=True),
        "one after the other": lambda tasks, seed: trained(tasks, seed, together=False),
        "laplace, kronecker": lambda tasks, seed: sequence(
            tasks, "laplace", {"structure": "kronecker", **once}, seed
        ),
        "laplace, diagonal": lambda tasks, seed: sequence(
            tasks, "laplace", {"structure": "diagonal", **once}, seed
        ),
        "bayes by backprop": lambda tasks, seed: sequence(tasks, "bayes-by-backprop", {}, seed),
    }
    result: dict[str, Any] = {}
    for name, tasks in sets.items():
        for method, run in methods.items():
            start = time.perf_counter()
            found = [summary(run(tasks, seed)) for seed in range(options.seeds)]
            result[f"{name}, {method}"] = {"seconds": time.perf_counter() - start, "seeds": found}
            accuracy = np.mean([one["accuracy"] for one in found])
            forgetting = np.mean([one["forgetting"] for one in found])
            print(f"{name:16s} {method:20s} accuracy {accuracy:.3f}  forgetting {forgetting:.3f}", flush=True)
    print(keep("online_quick" if options.quick else "online", result))


if __name__ == "__main__":
    main()
