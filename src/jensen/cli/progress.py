"""Progress bars on standard error, where a person is watching."""

import math
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from jensen.runs import Run
from jensen.training import Epoch


def _progress(*columns: TextColumn) -> Progress:
    console = Console(stderr=True, emoji=False, highlight=False)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        *columns,
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
        transient=False,
        refresh_per_second=4,
    )


class FitBar:
    """A watcher of a fit: epochs, the bound on training and validation data, the rate, the time left.

    It is there from a fit's start to its end. Without a terminal there is no bar, only a line at the start and one at
    an early end.

    Args:
        label: What the bar begins with, where there are several fits.
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self.progress = _progress(TextColumn("{task.fields[numbers]}"))
        self.task: TaskID | None = None
        self.epochs = 0

    def __enter__(self) -> "FitBar":
        """Shows the bar."""
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leaves the bar as it is."""
        self.progress.stop()

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """A fit begins; says which likelihood was chosen."""
        self.epochs = epochs
        self.progress.start()
        stream = run.about.get("stream")
        files = "" if stream is None else "a file" if stream["shards"] == 1 else f"{stream['shards']} files"
        where = f", streamed from {files} on disk" if files else ""
        self.progress.console.print(
            f"{self.label}{run.recipe} on {run.about['data']}: {data} data of shape {run.schema.event_shape} "
            f"({run.schema.kind}){where}, likelihood {run.likelihood}, {epochs} epochs at most, "
            f"on {run.about['device']}"
        )
        if run.constant is not None:
            self.progress.console.print(f"{self.label}{run.constant}")
        self.task = self.progress.add_task(
            f"{self.label}epoch {done}/{epochs}", total=data * epochs, completed=data * done, numbers=""
        )

    def step(self, data: int) -> None:
        """A step took so many data."""
        if self.task is not None:
            self.progress.advance(self.task, data)

    def epoch(self, epoch: Epoch) -> None:
        """Shows what an epoch has brought."""
        if self.task is None:
            return
        numbers = f"elbo {epoch.train['elbo']:.2f}" if "elbo" in epoch.train else ""
        if epoch.valid is not None:
            *_, bound, error = epoch.valid.values()
            numbers += f", valid {bound:.2f}"
            numbers += f" ± {error:.2f}" if math.isfinite(error) else ""
        numbers += f"{' nats, ' if numbers else ''}{epoch.rate:,.0f} data/s"
        if epoch.skipped:
            numbers += f", {epoch.skipped} steps skipped"
        self.progress.update(
            self.task, description=f"{self.label}epoch {epoch.number}/{self.epochs}", numbers=numbers
        )
        if epoch.status not in ("running", "finished"):
            self.progress.console.print(
                f"{self.label}{epoch.status} after {epoch.number} epochs; the best weights are kept"
            )

    def end(self, error: BaseException | None) -> None:
        """Leaves the bar as it is."""
        self.progress.stop()


@contextmanager
def counting(what: str, total: int | None) -> Generator[Callable[[int], None]]:
    """A bar over data.

    Args:
        what: What is done to them.
        total: How many there are, if that is known.

    Yields:
        A function to call with the number of data done.
    """
    with _progress() as progress:
        task = progress.add_task(what, total=total)
        yield lambda data: progress.advance(task, data)


@contextmanager
def stages() -> Generator[Callable[[str, float], None]]:
    """A bar for each stage of a work, shown when the stage begins.

    Yields:
        A function to call with a stage's name and the share of it that was done since the last call.
    """
    tasks: dict[str, TaskID] = {}
    with _progress() as progress:

        def done(name: str, share: float) -> None:
            if name not in tasks:
                tasks[name] = progress.add_task(name, total=1.0)
            progress.advance(tasks[name], share)

        yield done
