"""A Run that grows in its folder."""

import json
import time
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from jensen.errors import RunError
from jensen.runs.heartbeat import read_status
from jensen.runs.run import Run, check_layout, read_metrics, write_metrics
from jensen.runs.storage import clear_temporaries, read_json, read_state, write_json, write_state
from jensen.training import Training

SAVE_EVERY = 10.0
"""Seconds between two saves of what resuming needs, after epochs."""

WRITTEN = (
    "config.json",
    "examples.safetensors",
    "metrics.jsonl",
    "resume.json",
    "resume.safetensors",
    "status.json",
    "weights.safetensors",
)
"""What the process that fits writes into the folder, and no other."""

SAVE_WITHIN = 60.0
"""The same within an epoch, where it may be long."""


class Keeper:
    """Keeps a growing Run in its folder, so that a kill at any moment leaves one that loads and resumes.

    Of several processes that share the fit the first one writes, the others only read what they resume from.

    Args:
        run: The Run.
        training: Its fit.
        folder: Where it is kept.
        resume: Whether to go on with what is there.

    Raises:
        RunError: If another process fits this Run, if there is a Run and it isn't to be resumed, or if it is
            that of another fit.
    """

    def __init__(self, run: Run, training: Training, folder: Path, *, resume: bool) -> None:
        self.run = run
        self.training = training
        self.folder = folder
        self.writes = training.engine.rank == 0
        self.lock = locked(folder) if self.writes else None
        run.folder = folder
        try:
            self._begin(resume=resume)
        except BaseException:
            self.release()
            raise
        self.saved = time.monotonic()

    def _begin(self, *, resume: bool) -> None:
        """Goes on with what is in the folder, or writes what a Run begins with."""
        run, training, folder = self.run, self.training, self.folder
        if self.writes:
            clear_temporaries(folder, WRITTEN)
        existing = (folder / "config.json").exists()
        # All have to have looked before one of them writes.
        training.engine.wait()
        if resume and existing:
            self._check_same()
            if (folder / "resume.safetensors").exists():
                self._go_on(read_state(folder / "resume"))
                run.history = [
                    r
                    for r in read_metrics(folder)
                    if r["epoch"] <= training.epoch and r["status"] != "interrupted"
                ]
                if run.history and run.history[-1]["status"] in ("finished", "stopped early"):
                    training.epoch = training.end
        elif existing:
            raise RunError(
                f"{folder} holds a Run already; choose another folder, remove it, or go on with it by --resume "
                "(resume=True)"
            )
        if self.writes and not existing:
            Run.write_weights(folder, run.model.state_dict())
            run.write_examples(folder)
            write_json(folder / "config.json", run.description())

    def _go_on(self, state: Any) -> None:
        """Puts the fit where it was.

        Raises:
            RunError: If the state isn't that of such a fit.
        """
        try:
            self.training.load_state_dict(state)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise RunError(
                f"{self.folder / 'resume.safetensors'} doesn't hold the state of this fit ({type(error).__name__}: "
                f"{first}); use the version of jensen that wrote it, or fit again"
            ) from error

    def _check_same(self) -> None:
        kept, mine = read_json(self.folder / "config.json"), json.loads(json.dumps(self.run.description()))
        check_layout(self.folder, kept)
        for part in ("recipe", "options", "schema"):
            if kept.get(part) != mine[part]:
                before, now = kept.get(part), mine[part]
                if isinstance(before, dict) and isinstance(now, dict):
                    key = next(k for k in now if before.get(k) != now[k])
                    part, before, now = f"{part.removesuffix('s')} {key}", before.get(key), now[key]
                raise RunError(f"can't resume {self.folder}: its {part} is {before!r}, asked for is {now!r}")
        for key in ("stream", "n", "n_valid", "seed", "processes", "checksum"):
            before, now = kept["about"].get(key), mine["about"][key]
            if before != now:
                what = "checksum of the data" if key == "checksum" else key
                raise RunError(f"can't resume {self.folder}: its {what} is {before!r}, now it is {now!r}")

    def keep(self, *, last: bool) -> None:
        """Writes what an epoch has changed; what resuming needs only now and then, and at the end."""
        if not self.writes:
            return
        write_metrics(self.folder, self.run.history)
        if (last or time.monotonic() - self.saved > SAVE_EVERY) and self._whole:
            self._save()

    def step(self) -> None:
        """Writes what resuming needs after a step, if that was long ago."""
        if not self.writes or time.monotonic() - self.saved <= SAVE_WITHIN:
            return
        if self._whole:
            self._save()

    @property
    def _whole(self) -> bool:
        """Whether this process knows all of the state: what others have recorded only if nothing waits to be added."""
        return self.training.engine.world_size == 1 or self.training.records.settled

    def _save(self) -> None:
        write_state(self.folder / "resume", self.training.state_dict())
        weights = self.training.kept()
        Run.write_weights(self.folder, {k.removeprefix("model."): v for k, v in weights.items()})
        self.saved = time.monotonic()

    def finish(self) -> None:
        """Writes the weights that were kept in the end."""
        if self.writes:
            Run.write_weights(self.folder, self.run.model.state_dict())

    def release(self) -> None:
        """Lets others fit this Run."""
        if self.lock is not None:
            self.lock.release()


def locked(folder: Path) -> FileLock:
    """The lock of a Run, held until it is released or the process ends, however it ends.

    Raises:
        RunError: If another process holds it.
    """
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        status = read_status(folder)
        process = {} if status is None else status["process"]
        who = f"process {process['pid']} on {process['host']}" if "pid" in process else "another process"
        raise RunError(
            f"{who} is fitting {folder} right now; wait for it ('jensen watch {folder}' shows it), stop it, or "
            "choose another folder"
        ) from None
    except OSError as error:
        raise RunError(f"can't write into {folder}: {error.strerror or error}") from None
    return lock
