"""How Runs are doing, live in a terminal; reads their files alone."""

import math
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress_bar import ProgressBar
from rich.table import Column, Table
from rich.text import Text

from jensen.cli.plotting import plot, sparkline
from jensen.runs import Snapshot, find, snapshot
from jensen.runs.storage import strict_json

_WIDE = 100
"""Characters from which all columns are shown."""

REFRESH = 1.0
"""Seconds from one look to the next."""

LINGER = 60.0
"""Seconds for which a folder of Runs is watched after the last of them came to its end."""

_STYLES = {
    "running": "bold green",
    "finished": "bold cyan",
    "stopped early": "bold cyan",
    "stalled": "bold yellow",
    "silent": "bold yellow",
    "interrupted": "bold yellow",
    "killed": "bold red",
    "failed": "bold red",
    "unknown": "bold",
}
_TRAIN, _VALID = "cyan", "magenta"


def watch(folder: Path, *, once: bool, as_json: bool, console: Console | None = None) -> None:
    """Shows how a Run, or the Runs of a folder, are doing until none is at work or Ctrl-C is pressed.

    Args:
        folder: A Run, or a folder of some.
        once: Whether to look only once; so it is where nobody is watching.
        as_json: Whether to print one JSON object, once.
        console: Where to.
    """
    seen = _look(folder)
    if as_json:
        single = (folder / "config.json").exists()
        print(strict_json(described(seen[0]) if single else {"runs": [described(s) for s in seen]}))
        return
    console = Console() if console is None else console
    if once or not console.is_terminal:
        console.print(view(seen, console))
        return
    # In a folder of Runs the next fit may yet begin, once the last one is evaluated.
    linger = 0.0 if (folder / "config.json").exists() else LINGER
    busy = time.monotonic() if any(s.active for s in seen) else -math.inf
    with suppress(KeyboardInterrupt), Live(console=console, auto_refresh=False) as live:
        while True:
            live.update(view(seen, console), refresh=True)
            now = time.monotonic()
            busy = now if any(s.active for s in seen) else busy
            if now - busy > linger:
                break
            time.sleep(REFRESH)
            seen = _look(folder)


def described(seen: Snapshot) -> dict[str, Any]:
    """A snapshot as JSON knows it."""
    record = asdict(seen) | {"folder": str(seen.folder), "active": seen.active}
    names = ("epoch", "elbo", "valid_elbo")
    record["curve"] = [dict(zip(names, point, strict=True)) for point in seen.curve]
    return record


def view(seen: Sequence[Snapshot], console: Console) -> RenderableType:
    """What is shown: all of one Run, or one line for each of several."""
    return _single(seen[0], console) if len(seen) == 1 else _table(seen, console)


def _look(folder: Path) -> list[Snapshot]:
    return [snapshot(path) for path in find(folder)]


def _single(s: Snapshot, console: Console) -> RenderableType:
    head = Text.assemble((s.state, _STYLES[s.state]), f"  {s.recipe} on {s.data}  ", (str(s.folder), "dim"))
    parts: list[RenderableType] = [head]
    if s.message:
        parts.append(Text(s.message, style="yellow" if s.active else "red"))
    line = Table.grid(padding=(0, 2))
    words = [f"epoch {s.epoch}/{s.epochs}", f"step {s.step:,}"]
    words += [] if s.rate is None else [f"{s.rate:,.0f} data/s"]
    if s.seconds_left is not None:
        words.append(f"{clock(s.seconds_left)} left at most")
    else:
        words.append(f"{clock(s.seconds)} in steps")
    if s.skipped:
        words.append(f"{s.skipped:,} steps skipped")
    line.add_row(ProgressBar(total=1.0, completed=s.part, width=24), Text(" · ".join(words)))
    parts.append(line)
    parts.append(_numbers(s))
    curves = [(_TRAIN, _points(s, 1)), (_VALID, _points(s, 2))]
    if max(len(curve) for _, curve in curves) > 1:
        width = max(20, min(72, console.width - 16))
        unicode = (console.encoding or "").lower().startswith("utf")
        grid = Table.grid(Column(justify="right"), Column(no_wrap=True), padding=(0, 1))
        for label, text in plot(curves, width, 9, braille=unicode):
            grid.add_row(Text(label, style="dim"), text)
        first, last = s.curve[0][0], s.curve[-1][0]
        axis = f"epoch {first}"
        grid.add_row("", Text(axis + str(last).rjust(width - len(axis)), style="dim"))
        parts.append(Padding(grid, (1, 0, 0, 0)))
    return Group(*parts)


def _points(s: Snapshot, which: int) -> list[tuple[float, float]]:
    """The epochs and finite bounds of a curve."""
    return [(float(p[0]), value) for p in s.curve if (value := p[which]) is not None and math.isfinite(value)]


def _numbers(s: Snapshot) -> Text:
    """The bounds, in the colours of their curves."""
    text = Text()
    if _drawn(s.elbo):
        text.append("train ", _TRAIN)
        text.append(f"{s.elbo:.2f} nats")
    if _drawn(s.valid_elbo):
        text.append("   valid ", _VALID)
        text.append(f"{s.valid_elbo:.2f}{_plus_minus(s)} nats")
    if s.best_epoch is not None and _drawn(s.best_valid_elbo):
        text.append(f"   best {s.best_valid_elbo:.2f} at epoch {s.best_epoch}", "dim")
    return text if text.plain else Text("no epoch is done yet", style="dim")


def _table(seen: Sequence[Snapshot], console: Console) -> Table:
    rows = [_row(s) for s in seen]
    hidden = {head for head in ("left", "skipped") if not any(row[head] for row in rows)}
    if console.width < _WIDE:
        hidden.add("train")
    shown = [head for head in rows[0] if head not in hidden]
    left = ("run", "state", "valid by epoch")
    table = Table(
        *(Column(head, justify="left" if head in left else "right", no_wrap=head != "run") for head in shown),
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0),
        caption="bounds in nats per datum" + ("" if "left" in hidden else "; left: at most"),
        caption_justify="left",
    )
    for row in rows:
        table.add_row(*(row[head] for head in shown))
    return table


def _row(s: Snapshot) -> dict[str, Text]:
    """What the table says of a Run, by column."""
    values = [y for _, y in _points(s, 2) or _points(s, 1)]
    # The steep start would leave the rest flat.
    late = values[len(values) // 10 :]
    return {
        "run": Text(s.folder.name),
        "state": Text(s.state, style=_STYLES[s.state]),
        "epoch": Text(f"{s.epoch}/{s.epochs}"),
        "train": Text(f"{s.elbo:.2f}" if _drawn(s.elbo) else ""),
        "valid": Text(f"{s.valid_elbo:.2f}{_plus_minus(s)}" if _drawn(s.valid_elbo) else ""),
        "valid by epoch": Text(sparkline(late, 14), style=_VALID),
        "data/s": Text("" if s.rate is None else f"{s.rate:,.0f}"),
        "left": Text("" if s.seconds_left is None else clock(s.seconds_left)),
        "skipped": Text(f"{s.skipped:,}" if s.skipped else ""),
    }


def _plus_minus(s: Snapshot) -> str:
    return f" ± {s.valid_standard_error:.2f}" if _drawn(s.valid_standard_error) else ""


def _drawn(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def clock(seconds: float | int) -> str:
    """A time as people read it off a clock.

    Example:
        >>> clock(75.2), clock(3700)
        ('1:15', '1:01:40')
    """
    whole = round(seconds)
    minutes = f"{whole // 60 % 60:02d}:{whole % 60:02d}"
    return f"{whole // 3600}:{minutes}" if whole >= 3600 else minutes.removeprefix("0")
