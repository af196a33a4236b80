"""From data and a recipe to a Run, kept in a folder while it grows."""

import copy
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jensen.bounds import Stage, elbo
from jensen.data import Dataset, Stored, binarise, check_matches, constant_columns, split, take
from jensen.errors import ConfigError, DataError, FitError
from jensen.evaluation import part_seed
from jensen.models import LatentVariableModel
from jensen.recipes import RECIPES
from jensen.runs.heartbeat import Heartbeat
from jensen.runs.keeping import Keeper
from jensen.runs.predictions import judge
from jensen.runs.run import Run, make_folder
from jensen.runs.solving import solve
from jensen.runs.storage import finite, strict_json, versions
from jensen.runs.streams import batches, in_memory, layout
from jensen.runs.supervising import supervise
from jensen.runs.watching import Several, Silent, Watcher
from jensen.seeding import seeded
from jensen.training import Alone, Engine, Epoch, Settings, Training, Validate, processes
from jensen.training import engine as start_engine
from jensen.training import resolve as resolve_device

EXAMPLES = 1000
"""Data kept with a Run for its pictures."""


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
    network: nn.Module | None = None,
) -> Run:
    """Fits a recipe to data.

    Started by ``torchrun``, all processes share the fit: each takes its part of every batch of ``batch_size`` data,
    and all of them return the same Run, which the first one keeps in the folder. Recipes of exact models are solved
    by one process, on the processor.

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
        watcher: Who is told how it goes, by the first process; ``Several(...)`` for more than one.
        network: The user's own, for recipes of labels with the option network="own"; it isn't changed.

    Returns:
        The Run. After Ctrl-C too, with the best weights so far; ``history[-1]["status"]`` says so.

    Raises:
        ConfigError: If an option is wrong.
        DataError: If the data can't be used, or can't be read any more; the Run can be resumed from the last step.
        FitError: If the gradient stays non-finite, memory runs out, or another process of this fit dies.
        RunError: If the folder can't be used.
    """
    if not hasattr(dataset, "schema"):
        raise DataError(
            f"fitting needs a Dataset, got {type(dataset).__name__}; make one of an array by "
            "jensen.data.from_array(x), or read it by jensen.data.load"
        )
    chosen = RECIPES[recipe]
    config = chosen.config(options or {})
    alone = chosen.solve is not None or chosen.targets is not None
    engine = _one_process(recipe, device) if alone else start_engine(device)
    place = engine.device
    given = _given(valid)
    if network is not None and chosen.targets is None:
        raise ConfigError(f"the model {recipe} builds its networks from its options; leave network out")
    if chosen.targets is not None:
        # Whatever their cells hold, they are numbers to a network.
        dataset = _whole(dataset, recipe)
        dataset = replace(dataset, schema=replace(dataset.schema, kind="real"))
    if isinstance(valid, float | int):
        dataset, valid = _split(dataset, float(valid), seed)
    elif valid is not None:
        valid = check_matches(dataset.schema, in_memory(valid))
    if len(dataset) < chosen.least_data:
        raise DataError(
            f"fitting needs at least {chosen.least_data} data, got n_samples = {len(dataset)}; add more"
        )
    config = chosen.resolve(config, dataset.schema, len(dataset))
    if chosen.solve is not None:
        return solve(
            dataset,
            recipe,
            config,
            valid=valid,
            about=_about(dataset, valid, seed, engine) | {"valid": given},
            examples=_examples(dataset if valid is None else valid, seed),
            seed=seed,
            folder=folder,
            resume=resume,
            watcher=Silent() if watcher is None else watcher,
        )
    if chosen.targets is not None:
        run = supervise(
            _whole(dataset, recipe),
            recipe,
            config,
            about=_about(dataset, valid, seed, engine) | {"valid": given},
            examples=_examples(dataset if valid is None else valid, seed),
            seed=seed,
            device=place,
            folder=folder,
            resume=resume,
            watcher=Silent() if watcher is None else watcher,
            network=None if network is None else copy.deepcopy(network),
        )
        if valid is not None and not run.evaluations:
            numbers = judge(run, valid, seed=seed)
            run.add_evaluation({"data": f"{valid.name}, held out", "seed": seed, **numbers})
        return run
    if config.batch_size % engine.world_size != 0:
        raise ConfigError(
            f"{engine.world_size} processes can't share batches of {config.batch_size}; make batch_size a "
            f"multiple of {engine.world_size}"
        )
    with seeded(seed):
        model = chosen.assemble(config, dataset.schema, _sample(dataset))
    about = _about(dataset, valid, seed, engine) | {"valid": given}
    if config.likelihood == "normal" and (constant := _constant(dataset)):
        about["constant"] = constant
    run = Run(recipe, config, dataset.schema, model, about=about)
    _agree(run, engine)
    run.examples = _examples(dataset if valid is None else valid, seed)
    watcher = Silent() if watcher is None or engine.rank > 0 else watcher
    watcher = watcher if folder is None or engine.rank > 0 else Several(watcher, Heartbeat())
    keeper: Keeper | None = None

    def on_step(data: int) -> None:
        watcher.step(data)
        if keeper is not None:
            keeper.step()

    objective = chosen.objective(model, config).to(place)
    training = Training(
        objective,
        batches(dataset, config.batch_size, seed, engine),
        Settings(**{name: getattr(config, name) for name in Settings.__dataclass_fields__}),
        seed,
        None if valid is None else _validation(run, objective.stages, valid, seed, engine),
        on_step,
        engine,
    )
    if folder is not None:
        keeper = Keeper(run, training, make_folder(folder), resume=resume)
    _train(run, training, len(dataset), watcher, keeper)
    return run


def _agree(run: Run, engine: Engine) -> None:
    """Checks that all processes were asked for the same fit of the same data, read in the same way.

    Raises:
        ConfigError: In at least one of them if they weren't.
    """
    if engine.world_size == 1:
        return
    about = {key: run.about[key] for key in ("stream", "n", "n_valid", "seed", "checksum")}
    mine = zlib.crc32(strict_json([run.recipe, run.description()["options"], about]).encode())
    # Whole numbers below 2^32, whose sum float64 holds exactly.
    whole = engine.total(torch.tensor(float(mine), dtype=torch.float64, device=engine.device))
    if float(whole) != float(mine) * engine.world_size:
        streamed = "read from disk" if run.about["stream"] is not None else "held in memory"
        raise ConfigError(
            f"process {engine.rank} of {engine.world_size} was asked for another fit than the others, or has other "
            f"data: here {run.about['n']} data of {run.about['data']} with checksum {run.about['checksum']}, "
            f"{streamed}; start all of them by the same command on the same data, with --stream or --no-stream if "
            "memory is scarce"
        )


def _train(run: Run, training: Training, data: int, watcher: Watcher, keeper: Keeper | None) -> None:
    """Goes through the epochs: the history grows, the watcher is told, the Run is kept."""
    try:
        watcher.start(run, data, training.settings.epochs, training.epoch)
        for epoch in training.run():
            run.history.append(_record(epoch))
            watcher.epoch(epoch)
            if keeper is not None:
                keeper.keep(last=epoch.status != "running")
        run.model.eval()
        if keeper is not None:
            keeper.finish()
        # None leaves before all of them are done.
        training.engine.wait()
    except BaseException as error:
        if keeper is not None and isinstance(error, DataError):
            keeper.keep(last=True)
        if keeper is not None and isinstance(error, FitError | DataError):
            keeper.finish()
        watcher.end(error)
        raise
    else:
        watcher.end(None)
    finally:
        if keeper is not None:
            keeper.release()


def _one_process(recipe: str, device: str) -> Engine:
    """What a recipe runs on that isn't shared among processes; those that are solved, on the processor.

    Raises:
        ConfigError: If there are several processes, or no such device.
    """
    place = resolve_device(device)
    if processes()[1] > 1:
        raise ConfigError(
            f"the model {recipe} is solved by one process, and {processes()[1]} were started; start it without "
            "torchrun (jensen compare shares whole fits among them)"
        )
    return Alone(torch.device("cpu") if RECIPES[recipe].solve is not None else place)


def _whole(dataset: Dataset | Stored, recipe: str) -> Dataset:
    """The data of a recipe of labels, which are in memory.

    Raises:
        DataError: If they are on disk.
    """
    if isinstance(dataset, Stored):
        raise DataError(
            f"the model {recipe} is fitted with all data in memory, and {dataset.name} was opened on disk; load it "
            "(--no-stream, jensen.data.load(path)), or fit a part of it"
        )
    return dataset


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


def _validation(run: Run, stages: Sequence[Stage], valid: Dataset, seed: int, engine: Engine) -> Validate:
    """The ELBO and the bound that is maximised of each validation datum.

    The noise is the same each time; each process computes its part.
    """
    model: LatentVariableModel = run.model
    prepared: list[Tensor] = []

    def validate(stage: int) -> dict[str, Tensor]:
        if not prepared:
            prepared.append(run.prepare(valid, seed))
        bound, _, samples = stages[stage]
        bounds = {"elbo": elbo} if bound is elbo else {"elbo": elbo, "bound": bound}
        draws = samples if bound is not elbo and isinstance(samples, int) else 1
        parts = prepared[0].split(max(1, 1000 // draws))
        values = [torch.zeros(len(bounds), len(some), dtype=some.dtype, device=some.device) for some in parts]
        for number in range(engine.rank, len(parts), engine.world_size):
            with seeded(part_seed(seed, number)), torch.inference_mode():
                terms = model.terms(parts[number], samples=draws)
                values[number].copy_(torch.stack([each(terms) for each in bounds.values()]))
        return dict(zip(bounds, engine.total(torch.cat(values, 1)).cpu(), strict=True))

    return validate


def _about(dataset: Dataset | Stored, valid: Dataset | None, seed: int, engine: Engine) -> dict[str, Any]:
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
        "device": str(engine.device),
        "processes": engine.world_size,
        "threads": torch.get_num_threads(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": versions(),
    }


def _constant(dataset: Dataset | Stored) -> list[str]:
    """The cells that are the same in all data, by name."""
    if isinstance(dataset, Stored):
        moments = dataset.statistics.plain
        still = moments.variance() <= np.square(1e-12 * moments.mean)
        places = [int(i) for i in np.flatnonzero(still)]
    else:
        places = constant_columns(dataset)
    names = dataset.schema.columns
    return [f"column {i}" if names is None else f"'{names[i]}'" for i in places]


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
    return finite({"epoch": record.pop("number"), **record})
