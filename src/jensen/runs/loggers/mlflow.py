"""Numbers for MLflow, in a store of its own within the Run."""

import json
import logging
import os
import time
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from jensen.runs.loggers.logger import Logger, settings, values
from jensen.runs.run import Run
from jensen.runs.storage import write_json

FLUSH_EVERY = 2.0
"""Seconds between two transactions; what a kill loses comes back from the Run's history when it is resumed."""

_AT_ONCE = 900
_LONGEST = 6000


class MLflow(Logger):
    """Writes one MLflow run into ``RUN/mlflow``, which a resumed fit goes on with.

    The store is a SQLite file, the form that MLflow itself uses by default; nothing leaves the machine, and MLflow's
    own telemetry is off unless ``MLFLOW_DISABLE_TELEMETRY`` says otherwise. To see it:
    ``mlflow ui --backend-store-uri sqlite:///RUN/mlflow/mlflow.db``.

    Example:
        >>> from jensen.runs import fit
        >>> from jensen.runs.loggers import LOGGERS
        >>> LOGGERS["mlflow"].name
        'mlflow'
    """

    name = "mlflow"
    packages = ("mlflow", "sqlalchemy", "alembic")
    client: Any = None
    identifier: str = ""

    def open(self, run: Run, place: Path) -> None:
        """Begins an MLflow run, or goes on with the one that is there."""
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        # The import sets the levels that are changed next: making the store is told at length.
        import_module("mlflow.tracking")
        talkative = logging.getLogger("mlflow"), logging.getLogger("alembic")
        levels = [one.level for one in talkative]
        for one in talkative:
            one.setLevel(logging.WARNING)
        try:
            self._open(run, place)
        finally:
            for one, level in zip(talkative, levels, strict=True):
                one.setLevel(level)
        for record in run.history:
            if record["epoch"] > self.logged:
                self.log(int(record["epoch"]), values(record))
        self._flush()

    def _open(self, run: Run, place: Path) -> None:
        entities: Any = import_module("mlflow.entities")
        tracking: Any = import_module("mlflow.tracking")
        place.mkdir(parents=True, exist_ok=True)
        self.pending: list[Any] = []
        self.flushed = time.monotonic()
        self.client = tracking.MlflowClient(tracking_uri=f"sqlite:///{(place / 'mlflow.db').resolve()}")
        note = place / "run.json"
        if note.exists():
            self.identifier = json.loads(note.read_text(encoding="utf8"))["run_id"]
            self.client.update_run(self.identifier, status="RUNNING")
            done = self.client.get_metric_history(self.identifier, "steps")
            self.logged = max((metric.step for metric in done), default=0)
            return
        name = run.folder.name if run.folder is not None else run.recipe
        store = (place / "artifacts").resolve().as_uri()
        experiment = self.client.create_experiment("jensen", artifact_location=store)
        self.identifier = self.client.create_run(experiment, run_name=name).info.run_id
        self.logged = 0
        params = [entities.Param(key, value[:_LONGEST]) for key, value in settings(run).items()]
        made = {**run.about.get("versions", {}), "device": run.about.get("device")}
        tags = [entities.RunTag(f"jensen.{key}", str(value)) for key, value in made.items()]
        self.client.log_batch(self.identifier, params=params, tags=tags)
        write_json(note, {"run_id": self.identifier})

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        """Notes the numbers of an epoch; a transaction for each would cost more than a small network's epoch."""
        metric: Any = import_module("mlflow.entities").Metric
        if epoch <= self.logged:
            # A resumed fit repeats what came after the last save; the numbers are the same.
            return
        stamp = int(time.time() * 1000)
        self.pending += [metric(name, value, stamp, epoch) for name, value in values.items()]
        self.logged = epoch
        if time.monotonic() - self.flushed > FLUSH_EVERY:
            self._flush()

    def _flush(self) -> None:
        while self.pending:
            now, self.pending = self.pending[:_AT_ONCE], self.pending[_AT_ONCE:]
            self.client.log_batch(self.identifier, metrics=now)
        self.flushed = time.monotonic()

    def close(self, status: str) -> None:
        """Writes what is left and says how the fit ended."""
        self._flush()
        ended = {"interrupted": "KILLED", "failed": "FAILED"}.get(status, "FINISHED")
        self.client.set_tag(self.identifier, "jensen.status", status)
        self.client.set_terminated(self.identifier, ended)
