"""How to get the same Run again."""

import shlex
from collections.abc import Mapping
from math import isclose
from pathlib import Path
from typing import Any

from jensen.data import KNOWN
from jensen.recipes import RECIPES, VAEConfig
from jensen.report.markup import Markup, join, table, tag
from jensen.report.material import Material
from jensen.report.sections.section import Section
from jensen.report.wording import count
from jensen.runs import Run, default_fraction


def repeat(material: Material) -> Section:
    """The section."""
    run = material.run
    versions = run.about.get("versions", {})
    made = ", ".join(f"{name} {version}" for name, version in versions.items()) or "versions unknown"
    named = data_argument(run)
    notes = [
        "The same seed gives the same numbers on the same machine with the same versions: "
        f"{made}; {run.about.get('device', 'unknown device')} with {count(run.about.get('threads', 1), 'thread')}.",
    ]
    if named is None:
        notes.append("The data were handed over in memory: DATA stands for a file that holds them.")
    if "VALID" in validation(run):
        notes.append("So were the validation data: VALID stands for a file that holds them.")
    if "valid" not in run.about and run.about.get("n_valid") and validation(run):
        notes.append(
            "The part that --valid holds out is that of the fit by number; if the validation data were a set of "
            "their own, give that instead."
        )
    return Section(
        "repeat",
        "How to repeat this",
        join(
            tag("pre", tag("code", "\n".join([command(run), *_evaluation(material)]))),
            *(tag("p", note) for note in notes),
            tag("details", tag("summary", "All options of this fit"), _options(run)),
        ),
    )


def command(run: Run) -> str:
    """The command line that fits the Run again; options that have their default value are left out."""
    words = ["jensen", "fit", data_argument(run) or "DATA", "--model", run.recipe, "--out", "RUN"]
    words += validation(run)
    if run.about.get("target") is not None:
        words += ["--target", str(run.about["target"])]
    if run.about.get("stream") is not None:
        words += ["--stream"]
    words += ["--seed", str(run.about.get("seed", 0))]
    for key, value in changed(run).items():
        words += ["--epochs", str(value)] if key == "epochs" else ["--set", f"{key}={written(value)}"]
    return shlex.join(words)


def _evaluation(material: Material) -> list[str]:
    """The command line that computes the report's numbers again, unless the report did so itself."""
    if material.own_numbers:
        return []
    numbers = material.numbers
    name = str(numbers.get("data", ""))
    data = name if name.partition(":")[0] in KNOWN else "DATA"
    options = ["--samples", str(numbers["samples"]), "--seed", str(numbers.get("seed", 0))]
    options += ["--gap", "--gap-data", str(numbers["gap_n"])] if "gap_n" in numbers else []
    return [shlex.join(["jensen", "evaluate", "RUN", data, *options])]


def changed(run: Run) -> dict[str, Any]:
    """The options that differ from what the recipe would have chosen for the same data."""
    recipe = RECIPES[run.recipe]
    # How many epochs there are by default depends on the batch, which may be an option too.
    given = recipe.config({"batch_size": run.config.batch_size})
    resolved = recipe.resolve(given, run.schema, run.about.get("n", 1))
    default = resolved.model_copy(update={"batch_size": recipe.config({}).batch_size})
    options = {name: getattr(run.config, name) for name in VAEConfig.model_fields}
    return {name: value for name, value in options.items() if value != getattr(default, name)}


def data_argument(run: Run) -> str | None:
    """What to give as DATA: a known name or the path; None if the data came from memory."""
    return _argument(run.about, "train")


def _argument(about: Mapping[str, Any], split: str) -> str | None:
    """What names data on the command line; ``split`` is what a known name stands for by itself."""
    name, source = str(about.get("data", "")), str(about.get("source", ""))
    known, _, part = name.partition(":")
    if known in KNOWN:
        return known if part in ("", split) else name
    if not source or "\n" in source:
        return None
    if Path(source).suffix == ".npz" and Path(source).stem == known and part:
        return f"{source}:{part}"
    return source if Path(source).name.startswith(name) else None


def validation(run: Run) -> list[str]:
    """The option that gives the validation data, where they aren't what the command takes by itself."""
    if "valid" not in run.about:
        return _guessed_validation(run)
    given = run.about["valid"]
    known = dict(KNOWN).get(data_argument(run) or "")
    own = known is not None and "valid" in known.splits
    total = run.about.get("n", 0) + run.about.get("n_valid", 0)
    default = default_fraction(total, streamed=run.about.get("stream") is not None)
    if given is None:
        return ["--valid", "0"] if own or default is not None else []
    if "fraction" in given:
        return [] if not own and given["fraction"] == default else ["--valid", repr(given["fraction"])]
    if own and given.get("data") == f"{data_argument(run)}:valid":
        return []
    return ["--valid", _argument(given, "valid") or "VALID"]


def _guessed_validation(run: Run) -> list[str]:
    """The same for a Run that doesn't say how its validation data were given: a part, going by their number."""
    n, held_out = run.about.get("n", 0), run.about.get("n_valid", 0)
    total = n + held_out
    known = dict(KNOWN).get(data_argument(run) or "")
    if known is not None and "valid" in known.splits:
        if held_out == known.splits["valid"] and n == known.splits.get("train"):
            return []
    elif held_out == (round(0.1 * total) if total >= 50 else 0):
        return []
    if not held_out:
        return ["--valid", "0"]
    fraction = held_out / total
    short = round(fraction, 2)
    exact = short if round(short * total) == held_out or isclose(short, fraction) else fraction
    return ["--valid", f"{exact:.6g}"]


def written(value: Any) -> str:
    """An option's value as the command line takes it."""
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)  # pyright: ignore[reportUnknownVariableType]
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)


def _options(run: Run) -> Markup:
    different = changed(run)
    rows: list[tuple[object, ...]] = [
        (
            tag("code", name, class_="changed" if name in different else None),
            tag("code", written(getattr(run.config, name)) or "none"),
            field.description,
        )
        for name, field in VAEConfig.model_fields.items()
    ]
    return join(
        tag("p", "Bold: other than this recipe's default.", class_="meta"),
        table(("option", "value", "what it is"), rows),
    )
