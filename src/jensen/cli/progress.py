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

    Use it as a context manager. Without a terminal there is no bar, only a line at the start and one at an early end.
    """

    def __init__(self) -> None:
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
        self.progress.console.print(
            f"{run.recipe} on {run.about['data']}: {data} data of shape {run.schema.event_shape} "
            f"({run.schema.kind}), likelihood {getattr(run.config, 'likelihood', 'exact')}, {epochs} epochs at most, "
            f"on {run.about['device']}"
        )
        self.task = self.progress.add_task(
            f"epoch {done}/{epochs}", total=data * epochs, completed=data * done, numbers=""
        )

    def step(self, data: int) -> None:
        """A step took so many data."""
        if self.task is not None:
            self.progress.advance(self.task, data)

    def epoch(self, epoch: Epoch) -> None:
        """Shows what an epoch has brought."""
        if self.task is None:
            return
        numbers = f"elbo {epoch.train.get('elbo', math.nan):.2f}"
        if epoch.valid is not None:
            numbers += f", valid {epoch.valid[0]:.2f} ± {epoch.valid[1]:.2f}"
        numbers += f" nats, {epoch.rate:,.0f} data/s"
        if epoch.skipped:
            numbers += f", {epoch.skipped} steps skipped"
        self.progress.update(self.task, description=f"epoch {epoch.number}/{self.epochs}", numbers=numbers)
        if epoch.status not in ("running", "finished"):
            self.progress.console.print(
                f"{epoch.status} after {epoch.number} epochs; the best weights are kept"
            )


@contextmanager
def counting(what: str, total: int) -> Generator[Callable[[int], None]]:
    """A bar over data.

    Args:
        what: What is done to them.
        total: How many there are.

    Yields:
        A function to call with the number of data done.
    """
    with _progress() as progress:
        task = progress.add_task(what, total=total)
        yield lambda data: progress.advance(task, data)
