"""Who is told how a fit goes: progress bars, loggers, the heartbeat."""

from typing import Protocol, runtime_checkable

from jensen.runs.run import Run
from jensen.training import Epoch


@runtime_checkable
class Watcher(Protocol):
    """Who is told how a fit goes, such as a progress bar or a logger."""

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """A fit begins or goes on: so many data an epoch, so many epochs, so many of them done."""
        ...

    def step(self, data: int) -> None:
        """A step took so many data."""
        ...

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""
        ...

    def end(self, error: BaseException | None) -> None:
        """The fit is over and all is written; the error is what broke it off, if something did."""
        ...


class Silent:
    """A watcher that does nothing."""

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """Does nothing."""

    def step(self, data: int) -> None:
        """Does nothing."""

    def epoch(self, epoch: Epoch) -> None:
        """Does nothing."""

    def end(self, error: BaseException | None) -> None:
        """Does nothing."""


class Several:
    """Several watchers as one; each is told everything, in the order given.

    Args:
        watchers: Who is told.

    Example:
        >>> isinstance(Several(Silent(), Silent()), Watcher)
        True
    """

    def __init__(self, *watchers: Watcher) -> None:
        self.watchers = watchers

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """Tells all."""
        for watcher in self.watchers:
            watcher.start(run, data, epochs, done)

    def step(self, data: int) -> None:
        """Tells all."""
        for watcher in self.watchers:
            watcher.step(data)

    def epoch(self, epoch: Epoch) -> None:
        """Tells all."""
        for watcher in self.watchers:
            watcher.epoch(epoch)

    def end(self, error: BaseException | None) -> None:
        """Tells all."""
        for watcher in self.watchers:
            watcher.end(error)
