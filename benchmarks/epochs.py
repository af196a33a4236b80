"""Seconds of an epoch of static MNIST with its validation, jensen and Pythae in turn; prints one JSON object.

``mnist_static.py --pythae`` runs it with the peers' Python.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from common import in_turn
from contenders import LATENT, images, pythae
from jensen import runs
from jensen.data import Dataset
from jensen.training import Epoch


class _Clock(runs.Silent):
    """Notes when epochs end."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def start(self, run: runs.Run, data: int, epochs: int, done: int) -> None:
        """The fit begins."""
        self.ends.append(time.perf_counter())

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over, its validation too."""
        self.ends.append(time.perf_counter())


def jensen_epoch(
    train: Dataset, valid: Dataset, options: dict[str, str], *, second_stage: bool
) -> Callable[[], float]:
    """Seconds of the second epoch of a stage of a fit by ``runs.fit``; the first one has the start-up in it."""
    stages = {"epochs": 3, "tighten": 2 / 3} if second_stage else {"epochs": 2, "tighten": 0}

    def seconds() -> float:
        clock = _Clock()
        runs.fit(train, "vae", {**options, **stages}, valid=valid, device="cpu", watcher=clock)
        return clock.ends[-1] - clock.ends[-2]

    return seconds


def pythae_epoch(train: Dataset, valid: Dataset) -> Callable[[], float]:
    """Seconds of an epoch of Pythae's trainer."""
    rate = pythae(train, valid)
    return lambda: len(train) / rate()


def measure(options: dict[str, str], n: int, rounds: int) -> dict[str, Any]:
    """Medians and all rounds."""
    train, valid = images(n), images(n // 5, "valid")
    options = {"latent_dim": str(LATENT), **options}
    seconds = in_turn(
        {
            "jensen": jensen_epoch(train, valid, options, second_stage=False),
            "jensen, second stage": jensen_epoch(train, valid, options, second_stage=True),
            "pythae": pythae_epoch(train, valid),
        },
        rounds,
    )
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    return {"data": len(train), "seconds_per_epoch": medians, "rounds": seconds}


def main() -> None:
    """Reads the arguments, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    options = dict(setting.split("=", 1) for setting in arguments.set)
    print(json.dumps(measure(options, arguments.data, arguments.rounds)))


if __name__ == "__main__":
    main()
