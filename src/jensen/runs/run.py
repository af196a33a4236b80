"""A fitted recipe: in memory, and as a folder that can be loaded, resumed, evaluated and shown."""

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from math import prod
from pathlib import Path
from typing import Any, cast, get_args

import numpy as np
import torch
from torch import Tensor, nn

from jensen.data import Dataset, Kind, Schema, binarise, check_matches
from jensen.errors import DataError, JensenError, RunError
from jensen.recipes import RECIPES
from jensen.runs.storage import (
    finite,
    read_json,
    read_metadata,
    read_tensors,
    read_text,
    strict_json,
    versions,
    write_bytes,
    write_json,
    write_tensors,
)
from jensen.seeding import seeded
from jensen.training import Status
from jensen.training import resolve as resolve_device

FORMAT = 2
"""Version of the folder's layout."""


@dataclass
class Run:
    """A fitted recipe.

    Attributes:
        recipe: Name of the recipe.
        config: Its options, every choice made.
        schema: What one datum looks like.
        model: The model with the weights that were kept, in evaluation mode.
        history: One record an epoch: number, step, status, seconds, rate, train, valid, ...
        about: What it was fitted on and how: data, source, n, seed, device, versions.
        examples: Some data that it wasn't fitted on, or some that it was if there are no others, for pictures.
        evaluations: What it was evaluated on, and the numbers; the newest last.
        folder: Where it is kept, or None.
    """

    recipe: str
    config: Any
    schema: Schema
    model: Any
    history: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    about: dict[str, Any] = field(default_factory=dict[str, Any])
    examples: Dataset | None = None
    evaluations: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    folder: Path | None = None

    @property
    def device(self) -> torch.device:
        """Where the model's weights are."""
        return next(self.model.parameters()).device

    @property
    def constant(self) -> str | None:
        """What a user should know of cells that are the same in all training data; None where there are none."""
        names: list[str] = self.about.get("constant") or []
        if not names:
            return None
        cells = prod(self.schema.event_shape)
        shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        return (
            f"{len(names)} of {cells} columns {'is' if len(names) == 1 else 'are'} the same in all training data, "
            f"{shown}: there is nothing to learn, and a normal density there only says how small its scale became; "
            "leave such columns out"
        )

    @property
    def likelihood(self) -> str:
        """Name of the family of p(x|z)."""
        return RECIPES[self.recipe].likelihood(self.config)

    def prepare(self, dataset: Dataset, seed: int = 0) -> Tensor:
        """Data as the model takes them.

        Args:
            dataset: Has to match the schema; intensities that stand for probabilities are binarised once.
            seed: Of that binarisation.

        Returns:
            (n, *event) in the model's dtype, on its device.

        Raises:
            DataError: If the data don't match, or the likelihood can't have made them.
        """
        exact = RECIPES[self.recipe].solve is not None
        schema = self.schema
        if RECIPES[self.recipe].targets is not None:
            # The model itself brings data into its units.
            return torch.as_tensor(np.require(check_matches(schema, dataset).x, requirements="W"))
        if self.recipe == "hmm" and dataset.x.ndim > 1:
            # Sequences may be longer or shorter than those of the fit.
            schema = replace(schema, event_shape=(dataset.x.shape[1], *schema.event_shape[1:]))
        dataset = check_matches(schema, dataset)
        x = torch.as_tensor(np.require(dataset.x, requirements="W"))
        if dataset.dynamic:
            x = binarise(x, torch.Generator().manual_seed(seed))
        weight = next(self.model.parameters())
        x = x.to(weight.device, weight.dtype)
        if exact:
            return x
        if not bool(torch.isfinite(x).all()):
            raise DataError(
                f"{dataset.name} has missing or infinite cells, which the model {self.recipe} can't take; "
                "fill them first"
            )
        self.model.likelihood.check(x)
        return x

    def save(self, folder: str | Path) -> None:
        """Writes the Run into a folder: config.json, weights.safetensors, metrics.jsonl.

        Raises:
            RunError: If the folder can't be made or written.
        """
        path = make_folder(folder)
        try:
            self.write_weights(path, self.model.state_dict())
            write_metrics(path, self.history)
            self.write_examples(path)
            if self.evaluations:
                write_json(path / "evaluations.json", {"evaluations": self.evaluations})
            write_json(path / "config.json", self.description())
        except OSError as error:
            raise RunError(f"can't write the Run to {path}: {error}") from error
        self.folder = path

    def description(self) -> dict[str, Any]:
        """What config.json holds."""
        return {
            "format": FORMAT,
            "recipe": self.recipe,
            "options": self.config.model_dump(mode="json"),
            "schema": asdict(self.schema),
            "about": self.about,
            "versions": versions(),
        }

    @staticmethod
    def write_weights(folder: Path, weights: Mapping[str, Tensor]) -> None:
        """Writes the weights that are to be kept."""
        write_tensors(folder / "weights.safetensors", weights)

    def write_examples(self, folder: Path) -> None:
        """Writes the examples, their name and labels too."""
        if self.examples is None:
            return
        tensors = {"x": torch.as_tensor(self.examples.x)}
        metadata = {"name": self.examples.name, "dynamic": str(self.examples.dynamic)}
        if self.examples.y is not None and self.examples.y.dtype.kind in "iufb":
            tensors["y"] = torch.as_tensor(self.examples.y)
        elif self.examples.y is not None:
            metadata["labels"] = json.dumps(self.examples.y.tolist())
        write_tensors(folder / "examples.safetensors", tensors, metadata)

    def add_evaluation(self, record: dict[str, Any]) -> None:
        """Keeps the numbers of an evaluation with the Run; one on the same data with the same settings is replaced."""
        same = ("data", "samples", "seed")
        self.evaluations = [
            e for e in self.evaluations if any(e.get(key) != record.get(key) for key in same)
        ] + [finite(record)]
        if self.folder is not None:
            write_json(self.folder / "evaluations.json", {"evaluations": self.evaluations})

    @classmethod
    def load(cls, folder: str | Path, device: str = "cpu", network: nn.Module | None = None) -> "Run":
        """Reads a Run; nothing in it is executed.

        Args:
            folder: Where it was saved.
            device: Where to put the model.
            network: The user's own, of any weights, where the Run was fitted over one; code isn't kept in files.

        Returns:
            The Run.

        Raises:
            RunError: If the folder isn't a Run, or a file is missing, damaged or foreign; or a network is missing, or
                given where none is needed.
            ShapeError: If the network's parameters have other names or shapes.
        """
        path = Path(folder)
        read_recipe(path)
        content = read_json(path / "config.json")
        try:
            check_layout(path, content)
            schema = _schema(content["schema"])
            recipe = RECIPES[content["recipe"]]
            config = recipe.config(content["options"])
            own = getattr(config, "network", "") == "own"
            if own and network is None:
                raise RunError(
                    f"{path} was fitted over a network of the user's own, which no file can hold; give it: "
                    "jensen.load(folder, network=net)"
                )
            if network is not None and not own:
                raise RunError(f"the network of {path} is built from its config; leave network out")
            with seeded(0):
                # A copy, since models move their network to a device.
                model = recipe.assemble(
                    config, schema, None, **({"network": deepcopy(network)} if own else {})
                )
            about = _about(content["about"])
        except RunError:
            raise
        except (JensenError, KeyError, TypeError, ValueError) as error:
            raise RunError(f"{path / 'config.json'} is not that of a Run ({error!s}); fit again") from None
        weights = read_tensors(path / "weights.safetensors")
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            first = str(error).splitlines()[-1].strip()
            raise RunError(f"{path / 'weights.safetensors'} doesn't fit config.json: {first}") from None
        # Exact models compute in float64 on the processor, where that is fast.
        place = resolve_device(device)
        model.to(place if recipe.solve is None else "cpu").eval()
        return cls(
            content["recipe"],
            config,
            schema,
            model,
            read_metrics(path),
            about,
            _read_examples(path, schema),
            _read_evaluations(path),
            path,
        )


_ABOUT: dict[str, type] = {
    **dict.fromkeys(("data", "source", "date", "device"), str),
    **dict.fromkeys(("n", "n_valid", "seed", "threads", "processes"), int),
    "versions": dict,
}
"""What kind of value some keys of ``about`` have, where they are there and not None."""


def _about(found: Any) -> dict[str, Any]:
    """What the file says of the fit.

    Raises:
        TypeError: If it is of another kind.
    """
    about = dict(found)
    for key, kind in _ABOUT.items():
        value = about.get(key)
        if value is not None and not isinstance(value, kind):
            raise TypeError(f"'{key}' in 'about' is no {kind.__name__}: {value!r}")
    return about


def read_recipe(folder: str | Path) -> str:
    """The name of a Run's recipe, from its config.json alone.

    Raises:
        RunError: If the folder is no Run.
    """
    path = Path(folder)
    if not path.is_dir():
        raise RunError(f"there is no Run at {path}: {'it is a file' if path.exists() else 'no such folder'}")
    return str(read_json(path / "config.json").get("recipe"))


def check_layout(folder: Path, content: Mapping[str, Any]) -> None:
    """Checks that a Run's layout is one that this version reads.

    Args:
        folder: Of the Run.
        content: What its config.json holds.

    Raises:
        RunError: If it isn't; says whether the Run or this version is the older one.
    """
    layout = content["format"]
    if layout == FORMAT:
        return
    made = content.get("versions")
    writer = cast("dict[str, Any]", made).get("jensen", "unknown") if isinstance(made, dict) else "unknown"
    newer = isinstance(layout, int) and layout > FORMAT
    raise RunError(
        f"{folder} has layout {layout}, that of {'a newer' if newer else 'an older'} jensen ({writer}); this version "
        f"of jensen ({versions()['jensen']}) reads layout {FORMAT}: "
        + ("update it" if newer else "use the version that wrote it, or fit again")
    )


def _schema(content: Mapping[str, Any]) -> Schema:
    """A schema from config.json.

    Raises:
        ValueError: If it is none; with KeyError and TypeError where parts are missing or of other types.
    """
    shape, kind, columns = tuple(content["event_shape"]), content["kind"], content["columns"]
    sides = bool(shape) and all(isinstance(side, int) and side > 0 for side in shape)
    named = columns is None or (
        isinstance(columns, list)
        and all(isinstance(name, str) for name in columns)
        and (len(columns),) == shape
    )
    if not sides or not named or kind not in get_args(Kind):
        raise ValueError("its schema describes no data")
    return Schema(shape, kind, None if columns is None else tuple(columns))


def _read_evaluations(folder: Path) -> list[dict[str, Any]]:
    path = folder / "evaluations.json"
    if not path.exists():
        return []
    records = read_json(path).get("evaluations")
    if not isinstance(records, list) or not all(isinstance(record, dict) for record in records):
        raise RunError(f"{path} is damaged: it should hold a list of evaluations; remove or restore the file")
    return cast("list[dict[str, Any]]", records)


def _read_examples(folder: Path, schema: Schema) -> Dataset | None:
    path = folder / "examples.safetensors"
    if not path.exists():
        return None
    tensors = read_tensors(path)
    if "x" not in tensors:
        raise RunError(f"{path} is damaged: it holds no data; remove or restore the file")
    about = read_metadata(path)
    labels = tensors["y"].numpy() if "y" in tensors else None
    if "labels" in about:
        labels = np.asarray(json.loads(about["labels"]))
    return Dataset(
        tensors["x"].numpy(),
        schema,
        labels,
        name=about.get("name", "examples"),
        dynamic=about.get("dynamic") == "True",
    )


def make_folder(folder: str | Path) -> Path:
    """The folder, made if need be.

    Raises:
        RunError: If it can't be.
    """
    path = Path(folder)
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"can't make the folder {path}: {error.strerror or error}") from None
    return path


def write_metrics(folder: Path, history: list[dict[str, Any]]) -> None:
    """Writes the history, one JSON object a line."""
    lines = "".join(strict_json(record) + "\n" for record in history)
    write_bytes(folder / "metrics.jsonl", lines.encode())


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """Reads the history as far as it is whole; a last line that a kill cut short is left out."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return []
    records: list[dict[str, Any]] = []
    for line in read_text(path, errors="replace").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if not _is_record(record):
            break
        records.append(cast("dict[str, Any]", record))
    return records


def _is_record(record: Any) -> bool:
    """Whether something has the form of an epoch's record, as far as others rely on it."""
    if not isinstance(record, dict):
        return False
    found = cast("dict[str, Any]", record)
    whole = all(isinstance(found.get(key), int) for key in ("epoch", "step", "skipped"))
    valid = found.get("valid", 0)
    checked = isinstance(valid, dict) and {"elbo", "standard_error"} <= valid.keys()
    return (
        whole
        and isinstance(found.get("seconds"), int | float)
        and isinstance(found.get("rate"), int | float | None)
        and found.get("status") in get_args(Status)
        and isinstance(found.get("train"), dict)
        and isinstance(found.get("best"), bool)
        and (valid is None or checked)
    )
