"""From data and a recipe to a Run, kept in a folder while it grows."""

import json
import time
import zlib
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jensen.bounds import elbo
from jensen.data import Dataset, Stored, binarise, check_matches, split, take
from jensen.errors import DataError, FitError, RunError
from jensen.models import LatentVariableModel
from jensen.recipes import RECIPES
from jensen.runs.heartbeat import Heartbeat
from jensen.runs.run import Run, make_folder, read_metrics, write_metrics
from jensen.runs.storage import read_json, read_state, versions, write_json, write_state
from jensen.runs.streams import batches, in_memory, layout
from jensen.runs.watching import Several, Silent, Watcher
from jensen.seeding import seeded
from jensen.training import Epoch, Settings, Training
from jensen.training import resolve as resolve_device

EXAMPLES = 1000
"""Data kept with a Run for its pictures."""

SAVE_EVERY = 10.0
"""Seconds between two saves of what resuming needs, after epochs."""

SAVE_WITHIN = 60.0
"""The same within an epoch, where it may be long."""


def fit(
    dataset: Dataset | Stored,
    recipe: str = "vae",
    options: Mapping[str, Any] | None = None,
    *,
    valid: Dataset | Stored | float | None = None,
    seed: int = 0,
    device: str = "auto",
    folder: str | Path | None = None,
    resume: bool = False,
    watcher: Watcher | None = None,
) -> Run:
    """Fits a recipe to data.

    Args:
        dataset: Training data, in memory, or on disk and read while it is trained on.
        recipe: Name of a recipe.
        options: Options of the recipe.
        valid: Validation data, or the part of the training data to use as such; it chooses the weights that
            are kept and when to stop; they are held in memory. None: train for all epochs and keep the average
            weights.
        seed: Of the split, the initial weights, the shuffles and the draws.
        device: "auto", "cpu" or "cuda".
        folder: Where to keep the Run while it grows; None keeps it in memory.
        resume: Whether to go on with the fit in the folder.
        watcher: Who is told how it goes; ``Several(...)`` for more than one.

    Returns:
        The Run. After Ctrl-C too, with the best weights so far; ``history[-1]["status"]`` says so.

    Raises:
        ConfigError: If an option is wrong.
        DataError: If the data can't be used, or can't be read any more; the Run can be resumed from the last step.
        FitError: If the gradient stays non-finite.
        RunError: If the folder can't be used.
    """
    place = resolve_device(device)
    chosen = RECIPES[recipe]
    config = chosen.config(options or {})
    given = _given(valid)
    if isinstance(valid, float | int):
        dataset, valid = _split(dataset, float(valid), seed)
    elif valid is not None:
        valid = check_matches(dataset.schema, in_memory(valid))
    if len(dataset) < 2:
        raise DataError(f"fitting needs at least 2 data, got n_samples = {len(dataset)}; add more")
    config = chosen.resolve(config, dataset.schema, len(dataset))
    with seeded(seed):
        model = chosen.assemble(config, dataset.schema, _sample(dataset))
    about = _about(dataset, valid, seed, place) | {"valid": given}
    run = Run(recipe, config, dataset.schema, model, about=about)
    run.examples = _examples(dataset if valid is None else valid, seed)
    watcher = Silent() if watcher is None else watcher
    watcher = watcher if folder is None else Several(watcher, Heartbeat())
    keeper: _Keeper | None = None

    def on_step(data: int) -> None:
        watcher.step(data)
        if keeper is not None:
            keeper.step()

    training = Training(
        chosen.objective(model, config).to(place),
        batches(dataset, config.batch_size, seed, place),
        Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__}),
        seed,
        None if valid is None else _validation(run, valid, seed),
        on_step,
    )
    if folder is not None:
        keeper = _Keeper(run, training, make_folder(folder), resume=resume)
    watcher.start(run, len(dataset), training.settings.epochs, training.epoch)
    try:
        for epoch in training.run():
            run.history.append(_record(epoch))
            watcher.epoch(epoch)
            if keeper is not None:
                keeper.keep(last=epoch.status != "running")
    except BaseException as error:
        if keeper is not None and isinstance(error, DataError):
            keeper.keep(last=True)
        if keeper is not None and isinstance(error, FitError | DataError):
            keeper.finish()
        watcher.end(error)
        raise
    run.model.eval()
    if keeper is not None:
        keeper.finish()
    watcher.end(None)
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
        for key in ("stream", "n", "n_valid", "seed", "checksum"):
            before, now = kept["about"].get(key), mine["about"][key]
            if before != now:
                what = "checksum of the data" if key == "checksum" else key
                raise RunError(f"can't resume {self.folder}: its {what} is {before!r}, now it is {now!r}")

    def keep(self, *, last: bool) -> None:
        """Writes what an epoch has changed; what resuming needs only now and then, and at the end."""
        write_metrics(self.folder, self.run.history)
        if last or time.monotonic() - self.saved > SAVE_EVERY:
            self._save()

    def step(self) -> None:
        """Writes what resuming needs after a step, if that was long ago."""
        if time.monotonic() - self.saved > SAVE_WITHIN:
            self._save()

    def _save(self) -> None:
        write_state(self.folder / "resume", self.training.state_dict())
        weights = self.training.kept()
        Run.write_weights(self.folder, {k.removeprefix("model."): v for k, v in weights.items()})
        self.saved = time.monotonic()

    def finish(self) -> None:
        """Writes the weights that were kept in the end."""
        Run.write_weights(self.folder, self.run.model.state_dict())


def _split(dataset: Dataset | Stored, fraction: float, seed: int) -> tuple[Dataset | Stored, Dataset]:
    if isinstance(dataset, Dataset):
        return split(dataset, fraction, seed)
    train, valid = dataset.split(fraction, seed)
    return train, in_memory(valid)


def _examples(dataset: Dataset | Stored, seed: int) -> Dataset:
    if isinstance(dataset, Stored):
        return dataset.some(EXAMPLES, seed)
    order = torch.randperm(len(dataset), generator=torch.Generator().manual_seed(seed))
    return take(dataset, order[:EXAMPLES].numpy())


def _sample(dataset: Dataset | Stored) -> Tensor | Stored:
    """The data as the likelihood sees them, to check them and to set units by."""
    if isinstance(dataset, Stored):
        return dataset
    x = torch.as_tensor(dataset.x)
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


def _about(
    dataset: Dataset | Stored, valid: Dataset | None, seed: int, device: torch.device
) -> dict[str, Any]:
    return {
        "data": dataset.name,
        "source": dataset.source,
        "target": dataset.target,
        "stream": layout(dataset),
        "dynamic": dataset.dynamic,
        "n": len(dataset),
        "n_valid": 0 if valid is None else len(valid),
        "checksum": checksum(dataset, valid),
        "seed": seed,
        "device": str(device),
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def _given(valid: Dataset | Stored | float | None) -> dict[str, Any] | None:
    """How the validation data were asked for, so that a report can say how to do so again."""
    if valid is None:
        return None
    if isinstance(valid, float | int):
        return {"fraction": float(valid)}
    return {"data": valid.name, "source": valid.source, "target": valid.target}


def checksum(*datasets: Dataset | Stored | None) -> int:
    """Differs where data differ, as good as certainly."""
    result = 0
    for dataset in datasets:
        if isinstance(dataset, Stored):
            result = zlib.crc32(dataset.checksum.to_bytes(4, "little"), result)
        elif dataset is not None:
            result = zlib.crc32(np.ascontiguousarray(dataset.x).view(np.uint8).data, result)
    return result


def _record(epoch: Epoch) -> dict[str, Any]:
    record = asdict(epoch)
    valid = record.pop("valid")
    number = record.pop("number")
    record["train"] = dict(epoch.train)
    record["valid"] = None if valid is None else {"elbo": valid[0], "standard_error": valid[1]}
    return {"epoch": number, **record}
