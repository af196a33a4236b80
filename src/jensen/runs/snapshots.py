"""How Runs are doing, read from their files alone: running, stalled, killed, interrupted, failed or done."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from jensen.errors import RunError
from jensen.runs.heartbeat import read_status
from jensen.runs.processes import life
from jensen.runs.run import read_metrics
from jensen.runs.storage import read_json

PATIENCE = 60.0
"""Seconds without a step from which a fit may count as stalled."""

_USUAL_STEPS = 20
_USUAL_PAUSES = 5

State = Literal[
    "running", "stalled", "silent", "killed", "interrupted", "failed", "finished", "stopped early", "unknown"
]
"""How a Run is doing.

running: its process made a step lately. stalled: its process is there but makes no steps. silent: no sign of life
for long from a machine that can't be seen from here, so killed or stalled. killed: its process is gone without having
said how it ended. interrupted: by Ctrl-C. failed: by an error. finished, stopped early: done. unknown: it is not done,
and nothing says whether it is being fitted.
"""


@dataclass(frozen=True)
class Snapshot:
    """How a Run is doing at one moment.

    Attributes:
        folder: The Run.
        recipe: Its model.
        data: What it is fitted to.
        state: How it is doing.
        message: Why it is thought so, or the error, where there is something to say.
        epoch: Epochs done.
        epochs: Epochs there are to be, at most.
        step: Steps done.
        part: Part of all data of all epochs that is done, 0 to 1.
        elbo: Mean training bound of the last epoch, nats per datum.
        valid_elbo: The newest validation bound, nats per datum.
        valid_standard_error: Its standard error over the data.
        best_epoch: The epoch of the best weights.
        best_valid_elbo: Their validation bound.
        rate: Data a second, validation and saving included where it is running, else those of the last epoch.
        seconds: Time that the steps of all finished epochs took.
        seconds_left: Time left, if it runs for all its epochs; None unless it is running.
        silence: Seconds since the last sign of life; None where there never was one.
        skipped: Steps that were skipped for a gradient that was not finite, up to the last epoch.
        curve: One (epoch, training bound, validation bound or None) an epoch.
    """

    folder: Path
    recipe: str
    data: str
    state: State
    message: str | None
    epoch: int
    epochs: int
    step: int
    part: float
    elbo: float | None
    valid_elbo: float | None
    valid_standard_error: float | None
    best_epoch: int | None
    best_valid_elbo: float | None
    rate: float | None
    seconds: float
    seconds_left: float | None
    silence: float | None
    skipped: int
    curve: tuple[tuple[int, float | None, float | None], ...]

    @property
    def active(self) -> bool:
        """Whether a process may still be at work on it."""
        return self.state in ("running", "stalled", "silent")


def find(folder: str | Path) -> list[Path]:
    """The Runs in a folder: itself if it is one, else those up to two levels below it, by name.

    Raises:
        RunError: If there is no such folder, or no Run in it.
    """
    path = Path(folder)
    if not path.is_dir():
        raise RunError(
            f"there is no Run at {path}: {'it is a file' if path.exists() else 'no such folder'}; "
            "give the folder of a Run, or one that holds some"
        )
    if (path / "config.json").exists():
        return [path]
    found = sorted({p.parent for level in ("*", "*/*") for p in path.glob(f"{level}/config.json")})
    if not found:
        raise RunError(f"there is no Run in {path}: neither it nor a folder below it has a config.json")
    return found


def snapshot(folder: str | Path, *, now: float | None = None) -> Snapshot:
    """How a Run is doing, from its files; it isn't loaded, and no process is disturbed.

    Args:
        folder: A Run.
        now: The time, in seconds since 1970; None: that of the clock.

    Returns:
        The snapshot.

    Raises:
        RunError: If the folder isn't a Run.

    Example:
        >>> from tempfile import mkdtemp
        >>> import jensen as jn
        >>> from jensen.runs import fit, snapshot
        >>> run = fit(jn.data.load("digits:valid"), options={"epochs": 2, "hidden": 8}, folder=mkdtemp())
        >>> snapshot(run.folder).state
        'finished'
    """
    path = Path(folder)
    config = read_json(path / "config.json")
    about, options = config.get("about"), config.get("options")
    if not isinstance(about, dict) or not isinstance(options, dict):
        raise RunError(
            f"{path / 'config.json'} is not that of a Run: it has no about or no options; fit again"
        )
    history = read_metrics(path)
    status = read_status(path)
    state, message = _state(status, history, time.time() if now is None else now)
    last: Mapping[str, Any] = history[-1] if history else {}
    # An epoch that was interrupted before its first step has no numbers.
    told: Mapping[str, Any] = next((record for record in reversed(history) if record["train"]), last)
    checked = [record for record in history if record.get("valid") is not None]
    best = [record for record in checked if record.get("best")]
    said = {} if status is None else status
    epochs = int(said.get("epochs") or options.get("epochs") or 0)
    epoch = int(last.get("epoch", 0))
    within = said.get("data_done", 0) / said["data"] if said.get("data") else 0.0
    running = state == "running"
    return Snapshot(
        folder=path,
        recipe=str(config.get("recipe")),
        data=str(about.get("data", "unknown data")),
        state=state,
        message=message,
        epoch=epoch,
        epochs=epochs,
        step=max(int(last.get("step", 0)), int(said.get("step", 0))),
        part=min(1.0, (epoch + within) / epochs) if epochs else 0.0,
        elbo=told.get("train", {}).get("elbo"),
        valid_elbo=checked[-1]["valid"]["elbo"] if checked else None,
        valid_standard_error=checked[-1]["valid"]["standard_error"] if checked else None,
        best_epoch=best[-1]["epoch"] if best else None,
        best_valid_elbo=best[-1]["valid"]["elbo"] if best else None,
        rate=said["rate"] if running and said.get("rate") else told.get("rate"),
        seconds=float(sum(record["seconds"] for record in history)),
        seconds_left=said.get("seconds_left") if running else None,
        silence=None if status is None else max(0.0, (now or time.time()) - status["heartbeat"]),
        skipped=int(last.get("skipped", 0)),
        curve=tuple(
            (r["epoch"], r["train"].get("elbo"), None if r["valid"] is None else r["valid"]["elbo"])
            for r in history
        ),
    )


def snapshots(folder: str | Path) -> list[Snapshot]:
    """How the Runs of a folder are doing; see ``find`` and ``snapshot``."""
    return [snapshot(path) for path in find(folder)]


def _state(
    status: Mapping[str, Any] | None, history: list[dict[str, Any]], now: float
) -> tuple[State, str | None]:
    """The state, and why."""
    if status is None:
        ended = history[-1]["status"] if history else "running"
        if ended != "running":
            return ended, None
        return "unknown", "it is not done, and it has no status.json that says whether it is being fitted"
    if status["status"] != "running":
        return status["status"], status.get("message")
    pid, host = status["process"].get("pid"), status["process"].get("host")
    silence = now - status["heartbeat"]
    quiet = silence > _patience(status, history)
    found = life(status["process"])
    if found == "gone":
        return "killed", f"process {pid} is gone without having said how it ended; --resume goes on"
    if found == "suspended":
        return "stalled", f"process {pid} is suspended; 'kill -CONT {pid}' lets it go on"
    if not quiet:
        return "running", None
    if found == "alive":
        usual = status.get("step_seconds")
        takes = f"; one usually takes {usual:.2g} s" if usual else ""
        return "stalled", f"process {pid} is there, but made no step for {silence:.0f} s{takes}"
    return (
        "silent",
        f"no sign of life for {silence:.0f} s from process {pid} on {host}, which can't be seen from here",
    )


def _patience(status: Mapping[str, Any], history: list[dict[str, Any]]) -> float:
    """How long a fit may be silent: some usual steps; at the end of an epoch as long as what comes there may take."""
    patience = max(PATIENCE, _USUAL_STEPS * (status.get("step_seconds") or 0.0))
    if status["data_done"] in (0, status["data"]):
        pause = _USUAL_PAUSES * (status.get("pause_seconds") or 0.0)
        # The first validation has none before it to go by; it hardly takes longer than an epoch.
        steps = (status.get("step_seconds") or 0.0) * max(
            status["step"] - (history[-1]["step"] if history else 0), 0
        )
        patience = max(patience, pause, steps)
    return patience
