"""Fits shared by two processes, and Runs that two processes want at once."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from conftest import made
from jensen.errors import ConfigError, RunError
from jensen.runs import Run, Silent, fit

SOURCE = Path(__file__).parents[2] / "src"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
OPTIONS = {"epochs": 4, "latent_dim": 2, "hidden": 6, "batch_size": 16}

SHARED = """
import os, signal, sys, time
import torch
torch.set_num_threads(1)
from conftest import made
from jensen.runs import Silent, fit, keeping
from jensen.training import loop

keeping.SAVE_EVERY = 0.0
folder, dies = sys.argv[1], int(sys.argv[2])

class Training(loop.Training):
    def _set_rate(self, rate):
        if self.step == dies and self.engine.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._set_rate(rate)

from jensen.runs import fitting
fitting.Training = Training
fit(made("binary", n=51, shape=(3,)), options={"epochs": 4, "latent_dim": 2, "hidden": 6, "batch_size": 16},
    valid=0.2, folder=folder, resume=True, device="cpu")
"""


def two_processes(folder: Path, dies: int = -1) -> subprocess.CompletedProcess[str]:
    tests = Path(__file__).parents[1]
    script = folder.parent / "shared.py"
    script.write_text(SHARED)
    return subprocess.run(
        [*TORCHRUN, str(script), str(folder), str(dies)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tests}{os.pathsep}{SOURCE}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def outcome(folder: Path) -> list[dict[str, Any]]:
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "rate")} for record in history]


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_go_on_after_a_death(tmp_path: Path) -> None:
    done = two_processes(tmp_path / "two")
    assert done.returncode == 0, done.stderr
    alone = fit(
        made("binary", n=51, shape=(3,)),
        options={**OPTIONS, "accumulate": 2},
        valid=0.2,
        folder=tmp_path / "one",
    )
    fit(made("binary", n=51, shape=(3,)), options=OPTIONS, valid=0.2, folder=tmp_path / "whole")
    two = outcome(tmp_path / "two")
    for name in ("one", "whole"):
        one = outcome(tmp_path / name)
        assert [r["step"] for r in two] == [r["step"] for r in one]
        for mine, theirs in zip(two, one, strict=True):
            assert mine["train"] == pytest.approx(theirs["train"], rel=1e-5)
            assert mine["valid"] == pytest.approx(theirs["valid"], rel=1e-5)
    assert Run.load(tmp_path / "two").about["processes"] == 2
    assert alone.about["processes"] == 1

    start = time.monotonic()
    dead = two_processes(tmp_path / "dead", dies=5)
    assert dead.returncode != 0
    assert time.monotonic() - start < 120
    assert len(Run.load(tmp_path / "dead").history) < 4
    resumed = two_processes(tmp_path / "dead")
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(tmp_path / "dead") == two
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("two", "dead")]
    assert weights[0] == weights[1]

    with pytest.raises(RunError, match="its processes is 2, now it is 1"):
        fit(
            made("binary", n=51, shape=(3,)), options=OPTIONS, valid=0.2, folder=tmp_path / "two", resume=True
        )


def test_a_run_that_is_being_fitted_is_locked(tmp_path: Path) -> None:
    dataset = made("binary", n=50, shape=(3,))
    refused: list[str] = []

    class Second(Silent):
        def step(self, data: int) -> None:
            if not refused:
                with pytest.raises(RunError) as error:
                    fit(dataset, options=OPTIONS, folder=tmp_path, resume=True)
                refused.append(str(error.value))

    fit(dataset, options=OPTIONS, folder=tmp_path, watcher=Second())
    assert f"process {os.getpid()} on" in refused[0]
    assert "is fitting" in refused[0]
    # It is free again.
    assert fit(dataset, options=OPTIONS, folder=tmp_path, resume=True).history[-1]["status"] == "finished"


def test_the_lock_of_a_killed_process_is_gone(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\nfrom filelock import FileLock\n"
        "lock = FileLock(Path(sys.argv[1]) / '.lock')\nlock.acquire()\nos.kill(os.getpid(), signal.SIGKILL)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    run = fit(made("binary", n=50, shape=(3,)), options=OPTIONS, folder=tmp_path)
    assert run.history[-1]["status"] == "finished"


def test_batches_that_processes_cant_share_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from jensen.runs import fitting
    from jensen.training import Alone, resolve

    def three(device: str) -> Alone:
        engine = Alone(resolve(device))
        engine.world_size = 3
        return engine

    monkeypatch.setattr(fitting, "start_engine", three)
    with pytest.raises(
        ConfigError, match="3 processes can't share batches of 16; make batch_size a multiple of 3"
    ):
        fit(made("binary", n=50, shape=(3,)), options=OPTIONS)


def test_a_full_disk_loses_nothing_that_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = made("binary", n=50, shape=(3,))
    monkeypatch.setattr("jensen.runs.keeping.SAVE_EVERY", 0.0)
    full = False
    flush = os.fsync

    def fsync(file: int) -> None:
        if full:
            raise OSError(28, "No space left on device")
        flush(file)

    monkeypatch.setattr(os, "fsync", fsync)

    class Filler(Silent):
        def epoch(self, epoch: Any) -> None:
            nonlocal full
            full = epoch.number == 3

    with pytest.raises(RunError, match=r"No space left on device; what was saved before is there still"):
        fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path, watcher=Filler())
    full = False
    assert len(Run.load(tmp_path).history) == 2
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".metrics")]
    resumed = fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path, resume=True)
    whole = fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path / "whole")
    assert outcome(tmp_path) == outcome(tmp_path / "whole")
    for name, value in whole.model.state_dict().items():
        assert value.equal(resumed.model.state_dict()[name]), name
