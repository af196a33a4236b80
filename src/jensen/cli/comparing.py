"""Compares models: reads the data, calls the library, prints the table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from jensen import runs
from jensen.cli.actions import loggers, obtain, validation
from jensen.cli.progress import FitBar
from jensen.data import KNOWN, Dataset, Stored, load
from jensen.errors import ConfigError
from jensen.recipes import RECIPES
from jensen.runs.comparing import tables
from jensen.runs.comparing.plan import compared_stream, named
from jensen.runs.comparing.sharing import place
from jensen.runs.storage import strict_json
from jensen.runs.streams import some_of

_WIDE = 110
"""Characters from which all columns are shown; the files have them all."""


def compare(
    data: str,
    models: Sequence[str],
    out: Path,
    *,
    seeds: int,
    epochs: int | None,
    minutes: float | None,
    settings: Mapping[str, str],
    valid: str | None,
    test: str | None,
    samples: int,
    logs: Sequence[str],
    stream: bool | None,
    target: str | int | None,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Fits, judges, and writes table and report."""
    labels = named(models)
    options, own = _sorted(settings, labels)
    loggers(logs)
    exact = all(RECIPES[recipe].solve is not None for recipe in labels.values())
    stream = compared_stream(out) if stream is None else stream
    train = obtain(data, "train", target, stream, exact=exact)

    def watcher(label: str, one: int) -> runs.Watcher:
        return runs.Several(FitBar(f"{label}, seed {one}: "), *loggers(logs))

    comparison = runs.compare(
        train,
        labels,
        out,
        seeds=seeds,
        epochs=epochs,
        minutes=minutes,
        options=options,
        model_options=own,
        valid=validation(data, train, valid, target, exact=exact),
        test=_test(data, train, test, target, exact=exact),
        samples=samples,
        seed=seed,
        device=device,
        watcher=watcher,
    )
    if place()[0] > 0:
        return
    from jensen.report import write_comparison

    report = write_comparison(comparison)
    if as_json:
        print(strict_json({**tables.as_record(comparison), "report": str(report)}))
        return
    show(comparison, Console())
    Console().print(f"tables: {out}/table.csv, .json, .md; report: {report}", highlight=False)


def show(comparison: runs.Comparison, console: Console) -> None:
    """Prints the table and what has to be said with it."""
    single = all(row.fits + len(row.errors) == 1 for row in comparison.rows)
    hidden = {"fits", "± seeds"} if single else set[str]()
    if console.width < _WIDE:
        hidden |= {"fits", "ELBO", "epochs"}
    shown = [i for i, head in enumerate(tables.HEAD) if head not in hidden]
    table = Table(
        *(Column(tables.HEAD[i], justify="left" if i == 0 else "right", no_wrap=i > 0) for i in shown),
        title=f"{comparison.data['name']}, judged on {comparison.data['test']}",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
    )
    before: bool | None = None
    for row in comparison.rows:
        if row.nll is not None and before is not None and row.density != before:
            table.add_section()
        before = row.density if row.nll is not None else before
        texts = tables.cells(row)
        style = "bold" if row.best else "red" if row.nll is None else ""
        table.add_row(*(Text(texts[i], style=style) for i in shown))
    console.print(table)
    for note in tables.notes(comparison):
        console.print(note, style="dim", highlight=False)


def _sorted(
    settings: Mapping[str, str], labels: Mapping[str, str]
) -> tuple[dict[str, str], dict[str, dict[str, Any]]]:
    """Options of all models, and those of single ones, written LABEL.KEY."""
    options: dict[str, str] = {}
    own: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        label, dot, name = key.partition(".")
        if not dot:
            options[key] = value
            continue
        if label not in labels:
            raise ConfigError(
                f"--set {key}={value} is for '{label}', which isn't compared; the models are: {', '.join(labels)}"
            )
        own.setdefault(label, {})[name] = value
    return options, own


def _test(
    data: str, train: Dataset | Stored, test: str | None, target: str | int | None, *, exact: bool
) -> Dataset | float:
    """The data to judge on: the known set's own, what was asked for, or a fifth."""
    if test is None:
        known = data.partition(":")[0]
        if known in KNOWN and "test" in KNOWN[known].splits:
            return load(known, "test")
        return some_of(len(train), 0.2, streamed=isinstance(train, Stored))
    try:
        fraction = float(test)
    except ValueError:
        return load(test, "test", target=target, exact=exact)
    if not 0 < fraction < 1:
        raise ConfigError(f"--test wants data, or a part of the data between 0 and 1; got {test}")
    return fraction
