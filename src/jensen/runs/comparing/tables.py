"""A comparison as JSON, CSV and Markdown."""

import csv
import math
from dataclasses import asdict, fields
from io import StringIO
from pathlib import Path
from typing import Any

from jensen.runs.comparing.result import Comparison, Row
from jensen.runs.storage import strict_json, write_bytes

INCOMPARABLE = (
    "Some models give densities of real numbers, others probabilities of whole ones: their nats and bits do not "
    "compare with each other, whatever they are."
)


def as_record(comparison: Comparison) -> dict[str, Any]:
    """Everything but the scores of single data, as JSON knows it; numbers that are not finite are None."""
    return _finite(
        {
            "folder": str(comparison.folder),
            "data": dict(comparison.data),
            "budget": dict(comparison.budget),
            "budget_in_words": comparison.budget_in_words(),
            "planned_epochs": dict(comparison.planned_epochs),
            "seeds": list(comparison.seeds),
            "samples": comparison.samples,
            "seed": comparison.seed,
            "comparable": comparison.comparable,
            "models": [asdict(row) for row in comparison.rows],
            "differences": [asdict(difference) for difference in comparison.differences],
            "fits": [
                {
                    "label": o.label,
                    "recipe": o.recipe,
                    "seed": o.seed,
                    "folder": str(o.folder),
                    "status": o.status,
                    "error": o.error,
                    "epochs": o.epochs,
                    "seconds": o.seconds,
                    "parameters": o.parameters,
                    "likelihood": o.likelihood,
                    "numbers": o.numbers,
                }
                for o in comparison.outcomes
            ],
        }
    )


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(key): _finite(part) for key, part in value.items()}  # pyright: ignore[reportUnknownVariableType]
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]  # pyright: ignore[reportUnknownVariableType]
    return value


_COLUMNS = [field.name for field in fields(Row) if field.name not in ("options", "errors", "behind")]


def as_csv(comparison: Comparison) -> str:
    """One line a model; empty where there is no number."""
    file = StringIO()
    writer = csv.writer(file, lineterminator="\n")
    more = ["behind_nats", "behind_standard_error", "behind_p_value", "behind_significant", "errors"]
    writer.writerow([*_COLUMNS, *more])
    for row in comparison.rows:
        values = [getattr(row, name) for name in _COLUMNS]
        d = row.behind
        values += [None] * 4 if d is None else [d.nats, d.standard_error, d.p_value, d.significant]
        writer.writerow(
            ["" if value is None else value for value in [*values, "; ".join(row.errors) or None]]
        )
    return file.getvalue()


HEAD = (
    "model",
    "fits",
    "NLL",
    "± seeds",
    "± data",
    "behind",
    "ELBO",
    "bits/dim",
    "epochs",
    "time",
    "weights",
)


def cells(row: Row) -> tuple[str, ...]:
    """A row of the table as text, in the order of ``HEAD``; a star marks a significant difference."""
    if row.nll is None:
        return (row.label, "0", *[""] * (len(HEAD) - 2))
    errors = [e for e in (row.nll_seed_error, row.nll_data_error) if e]
    places = _places(min(errors)) if errors else 2
    return (
        row.label,
        str(row.fits) if not row.errors else f"{row.fits} of {row.fits + len(row.errors)}",
        f"{row.nll:.{places}f}",
        "–" if row.nll_seed_error is None else f"{row.nll_seed_error:.{_places(row.nll_seed_error)}f}",
        "–" if row.nll_data_error is None else f"{row.nll_data_error:.{_places(row.nll_data_error)}f}",
        behind(row),
        f"{row.elbo:.{places}f}",
        f"{row.bits_per_dim:.4f}",
        f"{row.epochs:g}" if row.epochs == int(row.epochs or 0) else f"{row.epochs:.1f}",
        f"{row.seconds:.1f} s",
        f"{row.parameters:,}",
    )


def behind(row: Row) -> str:
    """How far a model is behind the best that it compares with."""
    if row.behind is None:
        return "best" if row.best else ""
    d = row.behind
    places = _places(d.standard_error)
    return f"{d.nats:.{places}f} ± {d.standard_error:.{places}f}{' *' if d.significant else ''}"


def _places(error: float) -> int:
    """Decimals that show two digits of an error."""
    return min(6, max(0, 1 - math.floor(math.log10(error)))) if error > 0 and math.isfinite(error) else 2


def notes(comparison: Comparison) -> list[str]:
    """What has to be said with the table."""
    data = comparison.data
    seeds = ", ".join(str(seed) for seed in comparison.seeds)
    found = [
        f"Budget: {comparison.budget_in_words()}.",
        f"NLL and ELBO in nats a datum, on {data['n_test']:,} data of {data['test']}, with "
        f"{comparison.samples:,} importance samples each; means over the seeds {seeds}. The first error is over seeds, "
        "the second over test data.",
        "A star marks a difference that is significant: paired over the test data, with the spread over seeds, at a "
        "chance of 0.05 for any false alarm in the table.",
    ]
    if len(comparison.seeds) < 2:
        found.append(
            "There is one seed, so how much another one would change is unknown: the differences are those of these "
            "fits, not of the models."
        )
    if not comparison.comparable:
        found.append(INCOMPARABLE)
    found += [f"{row.label}, {error}" for row in comparison.rows for error in row.errors]
    return found


def as_markdown(comparison: Comparison) -> str:
    """The table and what has to be said with it."""
    lines = [HEAD, ("---",) * len(HEAD)]
    groups = [row.density for row in comparison.rows if row.nll is not None]
    for row in comparison.rows:
        kind = ""
        if len(set(groups)) > 1 and row.nll is not None:
            kind = " (density)" if row.density else " (probability)"
        lines.append((f"{row.label}{kind}", *cells(row)[1:]))
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    return f"# {comparison.data['name']}\n\n{table}\n\n" + "\n\n".join(notes(comparison)) + "\n"


def write_tables(comparison: Comparison) -> list[Path]:
    """Writes ``table.json``, ``table.csv`` and ``table.md`` into the comparison's folder."""
    contents = {
        "table.json": strict_json(as_record(comparison), 2) + "\n",
        "table.csv": as_csv(comparison),
        "table.md": as_markdown(comparison),
    }
    for name, text in contents.items():
        write_bytes(comparison.folder / name, text.encode())
    return [comparison.folder / name for name in contents]
