"""The sign of life of a fit: a small file in the Run that says how far it is, renewed about once a second."""

import json
import time
import warnings
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from jensen.runs.processes import this_process
from jensen.runs.run import Run
from jensen.runs.storage import strict_json, temporary_of
from jensen.training import Epoch

EVERY = 1.0
"""Seconds between two signs of life, at least."""

FILE = "status.json"

_STATES = ("running", "interrupted", "failed", "finished", "stopped early")
_NUMBERS = ("heartbeat", "epochs", "epoch", "step", "data", "data_done")
_PERHAPS = ("rate", "step_seconds", "pause_seconds", "seconds_left")
"""Numbers that may be null."""


class Heartbeat:
    """A watcher that keeps ``status.json`` in the Run's folder up to date.

    The file says which process fits, how far it is, how long a step usually takes, when the last one was, and in the
    end how it ended; ``jensen.runs.snapshot`` reads it. It is renamed into place as a whole but not flushed to the
    disk: after a power cut it may be the one of some seconds before, which does no harm. If it can't be written the
    fit goes on.

    Args:
        every: Seconds between two writes, at least.
    """

    def __init__(self, every: float = EVERY) -> None:
        self.every = every
        self.run: Run | None = None
        self.content: dict[str, Any] = {}
        self.session = 0
        self.session_start = self.written = self.last = 0.0
        self.stepping = 0.0
        self.steps = 0
        self.warned = False

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        """A fit begins or goes on."""
        self.run = run
        self.session_start = self.last = time.monotonic()
        self.content = {
            "status": "running",
            "message": None,
            "process": this_process(),
            "began": datetime.now(UTC).isoformat(timespec="seconds"),
            "heartbeat": time.time(),
            "epochs": epochs,
            "epoch": done,
            "step": run.history[-1]["step"] if run.history else 0,
            "data": data,
            "data_done": 0,
            "rate": None,
            "step_seconds": None,
            "pause_seconds": None,
            "seconds_left": None,
        }
        self._write(self.last)

    def step(self, data: int) -> None:
        """A step took so many data."""
        now = time.monotonic()
        content = self.content
        content["step"] += 1
        self.session += data
        if content["data_done"] == 0:
            # The time since the last step of the epoch before went into validation and saving.
            if self.steps:
                content["pause_seconds"] = max(content["pause_seconds"] or 0.0, now - self.last)
        else:
            self.stepping += now - self.last
            self.steps += 1
        content["data_done"] += data
        self.last = now
        if now - self.written >= self.every or content["data_done"] >= content["data"]:
            self._measure(now)
            self._write(now)

    def epoch(self, epoch: Epoch) -> None:
        """An epoch is over."""
        self.content |= {"epoch": epoch.number, "step": epoch.step}
        if epoch.status != "interrupted":
            self.content["data_done"] = 0
        now = time.monotonic()
        if now - self.written >= self.every:
            self._measure(now)
            self._write(now)

    def end(self, error: BaseException | None) -> None:
        """Says how the fit ended."""
        history = [] if self.run is None else self.run.history
        status = history[-1]["status"] if history else "finished"
        message = None
        if isinstance(error, KeyboardInterrupt):
            status = "interrupted"
        elif error is not None:
            status, message = "failed", f"{type(error).__name__}: {error}"
        self.content |= {"status": status, "message": message, "seconds_left": None}
        self._write(time.monotonic())

    def _measure(self, now: float) -> None:
        """The rate since the session began, validation and saving included, and what it says of the time left."""
        content = self.content
        elapsed = now - self.session_start
        if self.steps:
            content["step_seconds"] = self.stepping / self.steps
        if self.session and elapsed > 0:
            content["rate"] = self.session / elapsed
            left = content["data"] * (content["epochs"] - content["epoch"]) - content["data_done"]
            content["seconds_left"] = max(left, 0) / content["rate"]

    def _write(self, now: float) -> None:
        folder = None if self.run is None else self.run.folder
        if folder is None:
            return
        self.written = now
        self.content["heartbeat"] = time.time()
        temporary = temporary_of(folder / FILE)
        try:
            temporary.write_text(strict_json(self.content, 2) + "\n", encoding="utf8")
            temporary.replace(folder / FILE)
        except OSError as error:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
            if not self.warned:
                self.warned = True
                warnings.warn(
                    f"can't write {folder / FILE} ({error.strerror or error}); the fit goes on, but "
                    "'jensen watch' can't see it",
                    RuntimeWarning,
                    stacklevel=2,
                )


def read_status(folder: Path) -> dict[str, Any] | None:
    """What ``status.json`` says; None if it isn't there or was damaged."""
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError):
        return None
    return cast("dict[str, Any]", content) if _is_status(content) else None


def _is_status(content: Any) -> bool:
    """Whether something has the form of a status.json."""
    if not isinstance(content, dict):
        return False
    found = cast("dict[str, Any]", content)
    return (
        found.get("status") in _STATES
        and isinstance(found.get("process"), dict)
        and isinstance(found.get("message"), str | None)
        and all(isinstance(found.get(key), int | float) for key in _NUMBERS)
        and all(isinstance(found.get(key), int | float | None) for key in _PERHAPS)
    )
