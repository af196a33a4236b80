"""From data and a recipe to a Run, kept in a folder while it grows."""

import json
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from jensen.bounds import elbo
from jensen.data import Dataset, binarise, check_matches, split, take
from jensen.errors import DataError, FitError, RunError
from jensen.models import LatentVariableModel
from jensen.recipes import RECIPES
from jensen.runs.run import Run, make_folder, read_metrics, write_metrics
from jensen.runs.solving import solve
from jensen.runs.storage import read_json, read_state, versions, write_json, write_state
from jensen.seeding import seeded
from jensen.training import ArrayBatches, Epoch, Settings, Training
from jensen.training import resolve as resolve_device

EXAMPLES = 1000
"""Data kept with a Run for its pictures."""

SAVE_EVERY = 10.0
"""Seconds between two saves of what resuming needs."""


@runtime_checkable
class Watcher(Protocol):
    """Who is told how a fit goes, such as a progress bar."""

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """A fit begins or goes on: so many data an epoch, so many epochs, so many of them done."""
        ...

    def step(self, data: int) -> None:
        """A step took so many data."""
        ...

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""
        ...


class Silent:
    """A watcher that does nothing."""

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """Does nothing."""

    def step(self, data: int) -> None:
        """Does nothing."""

    def epoch(self, epoch: Epoch) -> None:
        """Does nothing."""


def fit(
    dataset: Dataset,
    recipe: str = "vae",
    options: Mapping[str, Any] | None = None,
    *,
    valid: Dataset | float | None = None,
    seed: int = 0,
    device: str = "auto",
    folder: str | Path | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> Run:
    """Fits a recipe to data.

    Args:
        dataset: Training data.
        recipe: Name of a recipe.
        options: Options of the recipe.
        valid: Validation data, or the part of the training data to use as such; it chooses the weights that
            are kept and when to stop. None: train for all epochs and keep the average weights.
        seed: Of the split, the initial weights, the shuffles and the draws.
        device: "auto", "cpu" or "cuda".
        folder: Where to keep the Run while it grows; None keeps it in memory.
        resume: Whether to go on with the fit in the folder.
        watcher: Who is told how it goes.

    Returns:
        The Run. After Ctrl-C too, with the best weights so far; ``history[-1]["status"]`` says so.

    Raises:
        ConfigError: If an option is wrong.
        DataError: If the data can't be used.
        FitError: If the gradient stays non-finite.
        RunError: If the folder can't be used.
    """
    place = resolve_device(device)
    chosen = RECIPES[recipe]
    config = chosen.config(options or {})
    if isinstance(valid, float | int):
        dataset, valid = split(dataset, float(valid), seed)
    elif valid is not None:
        valid = check_matches(dataset.schema, valid)
    if len(dataset) < 2:
        raise DataError(f"fitting needs at least 2 data, got n_samples = {len(dataset)}; add more")
    config = chosen.resolve(config, dataset.schema, len(dataset))
    watcher = Silent() if watcher is None else watcher
    if chosen.solve is not None:
        return solve(
            dataset,
            recipe,
            config,
            valid=valid,
            about=_about(dataset, valid, seed, torch.device("cpu")),
            examples=_examples(dataset if valid is None else valid, seed),
            seed=seed,
            folder=folder,
            resume=resume,
            watcher=watcher,
        )
    x = torch.as_tensor(dataset.x)
    with seeded(seed):
        model = chosen.assemble(config, dataset.schema, _sample(dataset, x))
    run = Run(recipe, config, dataset.schema, model, about=_about(dataset, valid, seed, place))
    run.examples = _examples(dataset if valid is None else valid, seed)
    training = Training(
        chosen.objective(model, config).to(place),
        ArrayBatches(x.to(place), config.batch_size, seed, transform=binarise if dataset.dynamic else None),
        Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__}),
        seed,
        None if valid is None else _validation(run, valid, seed),
        watcher.step,
    )
    keeper = None if folder is None else _Keeper(run, training, make_folder(folder), resume=resume)
    watcher.start(run, len(dataset), training.settings.epochs, training.epoch)
    try:
        for epoch in training.run():
            run.history.append(_record(epoch))
            watcher.epoch(epoch)
            if keeper is not None:
                keeper.keep(last=epoch.status != "running")
    except FitError:
        if keeper is not None:
            keeper.finish()
        raise
    run.model.eval()
    if keeper is not None:
        keeper.finish()
    return run


class _Keeper:
    """Keeps a growing Run in its folder, so that a kill at any moment leaves one that loads and resumes."""

    def __init__(self, run: Run, training: Training, folder: Path, *, resume: bool) -> None:
        self.run = run
        self.training = training
        self.folder = folder
        run.folder = folder
        existing = (folder / "config.json").exists()
        if resume and existing:
            self._check_same()
            if (folder / "resume.safetensors").exists():
                training.load_state_dict(read_state(folder / "resume"))
                run.history = [
                    r
                    for r in read_metrics(folder)
                    if r["epoch"] <= training.epoch and r["status"] != "interrupted"
                ]
                if run.history and run.history[-1]["status"] in ("finished", "stopped early"):
                    training.epoch = training.settings.epochs
        elif existing:
            raise RunError(
                f"{folder} holds a Run already; choose another folder, remove it, or go on with it by --resume "
                "(resume=True)"
            )
        if not existing:
            Run.write_weights(folder, run.model.state_dict())
            run.write_examples(folder)
            write_json(folder / "config.json", run.description())
        self.saved = time.monotonic()

    def _check_same(self) -> None:
        kept, mine = read_json(self.folder / "config.json"), json.loads(json.dumps(self.run.description()))
        for part in ("recipe", "options", "schema"):
            if kept.get(part) != mine[part]:
                before, now = kept.get(part), mine[part]
                if isinstance(before, dict) and isinstance(now, dict):
                    key = next(k for k in now if before.get(k) != now[k])
                    part, before, now = f"{part.removesuffix('s')} {key}", before.get(key), now[key]
                raise RunError(f"can't resume {self.folder}: its {part} is {before!r}, asked for is {now!r}")
        for key in ("n", "n_valid", "seed", "checksum"):
            before, now = kept["about"].get(key), mine["about"][key]
            if before != now:
                what = "checksum of the data" if key == "checksum" else key
                raise RunError(f"can't resume {self.folder}: its {what} is {before!r}, now it is {now!r}")

    def keep(self, *, last: bool) -> None:
        """Writes what an epoch has changed; what resuming needs only now and then, and at the end."""
        write_metrics(self.folder, self.run.history)
        if last or time.monotonic() - self.saved > SAVE_EVERY:
            write_state(self.folder / "resume", self.training.state_dict())
            weights = self.training.kept()
            Run.write_weights(self.folder, {k.removeprefix("model."): v for k, v in weights.items()})
            self.saved = time.monotonic()

    def finish(self) -> None:
        """Writes the weights that were kept in the end."""
        Run.write_weights(self.folder, self.run.model.state_dict())


def _examples(dataset: Dataset, seed: int) -> Dataset:
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    return take(dataset, order[:EXAMPLES].numpy())


def _sample(dataset: Dataset, x: Tensor) -> Tensor:
    """The data as the likelihood sees them, to check them and to set units by."""
    if dataset.dynamic:
        return binarise(x[:1000])
    return x.float() if dataset.schema.kind != "real" else x


def _validation(run: Run, valid: Dataset, seed: int) -> Callable[[], Tensor]:
    """The ELBO of each validation datum, with the same noise each time."""
    model: LatentVariableModel = run.model
    prepared: list[Tensor] = []

    def validate() -> Tensor:
        if not prepared:
            prepared.append(run.prepare(valid, seed))
        with seeded(seed), torch.inference_mode():
            return torch.cat([elbo(model.terms(some)) for some in prepared[0].split(1000)]).clone().cpu()

    return validate


def _about(dataset: Dataset, valid: Dataset | None, seed: int, device: torch.device) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "source": dataset.source,
        "dynamic": dataset.dynamic,
        "n": len(dataset),
        "n_valid": 0 if valid is None else len(valid),
        "checksum": _checksum(dataset, valid),
        "seed": seed,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def _checksum(*datasets: Dataset | None) -> int:
    """Differs where data differ, as good as certainly."""
    result = 0
    for dataset in datasets:
        if dataset is not None:
            result = zlib.crc32(np.ascontiguousarray(dataset.x).view(np.uint8).data, result)
    return result


def _record(epoch: Epoch) -> dict[str, Any]:
    record = asdict(epoch)
    valid = record.pop("valid")
    number = record.pop("number")
    record["train"] = dict(epoch.train)
    record["valid"] = None if valid is None else {"elbo": valid[0], "standard_error": valid[1]}
    return {"epoch": number, **record}
