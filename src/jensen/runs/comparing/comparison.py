"""Fits several recipes and seeds under one budget and judges them on the same data."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jensen.data import Dataset, Stored, check_matches, split, take
from jensen.data.subsets import held_out, permutation
from jensen.errors import ConfigError, FitError
from jensen.recipes import RECIPES
from jensen.runs.comparing.budget import default_epochs, epochs_for
from jensen.runs.comparing.fits import Outcome, carry_out, outcome
from jensen.runs.comparing.plan import (
    Plan,
    check_same,
    description,
    named,
    options_of,
    read_plan,
    seeds_of,
    write_plan,
)
from jensen.runs.comparing.result import Comparison, put_together
from jensen.runs.comparing.sharing import alone, place, share, wait_for
from jensen.runs.comparing.tables import write_tables
from jensen.runs.run import make_folder
from jensen.runs.streams import in_memory
from jensen.runs.watching import Watcher
from jensen.training import resolve as resolve_device


def compare(
    dataset: Dataset | Stored,
    models: Sequence[str] | Mapping[str, str],
    folder: str | Path,
    *,
    seeds: int | Sequence[int] = 3,
    epochs: int | None = None,
    minutes: float | int | None = None,
    options: Mapping[str, Any] | None = None,
    model_options: Mapping[str, Mapping[str, Any]] | None = None,
    valid: Dataset | Stored | float | None = 0.1,
    test: Dataset | Stored | float = 0.2,
    samples: int = 1000,
    seed: int = 0,
    device: str = "auto",
    watcher: Callable[[str, int], Watcher] | None = None,
) -> Comparison:
    """Fits several recipes and seeds under one budget, and says which of them describe new data better.

    Each fit is a Run of its own in the folder, ``LABEL-seed-N``; called again with the same arguments it goes on
    where it was, and repeats nothing that is done. Models and seeds may be added. A fit that fails is a line in the
    table, and the others go on; to try it again remove its folder. The table is written as ``table.json``,
    ``table.csv`` and ``table.md``; ``jensen.report.write_comparison`` writes the report.

    Where torchrun started several processes, each takes its share of the fits, and all wait for the results, which they
    read from the folder; the first one writes the table.

    Args:
        dataset: Training data, in memory, or on disk and read while they are trained on; data to validate and to judge
            on are held in memory, so of many data give small parts.
        models: Recipes, ``label=recipe`` for more than one of a kind; or labels and recipes.
        folder: Where to keep it all.
        seeds: Of the fits: how many, from ``seed`` on, or which.
        epochs: The budget: passes over the training data of each fit, at most. Without ``minutes`` too it is what
            the models choose by themselves, the largest such number for all. Of exact models these are iterations of
            their solvers.
        minutes: The budget in another form: training time of each fit, about. The speed is measured first and the
            number of epochs set by it, so that schedules which run over all epochs fit.
        options: Of all models.
        model_options: Of single models, by label.
        valid: Validation data, or the part of the training data to use as such; None: train for all epochs.
        test: Data to judge on, or the part of the data to hold out for that.
        samples: Importance samples for each test datum.
        seed: Of the splits and of the evaluation's draws, and the first of the fits.
        device: "auto", "cpu" or "cuda".
        watcher: Makes a watcher of the fit of a label and seed.

    Returns:
        The comparison.

    Raises:
        ConfigError: If a model, option, seed or budget can't be; before anything is fitted.
        DataError: If the data can't be used.
        FitError: If every fit failed.
        RunError: If the folder holds another comparison or can't be used.

    Example:
        >>> from tempfile import mkdtemp
        >>> import jensen as jn
        >>> found = compare(jn.data.load("digits:valid"), ["vae", "small=vae"], mkdtemp(), seeds=1, epochs=2,
        ...                 model_options={"small": {"latent_dim": 2}}, options={"hidden": 8}, samples=5)
        >>> sorted(row.label for row in found.rows)
        ['small', 'vae']
    """
    chosen = options_of(named(models), options or {}, model_options or {})
    taken = seeds_of(seeds, seed)
    budget = _budget(epochs, minutes)
    resolve_device(device)
    if samples < 1:
        raise ConfigError(f"the evaluation needs at least one draw for each datum, got samples={samples}")
    train, validation, judged = _parts(dataset, valid, test, seed)
    for recipe, own in chosen.values():
        RECIPES[recipe].resolve(RECIPES[recipe].config(own), train.schema, len(train))
    path = make_folder(folder)
    about = description(train, validation, judged)
    if not budget:
        # An iteration of a solver is no epoch: exact models have a say only where there are no others.
        trained = [pair for pair in chosen.values() if RECIPES[pair[0]].solve is None]
        among = trained or list(chosen.values())
        budget = {"epochs": max(default_epochs(recipe, own, train) for recipe, own in among)}
    rank, size = place()

    def plan(lengths: Mapping[str, int]) -> Plan:
        return Plan(chosen, taken, budget, lengths, about, samples, seed)

    def kept_epochs() -> dict[str, int]:
        kept = read_plan(path)
        if kept is None:
            return {}
        check_same(kept, plan({}), path)
        return {label: kept["models"][label]["epochs"] for label in chosen if label in kept["models"]}

    lengths = kept_epochs()
    if rank == 0:
        for label, (recipe, own) in chosen.items():
            if label not in lengths:
                with alone():
                    lengths[label] = (
                        int(budget["epochs"])
                        if "epochs" in budget
                        else epochs_for(budget["minutes"], recipe, own, train, validation, device=device)
                    )
        write_plan(path, plan(lengths), read_plan(path))
    else:
        lengths = wait_for(lambda: known if len(known := kept_epochs()) == len(chosen) else None)
    whole = plan({label: lengths[label] for label in chosen})
    entries = whole.entries()
    for entry in share(entries, rank, size):
        if outcome(path, whole, entry) is None:
            told = None if watcher is None else watcher(entry.label, entry.seed)
            carry_out(path, whole, entry, train, validation, judged, device=device, watcher=told)

    def all_outcomes() -> list[Outcome] | None:
        found = [outcome(path, whole, entry) for entry in entries]
        there = [o for o in found if o is not None]
        return there if len(there) == len(entries) else None

    comparison = put_together(path, whole, wait_for(all_outcomes))
    if all(o.error is not None for o in comparison.outcomes):
        first = comparison.outcomes[0]
        raise FitError(
            f"every fit of the comparison failed; {first.label} with seed {first.seed}: {first.error}"
        )
    if rank == 0:
        write_tables(comparison)
    return comparison


def _budget(epochs: int | None, minutes: float | int | None) -> dict[str, float | int]:
    if epochs is not None and minutes is not None:
        raise ConfigError(
            f"a comparison has one budget, got {epochs} epochs and {minutes:g} minutes; give one of them"
        )
    if epochs is not None:
        if epochs < 1:
            raise ConfigError(f"the budget should be at least one epoch, got {epochs}")
        return {"epochs": epochs}
    if minutes is not None:
        if not 0 < minutes < float("inf"):
            raise ConfigError(f"the budget should be a time above zero, got {minutes:g} minutes")
        return {"minutes": float(minutes)}
    return {}


def _parts(
    dataset: Dataset | Stored,
    valid: Dataset | Stored | float | None,
    test: Dataset | Stored | float,
    seed: int,
) -> tuple[Dataset | Stored, Dataset | None, Dataset]:
    """Data to train on, to validate on and to judge on, the same for all models and seeds."""
    if isinstance(dataset, Stored):
        dataset, valid, test = _held_out(dataset, valid, test, seed)
    elif isinstance(test, float | int):
        dataset, test = split(dataset, float(test), seed)
    if not isinstance(test, float | int):
        test = check_matches(dataset.schema, in_memory(test))
    assert not isinstance(test, float | int), "it is a part that was drawn"
    if isinstance(valid, float | int):
        assert isinstance(dataset, Dataset), "of data on disk all parts are drawn together"
        dataset, valid = split(dataset, float(valid), seed)
    elif valid is not None:
        valid = check_matches(dataset.schema, in_memory(valid))
    return dataset, valid, test


def _held_out(
    dataset: Stored, valid: Dataset | Stored | float | None, test: Dataset | Stored | float, seed: int
) -> tuple[Stored, Dataset | Stored | None, Dataset | Stored]:
    """The parts of data on disk, drawn together: a part of them can't be split again."""
    n = len(dataset)
    judged = held_out(n, float(test)) if isinstance(test, float | int) else 0
    checked = held_out(n - judged, float(valid)) if isinstance(valid, float | int) else 0
    if judged + checked == 0:
        assert not isinstance(test, float | int), "a fraction holds out at least one"
        assert not isinstance(valid, float | int), "likewise"
        return dataset, valid, test
    train, rest = dataset.split((judged + checked) / n, seed)
    drawn = in_memory(rest)
    order = permutation(len(drawn), seed)
    if isinstance(test, float | int):
        test = take(drawn, np.sort(order[:judged]))
    if isinstance(valid, float | int):
        valid = take(drawn, np.sort(order[judged:]))
    return train, valid, test
