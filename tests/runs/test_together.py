"""Fits shared by two processes, and Runs that two processes want at once."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import made
from jensen.errors import ConfigError, DataError, RunError
from jensen.runs import Run, Silent, fit
from jensen.runs.storage import read_state

SOURCE = Path(__file__).parents[2] / "src"
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
OPTIONS = {"epochs": 4, "latent_dim": 2, "hidden": 6, "batch_size": 16}

SHARED = """
import os, signal, sys, time
from pathlib import Path
import torch
torch.set_num_threads(1)
from conftest import made
from jensen.runs import Silent, fit, fitting, keeping
from jensen.training import loop

# Saved after every third step too, as where steps are long.
keeping.SAVE_EVERY = keeping.SAVE_WITHIN = 0.0
loop.AT_ONCE = 3
folder, dies, n, pause = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])
folder.with_suffix(".pid" + os.environ["RANK"]).write_text(str(os.getpid()))

class Training(loop.Training):
    def _set_rate(self, rate):
        time.sleep(pause)
        if self.step == dies and self.engine.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._set_rate(rate)

fitting.Training = Training
options = {"epochs": 4, "latent_dim": 2, "hidden": 6, "batch_size": 16}
fit(made("binary", n=n, shape=(3,)), options=options, valid=0.2, folder=folder, resume=True, device="cpu")
"""


def started(
    folder: Path, dies: int = -1, n: int = 51, pause: float = 0.0, count: int = 2
) -> subprocess.Popen[str]:
    """A fit by some processes in the folder, or what is left of it; the second one may die at a step."""
    tests = Path(__file__).parents[1]
    script = folder.parent / "shared.py"
    script.write_text(SHARED)
    return subprocess.Popen(
        [*TORCHRUN, f"--nproc-per-node={count}", str(script), str(folder), str(dies), str(n), str(pause)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{tests}{os.pathsep}{SOURCE}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def by_processes(
    folder: Path, dies: int = -1, n: int = 51, count: int = 2
) -> subprocess.CompletedProcess[str]:
    process = started(folder, dies, n, count=count)
    printed, complaints = process.communicate(timeout=120)
    return subprocess.CompletedProcess(process.args, process.returncode, printed, complaints)


def until(found: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 100
    while not found():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def outcome(folder: Path) -> list[dict[str, Any]]:
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in record.items() if k not in ("seconds", "rate")} for record in history]


@pytest.mark.slow
def test_two_processes_give_what_one_gives_and_go_on_after_a_death(tmp_path: Path) -> None:
    done = by_processes(tmp_path / "two")
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
    dead = by_processes(tmp_path / "dead", dies=5)
    assert dead.returncode != 0
    assert time.monotonic() - start < 120
    assert len(Run.load(tmp_path / "dead").history) < 4
    resumed = by_processes(tmp_path / "dead")
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(tmp_path / "dead") == two
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("two", "dead")]
    assert weights[0] == weights[1]

    with pytest.raises(RunError, match="its processes is 2, now it is 1"):
        fit(
            made("binary", n=51, shape=(3,)), options=OPTIONS, valid=0.2, folder=tmp_path / "two", resume=True
        )


@pytest.mark.slow
def test_four_processes_go_on_after_a_death(tmp_path: Path) -> None:
    """Sums of more than two terms depend on their order, which mustn't change when a fit is begun again."""
    assert by_processes(tmp_path / "whole", count=4).returncode == 0
    assert by_processes(tmp_path / "dead", dies=5, count=4).returncode != 0
    assert by_processes(tmp_path / "dead", count=4).returncode == 0
    assert outcome(tmp_path / "dead") == outcome(tmp_path / "whole")
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "dead")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_two_processes_killed_at_random_moments_end_like_two_that_were_not(tmp_path: Path) -> None:
    """One of them, the other, and both; in the middle of an epoch and of a write too."""
    n, folder = 300, tmp_path / "killed"
    assert by_processes(tmp_path / "whole", n=n).returncode == 0
    generator, kills = np.random.default_rng(0), 0
    for victims in ((0,), (1,), (0, 1)):
        process = started(folder, n=n, pause=0.02)
        before = 0 if not (folder / "metrics.jsonl").exists() else len(outcome(folder))
        begun = before + 1
        until(
            lambda begun=begun: (folder / "metrics.jsonl").exists() and len(outcome(folder)) >= begun, process
        )
        time.sleep(float(generator.uniform(0.0, 0.3)))
        for rank in victims:
            os.kill(int(folder.with_suffix(f".pid{rank}").read_text()), signal.SIGKILL)
        process.communicate(timeout=100)
        assert process.returncode != 0
        kills += 1
        Run.load(folder)
    assert kills == 3
    resumed = by_processes(folder, n=n)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(folder) == outcome(tmp_path / "whole")
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "killed")]
    assert weights[0] == weights[1]


@pytest.mark.slow
def test_control_c_stops_two_processes_after_the_same_step(tmp_path: Path) -> None:
    n, folder = 300, tmp_path / "stopped"
    assert by_processes(tmp_path / "whole", n=n).returncode == 0
    process = started(folder, n=n, pause=0.05)
    until((folder / "metrics.jsonl").exists, process)
    time.sleep(0.1)
    # As a terminal does.
    os.killpg(process.pid, signal.SIGINT)
    process.communicate(timeout=100)
    stopped = outcome(folder)[-1]
    assert stopped["status"] == "interrupted"
    assert stopped["step"] % 10 == 0
    assert stopped["step"] < 60
    resumed = by_processes(folder, n=n)
    assert resumed.returncode == 0, resumed.stderr
    assert outcome(folder) == outcome(tmp_path / "whole")
    weights = [(tmp_path / name / "weights.safetensors").read_bytes() for name in ("whole", "stopped")]
    assert weights[0] == weights[1]


@pytest.mark.parametrize("same", [True, False])
def test_processes_that_were_asked_for_other_fits_do_not_begin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same: bool
) -> None:
    """As where one of them found less memory free, and reads from disk what the others hold in memory."""
    from jensen.runs import fitting
    from jensen.training import Alone, resolve

    totals: list[float] = []

    class First(Alone):
        def total(self, values: torch.Tensor) -> torch.Tensor:
            totals.append(float(values) if values.ndim == 0 else 0.0)
            return values + (values if same or len(totals) > 1 else values + 1)

    def first_of_two(device: str) -> First:
        engine = First(resolve(device))
        engine.world_size = 2
        return engine

    monkeypatch.setattr(fitting, "start_engine", first_of_two)
    dataset = made("binary", n=50, shape=(3,))
    if same:
        assert fit(dataset, options=OPTIONS).history[-1]["status"] == "finished"
    else:
        with pytest.raises(
            ConfigError, match=r"process 0 of 2 .* 50 data of binary .*held in memory; start all"
        ):
            fit(dataset, options=OPTIONS, folder=tmp_path / "run")
        assert not (tmp_path / "run").exists()
    assert 0 < totals[0] < 2**32


def test_of_several_processes_the_first_keeps_nothing_that_it_knows_a_part_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where data go away in the middle of an epoch, what the others have recorded of it is not here."""
    from jensen.runs import fitting
    from jensen.training import Alone, resolve

    class First(Alone):
        def total(self, values: torch.Tensor) -> torch.Tensor:
            return 2 * values

    def first_of_two(device: str) -> First:
        engine = First(resolve(device))
        engine.world_size = 2
        return engine

    monkeypatch.setattr(fitting, "start_engine", first_of_two)
    steps: list[int] = []

    class Remover(Silent):
        def step(self, data: int) -> None:
            steps.append(data)
            if len(steps) == 5:
                raise DataError("x.npy can't be read any more")

    with pytest.raises(DataError, match=r"x\.npy"):
        fit(made("binary", n=51, shape=(3,)), options=OPTIONS, valid=0.2, folder=tmp_path, watcher=Remover())
    assert not (tmp_path / "resume.safetensors").exists()
    monkeypatch.undo()
    steps.clear()
    alone = tmp_path / "alone"
    with pytest.raises(DataError, match=r"x\.npy"):
        fit(made("binary", n=51, shape=(3,)), options=OPTIONS, valid=0.2, folder=alone, watcher=Remover())
    assert read_state(alone / "resume")["step"] == 5


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
