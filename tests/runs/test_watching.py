"""A fit that is watched from outside: what it says of itself, and how that is read."""

import json
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import Any

import pytest

from conftest import made
from jensen.errors import FitError, RunError
from jensen.runs import Several, Silent, Snapshot, Watcher, find, fit, snapshot, snapshots
from jensen.runs.heartbeat import Heartbeat, read_status
from jensen.runs.processes import life, this_process

OPTIONS = {"epochs": 3, "latent_dim": 2, "hidden": 6, "batch_size": 16}

CHILD = """
import sys, time
from jensen.data import from_array
from jensen.runs import Silent, fit
import numpy as np

class Slow(Silent):
    def step(self, data):
        time.sleep(0.02)

x = np.random.default_rng(0).normal(size=(64, 3))
options = {"epochs": 4000, "latent_dim": 2, "hidden": 6, "batch_size": 16}
fit(from_array(x), options=options, valid=0.25, folder=sys.argv[1], watcher=Slow())
"""


class Notes(Silent):
    """Writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def start(self, run: Any, data: int, epochs: int, done: int) -> None:
        self.told.append("start")

    def epoch(self, epoch: Any) -> None:
        self.told.append(epoch.number)

    def end(self, error: BaseException | None) -> None:
        self.told.append(error)


def until(condition: Any, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_a_fit_that_is_stopped_let_go_on_and_killed(tmp_path: Path) -> None:
    out = tmp_path / "run"
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out)],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        until(lambda: (out / "metrics.jsonl").exists() or child.poll() is not None)
        assert child.poll() is None, child.stderr.read() if child.stderr else ""
        assert snapshot(out).state == "running"
        # Late in time but alive: no step for longer than a fit may be silent.
        late = snapshot(out, now=time.time() + 100)
        assert late.state == "stalled"
        assert f"process {child.pid} is there, but made no step for" in (late.message or "")
        child.send_signal(signal.SIGSTOP)
        until(lambda: snapshot(out).state == "stalled")
        assert f"process {child.pid} is suspended" in (snapshot(out).message or "")
        child.send_signal(signal.SIGCONT)
        before = snapshot(out).step
        until(lambda: snapshot(out).state == "running" and snapshot(out).step > before)
        child.kill()
        # Not yet waited for it is a zombie, which does as little as one that is gone.
        until(lambda: snapshot(out).state == "killed")
        child.wait()
        seen = snapshot(out)
        assert seen.state == "killed"
        assert f"process {child.pid} is gone" in (seen.message or "")
        assert seen.epochs == 4000
        assert 0 < seen.epoch < 4000
        assert seen.seconds_left is None
    finally:
        child.kill()
        child.communicate()


def test_what_a_finished_fit_looks_like(tmp_path: Path) -> None:
    run = fit(made("real", n=50, shape=(3,)), options=OPTIONS, valid=0.2, folder=tmp_path)
    seen = snapshot(tmp_path)
    last = run.history[-1]
    assert (seen.state, seen.epoch, seen.epochs, seen.part) == ("finished", 3, 3, 1.0)
    assert seen.step == last["step"] == 9
    assert seen.elbo == last["train"]["elbo"]
    assert (seen.valid_elbo, seen.valid_standard_error) == (
        last["valid"]["elbo"],
        last["valid"]["standard_error"],
    )
    best = [record for record in run.history if record["best"]][-1]
    assert (seen.best_epoch, seen.best_valid_elbo) == (best["epoch"], best["valid"]["elbo"])
    assert seen.curve == tuple((r["epoch"], r["train"]["elbo"], r["valid"]["elbo"]) for r in run.history)
    assert not seen.active
    # An older Run has no status.json: the history says how it ended.
    (tmp_path / "status.json").unlink()
    assert snapshot(tmp_path).state == "finished"
    (tmp_path / "metrics.jsonl").unlink()
    assert snapshot(tmp_path).state == "unknown"


def test_interrupted_and_failed(tmp_path: Path) -> None:
    class Presser(Silent):
        def epoch(self, epoch: Any) -> None:
            signal.raise_signal(signal.SIGINT)

    class Breaker(Silent):
        def epoch(self, epoch: Any) -> None:
            raise FitError("it can't go on")

    dataset = made("real", n=50, shape=(3,))
    with pytest.raises(KeyboardInterrupt):
        fit(dataset, options=OPTIONS, folder=tmp_path / "a", watcher=Presser())
    assert snapshot(tmp_path / "a").state == "interrupted"
    with pytest.raises(FitError):
        fit(dataset, options=OPTIONS, folder=tmp_path / "b", watcher=Breaker())
    seen = snapshot(tmp_path / "b")
    assert (seen.state, seen.message) == ("failed", "FitError: it can't go on")
    # Going on clears it.
    fit(dataset, options=OPTIONS, folder=tmp_path / "b", resume=True)
    assert (snapshot(tmp_path / "b").state, snapshot(tmp_path / "b").message) == ("finished", None)
    assert [s.folder.name for s in snapshots(tmp_path)] == ["a", "b"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A Run whose status.json says that this process fits it, two epochs done, half of the third."""
    fit(made("real", n=50, shape=(3,)), options={**OPTIONS, "epochs": 2}, folder=tmp_path)
    status = read_status(tmp_path)
    assert status is not None
    status |= {"status": "running", "epochs": 4, "data": 50, "data_done": 25, "step_seconds": 0.1}
    status |= {"heartbeat": 1000.0, "step": 12, "pause_seconds": 0.5, "seconds_left": 7.0, "rate": 3.5}
    (tmp_path / "status.json").write_text(json.dumps(status), encoding="utf8")
    return tmp_path


def change(folder: Path, **values: Any) -> None:
    status = read_status(folder)
    assert status is not None
    process = status["process"] | values.pop("process", {})
    content = json.dumps(status | values | {"process": process})
    (folder / "status.json").write_text(content, encoding="utf8")


def state(folder: Path, silence: float) -> str:
    return snapshot(folder, now=1000.0 + silence).state


def test_how_long_a_fit_may_be_silent(folder: Path) -> None:
    seen = snapshot(folder, now=1010.0)
    assert (seen.state, seen.seconds_left, seen.rate, seen.silence) == ("running", 7.0, 3.5, 10.0)
    assert seen.part == (2 + 0.5) / 4
    assert seen.active
    assert [state(folder, s) for s in (59, 61)] == ["running", "stalled"]
    # Slow steps: twenty of them.
    change(folder, step_seconds=30.0)
    assert [state(folder, s) for s in (599, 601)] == ["running", "stalled"]
    # Between two epochs: five times the longest such pause.
    change(folder, step_seconds=0.1, data_done=50, pause_seconds=40.0)
    assert [state(folder, s) for s in (199, 201)] == ["running", "stalled"]
    # The first validation may take as long as the epoch before it did: here 800 - 8 steps.
    change(folder, pause_seconds=None, step=800)
    assert [state(folder, s) for s in (79, 81)] == ["running", "stalled"]


@pytest.mark.parametrize("other", [{"host": "elsewhere"}, {"namespace": "pid:[1]"}])
def test_a_process_that_can_not_be_seen_from_here(folder: Path, other: dict[str, str]) -> None:
    change(folder, process=other)
    assert [state(folder, s) for s in (59, 61)] == ["running", "silent"]
    message = snapshot(folder, now=1061.0).message
    assert "no sign of life for 61 s" in (message or "")


@pytest.mark.parametrize("other", [{"started": 1}, {"boot": "another"}, {"pid": 2**22 + 1}])
def test_a_pid_that_was_given_to_another_process(folder: Path, other: dict[str, Any]) -> None:
    change(folder, process=other)
    assert state(folder, 1) == "killed"


def test_this_process_is_alive() -> None:
    assert life(this_process()) == "alive"


def test_damaged_or_missing_files(folder: Path) -> None:
    (folder / "status.json").write_text('{"status": "run', encoding="utf8")
    assert snapshot(folder).state == "finished"
    (folder / "config.json").write_text("[", encoding="utf8")
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        snapshot(folder)


@pytest.mark.parametrize(
    "wrong",
    [{"status": "x"}, {"status": []}, {"heartbeat": None}, {"data": "x"}, {"message": 1}, {"rate": "x"}],
)
def test_a_status_of_another_form_is_none(folder: Path, wrong: dict[str, object]) -> None:
    path = folder / "status.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | wrong), encoding="utf8")
    assert read_status(folder) is None
    assert snapshot(folder).state == "finished"


def test_an_epoch_without_a_step_has_no_numbers(folder: Path) -> None:
    lines = (folder / "metrics.jsonl").read_text(encoding="utf8").splitlines()
    empty = json.loads(lines[-1]) | {"status": "interrupted", "train": {}, "valid": None, "rate": 0.0}
    (folder / "metrics.jsonl").write_text("\n".join([*lines, json.dumps(empty)]) + "\n", encoding="utf8")
    last = json.loads(lines[-1])
    found = snapshot(folder)
    assert (found.elbo, found.rate) == (last["train"]["elbo"], last["rate"])


@pytest.mark.parametrize("wrong", [{"about": None}, {"about": [1]}, {"options": "x"}])
def test_a_config_of_another_form(folder: Path, wrong: dict[str, object]) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf8")) | wrong), encoding="utf8")
    with pytest.raises(RunError, match=r"config\.json is not that of a Run"):
        snapshot(folder)


def test_folders_without_runs(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no Run in .*neither it nor a folder below it"):
        find(tmp_path)
    with pytest.raises(RunError, match="no such folder"):
        find(tmp_path / "nowhere")


def test_signs_of_life_come_seldom_and_measure_the_fit(
    tmp_path: Path, digits_run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 100.0
    monkeypatch.setattr("jensen.runs.heartbeat.time.monotonic", lambda: now)
    digits_run.folder = tmp_path
    heart = Heartbeat()
    heart.start(digits_run, data=40, epochs=2, done=0)
    written: list[int] = []
    path = tmp_path / "status.json"
    for _ in range(3):
        now += 0.4
        path.unlink(missing_ok=True)
        heart.step(10)
        written.append(path.exists())
    assert written == [False, False, True]
    status = read_status(tmp_path)
    assert status is not None
    assert status["data_done"] == 30
    assert status["step_seconds"] == pytest.approx(0.4)
    # 30 data in 1.2 s, 50 left.
    assert status["rate"] == pytest.approx(25.0)
    assert status["seconds_left"] == pytest.approx(2.0)
    heart.step(10)
    now += 3.0
    heart.step(10)
    assert heart.content["pause_seconds"] is None
    heart.content["data_done"] = 0
    now += 3.0
    heart.step(10)
    assert heart.content["pause_seconds"] == pytest.approx(3.0)


def test_a_heartbeat_that_can_not_be_written_warns_once(tmp_path: Path, digits_run: Any) -> None:
    digits_run.folder = tmp_path / "vanished"
    heart = Heartbeat(every=0.0)
    with pytest.warns(RuntimeWarning, match="the fit goes on, but 'jensen watch' can't see it"):
        heart.start(digits_run, 40, 2, 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        heart.step(10)
        heart.end(None)


def test_several_watchers_are_told_the_same_and_how_it_ended() -> None:
    one, other = Notes(), Notes()
    both = Several(one, other)
    assert isinstance(both, Watcher)
    fit(made("real", n=50, shape=(3,)), options=OPTIONS, watcher=both)
    assert one.told == other.told == ["start", 1, 2, 3, None]
    error = FitError("no")

    class Breaker(Silent):
        def step(self, data: int) -> None:
            raise error

    broken = Notes()
    with pytest.raises(FitError):
        fit(made("real", n=50, shape=(3,)), options=OPTIONS, watcher=Several(broken, Breaker()))
    assert broken.told == ["start", error]


def test_a_snapshot_is_a_plain_record(folder: Path) -> None:
    assert isinstance(snapshot(folder), Snapshot)
    assert snapshot(folder, now=1000.0) == snapshot(str(folder), now=1000.0)
