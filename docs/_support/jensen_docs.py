"""What the pages are built with: pictures' style, tables made from the code, docstrings made safe for Sphinx."""

import json
import re
from pathlib import Path
from typing import Any

NO_NUMBERS = (
    "*The numbers of the benchmark `gradients` weren't there when this page was built; the example on gradient "
    "estimators in the gallery measures its own.*"
)


ORDER = (
    "vae_digits",
    "linear_vae",
    "bounds",
    "gap",
    "gradients",
    "assemble",
    "collapse",
    "anomaly",
    "comparison",
    "games",
    "coin",
    "ising",
)


class Order:
    """The order of the examples: those named first, then the others by name."""

    def __init__(self, src_dir: str) -> None:
        self.src_dir = src_dir

    def __call__(self, filename: str) -> tuple[int, str]:
        """What examples are sorted by."""
        name = Path(filename).stem.removeprefix("plot_")
        return (ORDER.index(name) if name in ORDER else len(ORDER), name)


def style(gallery_conf: dict[str, Any], fname: str) -> None:
    """Sets matplotlib's look before each example."""
    import matplotlib as mpl
    import torch

    torch.set_num_threads(1)
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 110,
            "figure.constrained_layout.use": True,
            "font.size": 9,
            "axes.titlesize": 10,
            "axes.titlelocation": "left",
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.grid": False,
            "axes.prop_cycle": mpl.cycler(color=["#2f6690", "#d1603d", "#6a994e", "#8d6a9f", "#b08900"]),
            "legend.frameon": False,
            "image.cmap": "gray_r",
        }
    )


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = [header, ["---"] * len(header), *escaped]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def gradients_table(path: Path) -> str:
    """The benchmark's bias and variance of gradient estimators as a table; a sentence where there are none."""
    try:
        content = json.loads(path.read_text(encoding="utf8"))
        rows = [_measured(row) for row in content["rows"]]
        about = f"{content['settings']['estimates']:,} estimates each, {content['date'][:10]}"
        about += f", torch {content['versions']['torch']}"
    except (OSError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        return NO_NUMBERS
    header = ["model", "bound", "estimator", "norm of the gradient", "bias", "its error", "variance"]
    return f"{table(header, rows)}\n\n({about}.)" if rows else NO_NUMBERS


def _measured(row: dict[str, Any]) -> list[str]:
    """A row of the benchmark, as to the posterior's parameters; a bias beyond three errors is bold."""
    q = row["q"]
    bias, error = float(q["bias_norm"]), float(q["standard_error"])
    # Where an estimator has no variance, rounding is all that is left.
    clear = bias > 3 * error and bias > 1e-9
    return [
        str(row["model"]),
        str(row["bound"]),
        str(row["estimator"]),
        f"{float(q['gradient_norm']):.3g}",
        f"**{bias:.2g}**" if clear else f"{bias:.2g}",
        f"{error:.2g}",
        f"{float(q['total_variance']):.3g}",
    ]


def substitutions(root: Path) -> dict[str, str]:
    """Pieces of Markdown that are made from the code, by the names that pages use."""
    from jensen.cli.listings import CHOICES
    from jensen.data import KNOWN
    from jensen.recipes import RECIPES, VAEConfig

    options = [
        [
            f"`{key}`",
            f"`{_option(field.default)}`",
            field.description or "",
            ", ".join(f"`{name}`" for name in CHOICES.get(key, [])),
        ]
        for key, field in VAEConfig.model_fields.items()
    ]
    recipes = [
        [
            f"`{name}`",
            recipe.title,
            ", ".join(f"`{key}={_option(value)}`" for key, value in recipe.defaults.items()),
        ]
        for name, recipe in RECIPES.items()
    ]
    known = [
        [
            f"`{name}`",
            entry.title,
            ", ".join(f"{split} {n:,}" for split, n in entry.splits.items()),
            " x ".join(map(str, entry.event_shape)) + f" {entry.kind}",
            entry.note,
        ]
        for name, entry in KNOWN.items()
    ]
    return {
        "gradients_table": gradients_table(root / "benchmarks" / "results" / "gradients.json"),
        "options_table": table(["option", "default", "what it is", "choices"], options),
        "recipes_table": table(["model", "what it is", "sets"], recipes),
        "known_table": table(["name", "what", "splits", "one datum", "note"], known),
        "help": usage(),
        "help_fit": usage("fit"),
        "help_evaluate": usage("evaluate"),
        "help_compare": usage("compare"),
    }


def _option(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple) else str(value)


def usage(*command: str) -> str:
    """What ``--help`` prints, as a block of code."""
    from typer.testing import CliRunner

    from jensen.cli.app import app

    text = CliRunner().invoke(app, [*command, "--help"], prog_name="jensen").output.strip("\n")
    return f"```text\n$ jensen {' '.join([*command, '--help'])}\n{text}\n```"


def escape(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Escapes ``*event`` and ``|`` in docstrings, which are shapes and conditions there and markup in Sphinx."""
    kept_indent: int | None = None
    doctest = False
    for i, line in enumerate(lines):
        text, indent = line.strip(), len(line) - len(line.lstrip())
        if not text:
            doctest = False
            continue
        if kept_indent is not None and indent > kept_indent:
            continue
        kept_indent = indent if text.startswith(".. math::") else None
        doctest = doctest or text.startswith(">>>")
        if kept_indent is None and not doctest:
            parts = re.split(r"(``.*?``|:math:`.*?`)", line)
            parts[::2] = [re.sub(r"(?<!\\)([*|])", r"\\\1", part) for part in parts[::2]]
            # A name such as run_ would be a link.
            lines[i] = re.sub(r"^(\s+\w+)_:", r"\1\\_:", "".join(parts))


def skip(app: Any, what: str, name: str, obj: Any, skipped: bool, options: Any) -> bool | None:
    """Leaves out what scikit-learn adds, and the fields of named tuples, which their class describes already."""
    if name.startswith("set_") and name.endswith("_request"):
        return True
    return True if (getattr(obj, "__doc__", None) or "").startswith("Alias for field") else None
