"""What a command prints: a table for people, or one JSON object."""

import os
from collections.abc import Mapping
from typing import Any, cast


def show(result: Mapping[str, Any], as_json: bool, title: str = "") -> None:
    """Prints a result; of several processes started by ``torchrun`` the first one does.

    Args:
        result: Names and values.
        as_json: Whether as one JSON object on standard output, or as a table.
        title: Of the table.
    """
    if int(os.environ.get("RANK", "0")) > 0:
        return
    if as_json:
        from jensen.runs.storage import strict_json

        print(strict_json(result))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title or None, show_header=False, title_justify="left")
    for name, value in _rows(result):
        table.add_row(name.replace("_", " "), _text(value))
    Console().print(table)


def _rows(result: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Names and values; those of a result within the result have both names."""
    rows: list[tuple[str, Any]] = []
    for name, value in result.items():
        if isinstance(value, Mapping):
            inner = cast("Mapping[str, Any]", value)
            rows += [(f"{name} {key}", item) for key, item in _rows(inner)]
        else:
            rows.append((name, value))
    return rows


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 1e4 else f"{value:,.1f}"
    if isinstance(value, list | tuple):
        return ", ".join(_text(v) for v in cast("list[Any]", value))
    return str(value)
