"""Numbers for TensorBoard."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jensen.runs.loggers.logger import Logger, settings, values
from jensen.runs.run import Run


class TensorBoard(Logger):
    """Writes event files into ``RUN/tensorboard``, which ``tensorboard --logdir RUN`` shows.

    A resumed fit writes the epochs that the Run has on record once more and tells TensorBoard to forget what it saw
    before, so that nothing which a kill cut off is missing and nothing stands there twice.

    Example:
        >>> from jensen.runs import fit
        >>> from jensen.runs.loggers import LOGGERS
        >>> LOGGERS["tensorboard"].name
        'tensorboard'
    """

    name = "tensorboard"
    packages = ("tensorboard",)
    writer: Any = None

    def open(self, run: Run, place: Path) -> None:
        """Begins an event file."""
        from torch.utils.tensorboard import SummaryWriter

        self.writer = SummaryWriter(str(place), purge_step=0 if place.exists() else None)
        rows = [f"| {key} | {value} |" for key, value in settings(run).items()]
        self.writer.add_text("options", "\n".join(["| option | value |", "| --- | --- |", *rows]), 0)
        for record in run.history:
            self.log(int(record["epoch"]), values(record))
        self.writer.flush()

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Writes one point of each curve."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, epoch)

    def close(self, status: str) -> None:
        """Closes the file."""
        self.writer.add_text("status", status, 0)
        self.writer.close()
