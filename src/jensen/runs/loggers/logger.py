"""What loggers share: where they write, what they are told, and that they never break a fit."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar

from jensen.errors import ConfigError
from jensen.runs.run import Run
from jensen.training import Epoch


class Logger(ABC):
    """A watcher that writes a fit's numbers for another program.

    The step of everything is the number of epochs done. If writing fails, there is one warning, and the fit goes on
    without the logger.

    Args:
        folder: Where to write; None: below the Run's folder, under the logger's name.

    Raises:
        ConfigError: If a package that it needs isn't installed.
    """

    name: ClassVar[str]
    """Its name, and that of its folder."""
    packages: ClassVar[tuple[str, ...]]
    """What it imports."""

    def __init__(self, folder: str | Path | None = None) -> None:
        missing = [package for package in self.packages if find_spec(package) is None]
        if missing:
            raise ConfigError(
                f"the logger '{self.name}' needs {' and '.join(missing)}, which "
                f"{'is' if len(missing) == 1 else 'are'} not installed; "
                "pip install 'jensen[logging]' brings what it needs"
            )
        self.folder = None if folder is None else Path(folder)
        self.broken = False
        self.run: Run | None = None

    @abstractmethod
    def open(self, run: Run, place: Path) -> None:
        """Begins, or goes on with what is at the place; ``run.history`` holds the epochs done so far."""

    @abstractmethod
    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Writes the numbers of an epoch."""

    @abstractmethod
    def close(self, status: str) -> None:
        """Ends: "finished", "stopped early", "interrupted" or "failed"."""

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """A fit begins or goes on.

        Raises:
            ConfigError: If neither the logger nor the Run has a folder.
        """
        place = self.folder
        if place is None:
            if run.folder is None:
                raise ConfigError(
                    f"the logger '{self.name}' has nowhere to write: the fit keeps no folder; give one to the "
                    f"logger, as in {type(self).__name__}('logs')"
                )
            place = run.folder / self.name
        self.run = run
        self._try(lambda: self.open(run, place))

    def step(self, data: int) -> None:  # noqa: B027 what is worth writing comes at the end of an epoch
        """Does nothing."""

    def epoch(self, epoch: Epoch) -> None:
        """Writes what an epoch has brought."""
        if epoch.status != "interrupted":
            self._try(lambda: self.log(epoch.number, values(asdict(epoch))))

    def end(self, error: BaseException | None) -> None:
        """Ends."""
        history = [] if self.run is None else self.run.history
        status = str(history[-1]["status"]) if history else "finished"
        if error is not None:
            status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
        self._try(lambda: self.close(status))

    def _try(self, action: Callable[[], None]) -> None:
        """Does what another program's code does, which may fail in any way."""
        if self.broken:
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                action()
        except Exception as error:
            self.broken = True
            warnings.warn(
                f"the logger '{self.name}' failed ({type(error).__name__}: {error}); the fit goes on without it",
                RuntimeWarning,
                stacklevel=3,
            )


def values(record: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an epoch by the names that loggers use.

    Args:
        record: An entry of ``Run.history``, or an Epoch as a dict.

    Returns:
        ``train/...`` and ``valid/...`` in nats per datum, ``learning_rate``, ``data_per_second``, ``seconds``,
        ``skipped_steps``, ``steps``.

    Example:
        >>> sorted(values({"train": {"elbo": -2.0}, "valid": None, "learning_rate": 0.1, "rate": 5.0,
        ...                "seconds": 1.0, "skipped": 0, "step": 3}))
        ['data_per_second', 'learning_rate', 'seconds', 'skipped_steps', 'steps', 'train/elbo']
    """
    found = {f"train/{key}": float(value) for key, value in record["train"].items()}
    for key, value in (record["valid"] or {}).items():
        # Of one datum there is no standard error: not a number in an Epoch, None in the history.
        if value is not None and isfinite(value):
            found[f"valid/{key}"] = float(value)
    names = {
        "learning_rate": "learning_rate",
        "rate": "data_per_second",
        "seconds": "seconds",
        "skipped": "skipped_steps",
        "step": "steps",
    }
    return found | {name: float(record[key]) for key, name in names.items()}


def settings(run: Run) -> dict[str, str]:
    """What was asked for: recipe, options, data and seed, as text."""
    chosen = {"recipe": run.recipe, "data": run.about.get("data"), "seed": run.about.get("seed")}
    return {key: str(value) for key, value in (chosen | run.config.model_dump()).items()}
