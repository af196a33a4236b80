"""From data and a recipe that is solved, not trained, to a Run."""

import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from jensen.data import Dataset, Schema, Stored
from jensen.errors import RunError
from jensen.models.stored_array import StoredArray
from jensen.recipes import RECIPES
from jensen.recipes.exact import settled
from jensen.runs.heartbeat import Heartbeat
from jensen.runs.keeping import locked
from jensen.runs.run import Run, make_folder
from jensen.runs.storage import finite, read_json
from jensen.runs.watching import Several, Watcher
from jensen.seeding import seeded
from jensen.training import Epoch

SAVE_EVERY = 10.0
"""Seconds between two saves of what was found so far."""


def solve(
    dataset: Dataset | Stored,
    recipe: str,
    config: Any,
    *,
    valid: Dataset | None,
    about: dict[str, Any],
    examples: Dataset,
    seed: int,
    folder: str | Path | None,
    resume: bool,
    watcher: Watcher,
) -> Run:
    """Solves a recipe's model; its solvers are determined by the seed, so resuming an unfinished one starts again.

    Args:
        dataset: Training data, in memory, or on disk and gone through by blocks.
        recipe: Name of the recipe.
        config: Resolved.
        valid: Data whose log-likelihood is told at the end.
        about: What the Run keeps about the fit.
        examples: Data kept for pictures.
        seed: Of starts and shuffles.
        folder: Where to keep the Run.
        resume: Whether a finished Run in the folder is given back.
        watcher: Who is told how it goes.

    Returns:
        The Run; after Ctrl-C with what was found so far.

    Raises:
        DataError: If the data can't be used.
        RunError: If the folder holds another Run.
    """
    path = None if folder is None else make_folder(folder)
    lock = None if path is None else locked(path)
    watcher = watcher if path is None else Several(watcher, Heartbeat())
    try:
        if path is not None and (path / "config.json").exists():
            finished = existing(path, about, recipe, config, dataset.schema, resume=resume)
            if finished is not None:
                return finished
        run = _solved(dataset, recipe, config, valid, about, examples, seed, path, watcher)
    except BaseException as error:
        watcher.end(error)
        raise
    else:
        watcher.end(None)
        return run
    finally:
        if lock is not None:
            lock.release()


def _solved(
    dataset: Dataset | Stored,
    recipe: str,
    config: Any,
    valid: Dataset | None,
    about: dict[str, Any],
    examples: Dataset,
    seed: int,
    path: Path | None,
    watcher: Watcher,
) -> Run:
    """Solves, tells the watcher of each iteration, and keeps what was found so far."""
    chosen = RECIPES[recipe]
    assert chosen.solve is not None
    x = StoredArray(dataset) if isinstance(dataset, Stored) else dataset.x
    with seeded(seed):
        model = chosen.assemble(config, dataset.schema, x if _looks(config) else None)
    run = Run(recipe, settled(config, model), dataset.schema, model, about=about)
    run.examples = examples
    saved, begun = time.monotonic(), time.perf_counter()
    status = "running"
    solver = chosen.solve(model, config, x, seed)
    while status == "running":
        try:
            iteration = next(solver, None)
        except KeyboardInterrupt:
            if not run.history:
                raise
            run.history[-1]["status"] = "interrupted"
            break
        if not run.history:
            # The first iteration has shown that the data can be used.
            if path is not None:
                run.save(path)
            watcher.start(run, len(dataset), config.epochs, 0)
        if iteration is None:
            last = run.history[-1]
            last |= {"status": "finished", "valid": _validated(run, valid)}
            cut = f"it was stopped after {len(run.history)} iterations, before the bound stood still: allow more epochs"
            last["note"] = "; ".join(filter(None, [last.get("note"), cut]))
            break
        status = "finished" if iteration.converged else "running"
        seconds = time.perf_counter() - begun
        begun = time.perf_counter()
        checked = _validated(run, valid) if iteration.converged else None
        epoch = Epoch(
            number=iteration.number,
            step=iteration.number,
            status=status,
            seconds=seconds,
            rate=len(dataset) / max(seconds, 1e-9),
            learning_rate=1.0,
            skipped=0,
            train={"elbo": iteration.bound},
            valid=checked,
            best=True,
        )
        said = {"note": iteration.note} if iteration.note else {}
        run.history.append(_record(epoch) | {"converged": iteration.converged} | said)
        watcher.step(len(dataset))
        watcher.epoch(epoch)
        if path is not None and time.monotonic() - saved > SAVE_EVERY:
            run.save(path)
            saved = time.monotonic()
    model.eval()
    if path is not None:
        run.save(path)
    return run


def _looks(config: Any) -> bool:
    """Whether assembling the model needs the data themselves."""
    return (
        isinstance(getattr(config, "latent_dim", None), str)
        or getattr(config, "emissions", "") == "categorical"
    )


def existing(
    path: Path,
    about: dict[str, Any],
    recipe: str,
    config: Any,
    schema: Schema,
    *,
    resume: bool,
    network: nn.Module | None = None,
) -> Run | None:
    """The finished Run in a folder; None if it has to be fitted again.

    Raises:
        RunError: If it isn't to be resumed, or is that of another fit.
    """
    if not resume:
        raise RunError(
            f"{path} holds a Run already; choose another folder, remove it, or go on with it by --resume (resume=True)"
        )
    kept = read_json(path / "config.json")
    before_about, before_options = kept.get("about", {}), kept.get("options", {})
    for key, before, now in (
        ("recipe", kept.get("recipe"), recipe),
        ("schema", kept.get("schema"), json.loads(json.dumps(asdict(schema)))),
        *(
            (f"option {name}", before_options.get(name), value)
            for name, value in config.model_dump(mode="json").items()
            # What the data were to decide is kept as they decided.
            if name not in ("latent_dim", "symbols") or isinstance(value, int)
        ),
        ("checksum of the data", before_about.get("checksum"), about["checksum"]),
        ("n_valid", before_about.get("n_valid"), about["n_valid"]),
        ("seed", before_about.get("seed"), about["seed"]),
    ):
        if before != now:
            raise RunError(f"can't resume {path}: its {key} is {before!r}, now it is {now!r}")
    run = Run.load(path, network=network)
    return run if run.history and run.history[-1]["status"] == "finished" else None


def _validated(run: Run, valid: Dataset | None) -> dict[str, float] | None:
    if valid is None:
        return None
    values = run.model.log_prob(run.prepare(valid))
    error = float(values.std() / len(values) ** 0.5) if len(values) > 1 else 0.0
    return {"elbo": float(values.mean()), "standard_error": error}


def _record(epoch: Epoch) -> dict[str, Any]:
    record = {
        "epoch": epoch.number,
        "step": epoch.step,
        "status": epoch.status,
        "seconds": epoch.seconds,
        "rate": epoch.rate,
        "learning_rate": epoch.learning_rate,
        "skipped": epoch.skipped,
        "train": dict(epoch.train),
        "valid": epoch.valid,
        "best": epoch.best,
    }
    return finite(record)
