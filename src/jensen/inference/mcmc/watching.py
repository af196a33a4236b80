"""Progress of a sampler: a callback, and a bar where a person is watching."""

import sys
from collections.abc import Callable
from time import perf_counter
from types import TracebackType
from typing import Any

OnDraws = Callable[[int, int], None]
"""Called with the number of draws made so far, over all chains, and the number wanted."""

_PATIENCE = 1.0
"""Seconds after which a bar appears."""
_INTERVAL = 0.1
"""Seconds between two calls."""


class Watch:
    """Tells how far a sampler is.

    Args:
        label: What the bar begins with.
        draws: How many are wanted, over all chains.
        on_draws: A callback, or None.
        progress: Whether there is a bar; None: on a terminal, after a second.
    """

    def __init__(
        self, label: str, draws: int, on_draws: OnDraws | None = None, progress: bool | None = None
    ) -> None:
        self.label = label
        self.draws = draws
        self.on_draws = on_draws
        self.wanted = sys.stderr.isatty() if progress is None else progress
        self.bar: Any = None
        self.task: Any = None

    def __enter__(self) -> "Watch":
        """Starts the clock."""
        self.started = self.told = perf_counter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the bar as it is."""
        if self.bar is not None:
            self.bar.stop()

    def warming(self, share: float) -> None:
        """So much of the warm-up is done, from 0 to 1."""
        now = perf_counter()
        if now - self.told < _INTERVAL:
            return
        self.told = now
        self._show(f"{self.label}: warm-up {share:.0%}", 0)

    def done(self, draws: int, note: str = "") -> None:
        """So many draws are made."""
        now = perf_counter()
        if now - self.told < _INTERVAL and draws < self.draws:
            return
        self.told = now
        if self.on_draws is not None:
            self.on_draws(draws, self.draws)
        self._show(f"{self.label}: draws{note}", draws)

    def _show(self, text: str, draws: int) -> None:
        if not self.wanted or perf_counter() - self.started < _PATIENCE:
            return
        if self.bar is None:
            # Imported only where a bar is shown; most calls are over before.
            from rich.console import Console
            from rich.progress import (
                BarColumn,
                MofNCompleteColumn,
                Progress,
                TextColumn,
                TimeElapsedColumn,
                TimeRemainingColumn,
            )

            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                console=Console(stderr=True, emoji=False, highlight=False),
                refresh_per_second=4,
            )
            self.bar.start()
            self.task = self.bar.add_task(text, total=self.draws)
        self.bar.update(self.task, description=text, completed=draws)
