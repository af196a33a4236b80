"""What a comparison is to fit, kept in its folder so that the same command goes on with it."""

import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jensen.data import Dataset, Stored
from jensen.errors import ConfigError, RunError
from jensen.recipes import RECIPES
from jensen.runs.fitting import checksum
from jensen.runs.storage import read_json, versions, write_json
from jensen.runs.streams import layout

FILE = "compare.json"
_FORMAT = 1


@dataclass(frozen=True)
class Entry:
    """One fit of a comparison.

    Attributes:
        label: How its model is called.
        recipe: The model.
        options: Its options, the number of epochs among them.
        seed: The seed.
    """

    label: str
    recipe: str
    options: Mapping[str, Any]
    seed: int

    @property
    def name(self) -> str:
        """The name of its Run's folder."""
        return f"{self.label}-seed-{self.seed}"


@dataclass(frozen=True)
class Plan:
    """What a comparison is to fit.

    Attributes:
        models: Labels, and the recipe and options of each; without epochs.
        seeds: Of the fits.
        budget: ``{"epochs": N}`` or ``{"minutes": M}``.
        epochs: Of each label.
        data: Name, sizes and checksum of the training, validation and test data.
        samples: Importance samples for each test datum.
        seed: Of the splits and of the evaluation's draws.
    """

    models: Mapping[str, tuple[str, Mapping[str, Any]]]
    seeds: tuple[int, ...]
    budget: Mapping[str, float | int]
    epochs: Mapping[str, int]
    data: Mapping[str, Any]
    samples: int
    seed: int

    def entries(self) -> list[Entry]:
        """The fits, one seed of each model after the other."""
        return [
            Entry(label, recipe, {**options, "epochs": self.epochs[label]}, seed)
            for seed in self.seeds
            for label, (recipe, options) in self.models.items()
        ]

    def fingerprint(self, entry: Entry) -> int:
        """Differs where the result of a fit may differ, as good as certainly."""
        what = (entry.recipe, sorted(entry.options.items()), entry.seed, self.data["checksum"])
        return zlib.crc32(repr((*what, self.samples, self.seed)).encode())

    def described(self) -> dict[str, Any]:
        """What ``compare.json`` holds."""
        return {
            "format": _FORMAT,
            "budget": dict(self.budget),
            "data": dict(self.data),
            "samples": self.samples,
            "seed": self.seed,
            "seeds": list(self.seeds),
            "models": {
                label: {"recipe": recipe, "options": dict(options), "epochs": self.epochs.get(label)}
                for label, (recipe, options) in self.models.items()
            },
            "versions": versions(),
        }


def named(models: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Labels and recipes.

    Args:
        models: Recipes, which are their own labels, or ``label=recipe``; or labels and recipes.

    Raises:
        ConfigError: If there are none, one is there twice, or a recipe or label can't be.

    Example:
        >>> named(["vae", "small=vae"])
        {'vae': 'vae', 'small': 'vae'}
    """
    if isinstance(models, Mapping):
        pairs = list(models.items())
    else:
        pairs = [
            (label.strip(), (recipe or label).strip())
            for label, _, recipe in (m.partition("=") for m in models)
        ]
    if not pairs:
        raise ConfigError(f"there are no models to compare; name some of: {', '.join(sorted(RECIPES))}")
    result: dict[str, str] = {}
    for label, recipe in pairs:
        if RECIPES[recipe].targets is not None:
            raise ConfigError(
                f"the model {recipe} predicts labels; jensen compare holds densities of data against each other"
            )
        if not re.fullmatch(r"[\w-]+", label):
            raise ConfigError(
                f"'{label}' can't be the label of a model; use letters, digits, hyphens and underscores"
            )
        if label in result:
            raise ConfigError(
                f"the model '{label}' is there twice; give one a label of its own, as in 'other={recipe}'"
            )
        result[label] = recipe
    return result


def options_of(
    models: Mapping[str, str], options: Mapping[str, Any], model_options: Mapping[str, Mapping[str, Any]]
) -> dict[str, tuple[str, dict[str, Any]]]:
    """Each model's recipe and checked options: those of all, with its own over them.

    Raises:
        ConfigError: If an option or its value can't be, or is set for a model that isn't compared.
    """
    for label in model_options:
        if label not in models:
            raise ConfigError(
                f"options are set for '{label}', which isn't compared; the models are: {', '.join(models)}"
            )
    result: dict[str, tuple[str, dict[str, Any]]] = {}
    for label, recipe in models.items():
        chosen = {**options, **model_options.get(label, {})}
        if "epochs" in chosen:
            raise ConfigError(
                "the number of epochs is the budget of a comparison and no option of one model; use --epochs N or "
                "--minutes M (epochs=, minutes=)"
            )
        checked = RECIPES[recipe].config(chosen).model_dump(mode="json")
        # As JSON knows them, whether they came as text or as numbers.
        result[label] = (recipe, {key: checked[key] for key in sorted(chosen)})
    return result


def seeds_of(seeds: int | Sequence[int], first: int) -> tuple[int, ...]:
    """The seeds of the fits.

    Raises:
        ConfigError: If there are none, or one is there twice.

    Example:
        >>> seeds_of(3, 0)
        (0, 1, 2)
    """
    chosen = tuple(range(first, first + seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not chosen:
        raise ConfigError(f"a comparison needs at least one seed of each model, got seeds={seeds!r}")
    if len(set(chosen)) < len(chosen):
        raise ConfigError(f"a seed is there twice in {list(chosen)}; it would be the same fit")
    return chosen


def description(train: Dataset | Stored, valid: Dataset | None, test: Dataset) -> dict[str, Any]:
    """What the data are."""
    on_disk = {} if isinstance(train, Dataset) else {"stream": layout(train)}
    return on_disk | {
        "name": train.name,
        "test": test.name,
        "n": len(train),
        "n_valid": 0 if valid is None else len(valid),
        "n_test": len(test),
        "checksum": checksum(train, valid, test),
    }


def compared_stream(folder: Path) -> bool | None:
    """Whether the comparison in a folder reads its data from disk, as going on has to; None if there is none."""
    kept = read_plan(folder)
    return None if kept is None else "stream" in kept.get("data", {})


def read_plan(folder: Path) -> dict[str, Any] | None:
    """What a folder's comparison was to be; None where there is none."""
    return read_json(folder / FILE) if (folder / FILE).exists() else None


def check_same(kept: Mapping[str, Any], plan: Plan, folder: Path) -> None:
    """Refuses to go on with another comparison; models and seeds may be added.

    Raises:
        RunError: If it says something else of the data, the budget, the evaluation or a model.
    """
    mine = plan.described()
    for key in ("format", "budget", "data", "samples", "seed"):
        before, now = kept.get(key), mine[key]
        if isinstance(before, dict) and before != now:
            part = next(k for k in {**before, **now} if before.get(k) != now.get(k))
            key, before, now = f"{key} ({part})", before.get(part), now.get(part)
        if before != now:
            raise RunError(
                f"{folder} holds a comparison with other settings: its {key} is {before!r}, asked for is {now!r}; "
                "choose another folder"
            )
    for label, model in mine["models"].items():
        before = kept.get("models", {}).get(label)
        if before is None:
            continue
        for key in ("recipe", "options"):
            if before.get(key) != model[key]:
                raise RunError(
                    f"{folder} holds a comparison in which {key} of '{label}' is {before.get(key)!r}, asked for is "
                    f"{model[key]!r}; give it another label, as in 'other={model['recipe']}', or choose another folder"
                )


def write_plan(folder: Path, plan: Plan, kept: Mapping[str, Any] | None) -> None:
    """Keeps the plan, with the models and seeds that were there before."""
    content = plan.described()
    if kept is not None:
        content["models"] = {**kept["models"], **content["models"]}
        content["seeds"] = sorted({*kept["seeds"], *content["seeds"]})
    if content != kept:
        write_json(folder / FILE, content)
