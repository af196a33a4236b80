"""From labelled data and a recipe that predicts labels to a Run."""

import time
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from jensen.data import Dataset
from jensen.errors import ConfigError, DataError
from jensen.recipes import RECIPES
from jensen.recipes.bayesian import fitting_options, prior_scales
from jensen.runs.heartbeat import Heartbeat
from jensen.runs.keeping import locked
from jensen.runs.run import Run, make_folder
from jensen.runs.solving import existing
from jensen.runs.watching import Several, Watcher
from jensen.seeding import seeded
from jensen.training import Epoch


def supervise(
    dataset: Dataset,
    recipe: str,
    config: Any,
    *,
    about: dict[str, Any],
    examples: Dataset,
    seed: int,
    device: torch.device,
    folder: str | Path | None,
    resume: bool,
    watcher: Watcher,
    network: nn.Module | None,
) -> Run:
    """Fits a posterior over a network's weights; the seed determines it, so resuming an unfinished fit starts again.

    Args:
        dataset: Training data with their labels.
        recipe: Name of the recipe.
        config: Resolved.
        about: What the Run keeps about the fit.
        examples: Data kept for pictures.
        seed: Of initial weights, shuffles and draws.
        device: Where to fit.
        folder: Where to keep the Run, once it is there.
        resume: Whether a finished Run in the folder is given back.
        watcher: Who is told how it goes.
        network: The user's own; None: built from the config.

    Returns:
        The Run.

    Raises:
        ConfigError: If an option is wrong.
        DataError: If data or labels can't be used.
        RunError: If the folder holds another Run.
    """
    targets = targets_of(dataset, recipe)
    if RECIPES[recipe].targets == "classes":
        classes, targets = _encoded(targets, dataset.name)
        if config.classes is not None and config.classes != len(classes):
            raise ConfigError(
                f"classes={config.classes}, but {dataset.name} has labels of {len(classes)}; leave the option out"
            )
        config = config.model_copy(update={"classes": len(classes)})
        about = {**about, "classes": classes.tolist()}
    else:
        wide = targets.shape[1] if targets.ndim > 1 else 1
        if config.targets is not None and config.targets != wide:
            raise ConfigError(
                f"targets={config.targets}, but a datum of {dataset.name} has {wide}; leave the option out"
            )
        if wide > 1:
            config = config.model_copy(update={"targets": wide})
    about = {
        **about,
        "checksum": zlib.crc32(np.ascontiguousarray(targets).view(np.uint8).data, about["checksum"]),
    }
    path = None if folder is None else make_folder(folder)
    lock = None if path is None else locked(path)
    watcher = watcher if path is None else Several(watcher, Heartbeat())
    try:
        if path is not None and (path / "config.json").exists():
            finished = existing(path, about, recipe, config, dataset.schema, resume=resume, network=network)
            if finished is not None:
                return finished
        run = _fitted(dataset, targets, recipe, config, about, examples, seed, device, path, watcher, network)
    except BaseException as error:
        watcher.end(error)
        raise
    else:
        watcher.end(None)
        return run
    finally:
        if lock is not None:
            lock.release()


def _fitted(
    dataset: Dataset,
    targets: NDArray[Any],
    recipe: str,
    config: Any,
    about: dict[str, Any],
    examples: Dataset,
    seed: int,
    device: torch.device,
    path: Path | None,
    watcher: Watcher,
    network: nn.Module | None,
) -> Run:
    """Fits, telling the watcher of each epoch, and keeps the result."""
    with seeded(seed):
        model = RECIPES[recipe].assemble(config, dataset.schema, None, network)
    model.to(device)
    run = Run(recipe, config, dataset.schema, model, about=about, examples=examples, folder=path)
    n = len(dataset)
    batches = max(1, -(-n // (config.batch_size or n)))
    watcher.start(run, n, config.epochs or 1, 0)
    begun = last = time.perf_counter()

    def on_epoch(done: int, planned: int) -> None:
        nonlocal last
        now = time.perf_counter()
        watcher.step(n)
        watcher.epoch(_epoch(done, batches, now - last, n))
        last = now

    noise = getattr(config, "noise_scale", None) if run.likelihood == "normal" else None
    model.fit(
        torch.as_tensor(np.require(dataset.x, requirements="W")),
        torch.as_tensor(targets),
        noise_scale=noise,
        prior=config.prior,
        prior_scale=prior_scales(config, model.network),
        method=config.method,
        seed=seed,
        on_epoch=on_epoch,
        **fitting_options(config),
    )
    run.history = history_of(model, batches, time.perf_counter() - begun, n)
    if path is not None:
        run.save(path)
    return run


def history_of(model: Any, batches: int, seconds: float, n: int) -> list[dict[str, Any]]:
    """What training recorded, one record an epoch, empty where the method only counts them.

    Args:
        model: With its posterior.
        batches: Steps in an epoch.
        seconds: Of all epochs, which are taken to be alike.
        n: Number of data.
    """
    recorded = {name: values for name, values in model.posterior.history.items() if values}
    epochs = max((len(v) for v in recorded.values()), default=model.posterior.options.get("epochs", 0))
    each = seconds / max(epochs, 1)
    records: list[dict[str, Any]] = []
    for number in range(1, max(epochs, 1) + 1):
        train = {name: values[number - 1] for name, values in recorded.items() if number <= len(values)}
        records.append(
            {
                "epoch": number,
                "step": number * batches,
                "status": "running",
                "seconds": each,
                "rate": n / max(each, 1e-9),
                "learning_rate": None,
                "skipped": 0,
                "train": train,
                "valid": None,
                "best": True,
            }
        )
    records[-1]["status"] = "finished"
    return records


def _epoch(number: int, batches: int, seconds: float, n: int) -> Epoch:
    return Epoch(
        number=number,
        step=number * batches,
        status="running",
        seconds=seconds,
        rate=n / max(seconds, 1e-9),
        learning_rate=0.0,
        skipped=0,
        train={},
        valid=None,
        best=True,
    )


def targets_of(dataset: Dataset, recipe: str) -> NDArray[Any]:
    """The labels of data for a recipe that predicts them: (n,), or (n, d) of numbers.

    Raises:
        DataError: If there are none, or of a kind that the recipe doesn't predict.
    """
    y: NDArray[Any] | None = dataset.y
    if y is None:
        raise DataError(
            f"{dataset.name} has no labels, which the model {recipe} predicts; give a .npz with y, or a table with "
            "--target COLUMN (target=...)"
        )
    if RECIPES[recipe].targets == "numbers":
        if y.dtype.kind not in "buif":
            raise DataError(
                f"{dataset.name} has labels of type {y.dtype}, and the model {recipe} predicts numbers; use "
                "bayes-classifier"
            )
        return y.astype(np.float64)
    if y.ndim > 1:
        raise DataError(
            f"{dataset.name} has labels of shape {y.shape}, and the model {recipe} predicts one class"
        )
    if y.dtype.kind == "f" and (y != np.round(y)).any():
        raise DataError(
            f"{dataset.name} has labels that are no whole numbers, such as {y[y != np.round(y)][0]:g}, and the model "
            f"{recipe} predicts classes; use bayes-regressor"
        )
    return y


def _encoded(y: NDArray[Any], name: str) -> tuple[NDArray[Any], NDArray[np.int64]]:
    classes, numbers = np.unique(y, return_inverse=True)
    if len(classes) < 2:
        raise DataError(
            f"all {len(y)} labels of {name} are of one class, {classes[0]!s}; give data of at least two classes"
        )
    return classes, numbers.astype(np.int64)


def class_numbers(run: Run, y: NDArray[Any], name: str) -> NDArray[np.int64]:
    """Labels as places in the Run's classes, (n,).

    Args:
        run: Of a classifier.
        y: Labels, (n,).
        name: Of the data, for messages.

    Raises:
        DataError: If one is of no class that the Run knows.
    """
    classes = np.asarray(run.about["classes"])
    if classes.dtype.kind != y.dtype.kind and "U" in (classes.dtype.kind, y.dtype.kind):
        y, classes = y.astype(str), classes.astype(str)
    order = np.argsort(classes)
    place = order[np.searchsorted(classes, y, sorter=order).clip(0, len(classes) - 1)]
    wrong = classes[place] != y
    if wrong.any():
        raise DataError(
            f"{name} has labels that the fit didn't know, such as {y[wrong][0]!s}; there are: "
            f"{', '.join(str(c) for c in classes[:20])}"
        )
    return place.astype(np.int64)
