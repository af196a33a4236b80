"""How many epochs a time buys, measured before the fits."""

import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import torch

from jensen.bounds import elbo
from jensen.data import Dataset, Stored, take
from jensen.errors import JensenError
from jensen.recipes import RECIPES
from jensen.runs.fitting import fit
from jensen.runs.run import Run
from jensen.runs.watching import Silent

SECONDS = 4.0
"""How long the steps of a model are timed, at most; less if the steps come to an end."""

_FEWEST = 20
_VALIDATED = 1000


class _EnoughError(Exception):
    """Ends a fit that was only to be timed."""


class _Timer(Silent):
    """Times the steps after the first ones, which also warm things up."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.run: Run | None = None
        self.times: list[tuple[float, int]] = []

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """Takes the model, to time its validation."""
        self.run = run

    def step(self, data: int) -> None:
        """Notes when a step was done."""
        self.times.append((time.perf_counter(), data))
        first = self.times[min(_FEWEST, len(self.times)) - 1][0]
        if len(self.times) > 2 * _FEWEST and self.times[-1][0] - first > self.seconds:
            raise _EnoughError

    def per_datum(self) -> float:
        """Seconds a datum of the steps after the first ones."""
        begin = min(_FEWEST, len(self.times) // 2)
        data = sum(count for _, count in self.times[begin + 1 :])
        return (self.times[-1][0] - self.times[begin][0]) / max(data, 1)


def default_epochs(recipe: str, options: Mapping[str, Any], dataset: Dataset | Stored) -> int:
    """The epochs that a recipe chooses by itself for these data."""
    chosen = RECIPES[recipe]
    epochs = chosen.resolve(chosen.config(options), dataset.schema, len(dataset)).epochs
    return 1 if epochs is None else epochs


def epochs_for(
    minutes: float,
    recipe: str,
    options: Mapping[str, Any],
    dataset: Dataset | Stored,
    valid: Dataset | None,
    *,
    device: str,
    seconds: float = SECONDS,
) -> int:
    """How many epochs, with their validation, take about so many minutes on this machine as it is now.

    Warm-up and, where it is asked for, decay of the step size run over all epochs, so a fit that is cut off when its
    time is up is not the fit that it could have been; therefore steps are timed first, and the number of epochs is set.

    Args:
        minutes: The time.
        recipe: The model.
        options: Its options.
        dataset: Training data.
        valid: Validation data.
        device: Where it is fitted.
        seconds: How long to time.

    Returns:
        At least one.
    """
    timer = _Timer(seconds)
    solved = RECIPES[recipe].solve is not None
    # Enough steps to time even where an epoch has only one.
    timed = {**options, "epochs": 10_000} if solved else {**options, "epochs": 10_000, "patience": None}
    # A model that can't be fitted says so when its turn comes.
    with suppress(_EnoughError, JensenError):
        fit(dataset, recipe, timed, device=device, watcher=timer)
    if len(timer.times) < 3:
        # What is solved in a step or two needs no limit.
        return default_epochs(recipe, options, dataset) if solved else 1
    each = len(dataset) * timer.per_datum()
    if timer.run is not None and (tail := getattr(timer.run.config, "tighten", 0.0)):
        # A step of the second stage takes about half as many times as long as it has draws.
        each *= 1 + tail * (timer.run.config.tighten_samples / 2 - 1)
    if valid is not None and not solved and timer.run is not None:
        some = take(valid, slice(_VALIDATED))
        x = timer.run.prepare(some)
        start = time.perf_counter()
        with torch.inference_mode():
            float(elbo(timer.run.model.terms(x)).sum())
        each += (time.perf_counter() - start) * len(valid) / len(some)
    return max(1, int(60 * minutes / each))
