import contextlib
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import made
from jensen.data import Dataset, Schema, from_array, split
from jensen.errors import ConfigError, DataError, FitError, RunError, ShapeError, SupportError
from jensen.runs import Run, Silent, fit, keeping
from jensen.runs.run import read_metrics
from jensen.runs.storage import read_json, read_state, write_json, write_state

EPOCHS = 6
OPTIONS = {"epochs": EPOCHS, "latent_dim": 2, "hidden": 6, "batch_size": 16}
STEPS = 3
"""Steps of an epoch of the 40 training data."""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain": ("real", {"averaging": None}),
    "averaging": ("real", {"averaging": 0.9}),
    "dropout": ("uint8", {"dropout": 0.3, "input_dropout": 0.2}),
    "dynamic": ("dynamic", {"averaging": 0.9}),
    "warm up": ("counts", {"kl_warm_up": 4.0, "beta": 2.0, "free_bits": 0.1}),
    "importance weighted": ("binary", {"bound": "iwae", "samples": 3, "gradient": "doubly-reparameterised"}),
    "seldom validated": ("real", {"validate_every": 4}),
    "impatient": ("real", {"patience": 1, "learning_rate": 0.3}),
}


def dataset_of(kind: str) -> Dataset:
    if kind != "dynamic":
        return made(kind, n=50, shape=(3,))
    return replace(made("uint8", n=50, shape=(3,)), schema=Schema((3,), "binary"), dynamic=True)


def outcome(run: Run) -> list[dict[str, Any]]:
    """All of the history but times."""
    history = json.loads(json.dumps(run.history))
    return [{k: v for k, v in record.items() if k not in ("seconds", "rate")} for record in history]


def assert_same_fit(one: Run, other: Run) -> None:
    mine, yours = one.model.state_dict(), other.model.state_dict()
    assert list(mine) == list(yours)
    for name in mine:
        assert torch.equal(mine[name], yours[name]), name
    assert outcome(one) == outcome(other)


class Interrupter(Silent):
    """Presses Ctrl-C after some steps, or between two epochs."""

    def __init__(self, step: int | None = None, epoch: int | None = None) -> None:
        self.at_step = step
        self.at_epoch = epoch
        self.steps = 0

    def step(self, data: int) -> None:
        self.steps += 1
        if self.steps == self.at_step:
            signal.raise_signal(signal.SIGINT)

    def epoch(self, epoch: Any) -> None:
        if epoch.number == self.at_epoch:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_resumed_fit_gives_the_numbers_of_an_uninterrupted_one(
    tmp_path: Path, case: tuple[str, dict[str, Any]]
) -> None:
    kind, options = case
    valid = None if case is CASES["plain"] else 0.2
    dataset, options = dataset_of(kind), {**OPTIONS, **options}
    whole = fit(dataset, options=options, valid=valid, seed=4)
    part = fit(dataset, options=options, valid=valid, seed=4, folder=tmp_path, watcher=Interrupter(STEPS + 2))
    assert part.history[-1]["status"] == "interrupted"
    assert [record["status"] for record in part.history[:-1]] == ["running"]
    assert not part.model.training
    # What Ctrl-C leaves is a Run with the weights that were kept.
    assert_same_fit(Run.load(tmp_path), part)
    resumed = fit(dataset, options=options, valid=valid, seed=4, folder=tmp_path, resume=True)
    assert_same_fit(resumed, whole)
    assert_same_fit(Run.load(tmp_path), whole)


@pytest.mark.parametrize("step", [1, STEPS, STEPS + 1, 2 * STEPS])
def test_interrupted_at_any_step(tmp_path: Path, step: int) -> None:
    dataset, options = dataset_of("dynamic"), {**OPTIONS, "dropout": 0.1}
    whole = fit(dataset, options=options, valid=0.2)
    fit(dataset, options=options, valid=0.2, folder=tmp_path, watcher=Interrupter(step))
    fit(dataset, options=options, valid=0.2, folder=tmp_path, watcher=Interrupter(1), resume=True)
    resumed = fit(dataset, options=options, valid=0.2, folder=tmp_path, resume=True)
    assert_same_fit(resumed, whole)


def test_interrupted_between_epochs(tmp_path: Path) -> None:
    dataset = dataset_of("real")
    whole = fit(dataset, options=OPTIONS, valid=0.2)
    # Whether it ends there or stops at the next step.
    with contextlib.suppress(KeyboardInterrupt):
        fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path, watcher=Interrupter(epoch=2))
    Run.load(tmp_path)
    resumed = fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path, resume=True)
    assert_same_fit(resumed, whole)


def test_interrupting_keeps_the_best_weights() -> None:
    # A large step size soon makes the bound worse again.
    dataset = dataset_of("real")
    options = {**OPTIONS, "epochs": 40, "learning_rate": 0.5, "averaging": None, "patience": None}
    run = fit(dataset, options=options, valid=0.4, watcher=Interrupter(step=35))
    assert run.history[-1]["status"] == "interrupted"
    bounds = [record["valid"]["elbo"] for record in run.history[:-1]]
    best = max(epoch for epoch in range(len(bounds)) if run.history[epoch]["best"])
    assert best < len(bounds) - 1
    again = fit(
        dataset,
        options=options,
        valid=0.4,
        watcher=Interrupter(step=(best + 1) * -(-30 // 16) + 1),
    )
    for name, value in again.model.state_dict().items():
        assert torch.equal(value, run.model.state_dict()[name])


def test_a_finished_fit_is_resumed_without_change(tmp_path: Path) -> None:
    dataset = dataset_of("real")
    first = fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path)
    resumed = fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path, resume=True)
    assert_same_fit(resumed, first)


def test_an_early_stop_stays_one_when_it_is_resumed(tmp_path: Path) -> None:
    dataset = dataset_of("real")
    options = {**OPTIONS, "epochs": 100, "patience": 2, "learning_rate": 0.3}
    first = fit(dataset, options=options, valid=0.4, folder=tmp_path)
    assert first.history[-1]["status"] == "stopped early"
    assert len(first.history) < 100
    assert_same_fit(fit(dataset, options=options, valid=0.4, folder=tmp_path, resume=True), first)


def test_resume_without_a_run_begins_one(tmp_path: Path) -> None:
    run = fit(dataset_of("real"), options=OPTIONS, folder=tmp_path / "new", resume=True)
    assert run.history[-1]["status"] == "finished"
    Run.load(tmp_path / "new")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"options": {**OPTIONS, "latent_dim": 3}}, "its option latent_dim is 2, asked for is 3"),
        ({"options": {**OPTIONS, "epochs": 9}}, "its option epochs is 6, asked for is 9"),
        ({"recipe": "beta-vae"}, "its recipe is 'vae', asked for is 'beta-vae'"),
        ({"seed": 8}, "its seed is 0, now it is 8"),
        ({"valid": 0.5}, "its n is 40, now it is 25"),
        ({"valid": None}, "its n is 40, now it is 50"),
        ({"dataset": made("real", n=50, shape=(4,))}, "its schema event_shape is .3., asked for is .4."),
        (
            {"dataset": made("counts", n=50, shape=(3,))},
            "its option likelihood is 'normal', asked for is 'neg",
        ),
        ({"dataset": made("real", n=51, shape=(3,))}, "its n is 40, now it is 41"),
        ({"dataset": made("real", n=50, shape=(3,), seed=1)}, "its checksum of the data is"),
    ],
)
def test_resuming_another_fit_says_what_differs(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"dataset": made("real", n=50, shape=(3,)), "options": OPTIONS, "valid": 0.2}
    fit(**arguments, folder=tmp_path, watcher=Interrupter(2))
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match=f"can't resume .*: {message}"):
        fit(**{**arguments, **change}, folder=tmp_path, resume=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(("layout", "which"), [(1, "an older"), (99, "a newer")])
def test_resuming_what_another_version_wrote(tmp_path: Path, layout: int, which: str) -> None:
    fit(dataset_of("real"), options=OPTIONS, folder=tmp_path, watcher=Interrupter(2))
    content = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", {**content, "format": layout})
    with pytest.raises(RunError, match=f"has layout {layout}, that of {which} jensen"):
        fit(dataset_of("real"), options=OPTIONS, folder=tmp_path, resume=True)


def test_other_validation_data_are_noticed(tmp_path: Path) -> None:
    train, valid = split(made("real", n=50, shape=(3,)), 0.2)
    fit(train, options=OPTIONS, valid=valid, folder=tmp_path, watcher=Interrupter(2))
    other = from_array(valid.x + 1)
    with pytest.raises(RunError, match="checksum of the data"):
        fit(train, options=OPTIONS, valid=other, folder=tmp_path, resume=True)


def test_an_existing_run_is_not_overwritten(tmp_path: Path) -> None:
    dataset = dataset_of("real")
    fit(dataset, options={**OPTIONS, "epochs": 1}, folder=tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(RunError, match=r"holds a Run already; .*--resume"):
        fit(dataset, options=OPTIONS, folder=tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("write", range(1, 21, 3))
def test_killed_at_any_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: int) -> None:
    monkeypatch.setattr("jensen.runs.keeping.SAVE_EVERY", 0.0)
    dataset, options = dataset_of("real"), {**OPTIONS, "epochs": 4}
    writes = 0

    def kill(descriptor: int) -> None:
        nonlocal writes
        writes += 1
        if writes == write:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr("jensen.runs.storage.os.fsync", kill)
        # 3 writes to begin with, 4 an epoch, 1 at the end.
        with pytest.raises(Killed):
            fit(dataset, options=options, valid=0.2, folder=tmp_path)
    assert writes == write
    if (tmp_path / "config.json").exists():
        Run.load(tmp_path)
    else:
        assert write <= 3
        with pytest.raises(RunError, match=r"cut short: it has no config\.json"):
            Run.load(tmp_path)
    resumed = fit(dataset, options=options, valid=0.2, folder=tmp_path, resume=True)
    assert_same_fit(resumed, fit(dataset, options=options, valid=0.2))


def killed(folder: Path, write: int, moment: str) -> None:
    """A fit in a process that kills itself within one of its writes."""
    process = os.fork()
    if process:
        assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL
        return
    try:
        keeping.SAVE_EVERY = keeping.SAVE_WITHIN = 0.0
        writes, flush, rename = [0], os.fsync, Path.replace

        def end(now: str) -> None:
            if writes[0] == write and now == moment:
                os.kill(os.getpid(), signal.SIGKILL)

        def fsync(descriptor: int) -> None:
            writes[0] += 1
            end("written")
            flush(descriptor)
            end("flushed")

        def replace(path: Path, target: Path) -> Path:
            found = rename(path, target)
            end("renamed")
            return found

        os.fsync, Path.replace = fsync, replace
        fit(dataset_of("real"), options={**OPTIONS, "epochs": 3}, valid=0.2, folder=folder)
    finally:
        os._exit(1)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("moment", ["written", "flushed", "renamed"])
def test_killed_within_a_write(tmp_path: Path, moment: str) -> None:
    """Between writing, flushing and renaming, by SIGKILL, after which nothing tidies up."""
    whole = fit(dataset_of("real"), options={**OPTIONS, "epochs": 3}, valid=0.2)
    # 3 writes to begin with; 3 after each step: state, its copy for people, weights.
    for write in (2, 3, 4, 5, 9):
        folder = tmp_path / f"{write}"
        killed(folder, write, moment)
        left = [path.name for path in folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]
        assert len(left) == (moment != "renamed"), left
        if (folder / "config.json").exists():
            Run.load(folder)
        else:
            assert write <= 3
        resumed = fit(
            dataset_of("real"), options={**OPTIONS, "epochs": 3}, valid=0.2, folder=folder, resume=True
        )
        assert_same_fit(resumed, whole)
        assert not [path for path in folder.iterdir() if path.name.startswith(".") and path.name != ".lock"]


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from conftest import made
from jensen.runs import Silent, fit, keeping

keeping.SAVE_EVERY = 0.0

class Killer(Silent):
    steps = 0
    def step(self, data):
        self.steps += 1
        if self.steps == 8:
            os.kill(os.getpid(), signal.SIGKILL)

options = {"epochs": 6, "latent_dim": 2, "hidden": 6, "batch_size": 16}
fit(made("real", n=50, shape=(3,)), options=options, valid=0.2, folder=sys.argv[1], watcher=Killer())
"""


def test_a_killed_process_leaves_a_run_that_loads_and_resumes(tmp_path: Path) -> None:
    tests = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(tmp_path / "run")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent / "src")])},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    loaded = Run.load(tmp_path / "run")
    assert [record["epoch"] for record in loaded.history] == [1, 2]
    dataset = made("real", n=50, shape=(3,))
    resumed = fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path / "run", resume=True)
    assert_same_fit(resumed, fit(dataset, options=OPTIONS, valid=0.2))


def test_a_damaged_resume_file_is_named(tmp_path: Path) -> None:
    dataset = dataset_of("real")
    fit(dataset, options=OPTIONS, folder=tmp_path, watcher=Interrupter(2))
    path = tmp_path / "resume.safetensors"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(RunError, match=r"resume\.safetensors is damaged"):
        fit(dataset, options=OPTIONS, folder=tmp_path, resume=True)


@pytest.mark.parametrize("lacks", ["records", "optimiser", "tensor"])
def test_the_state_of_another_kind_of_fit_is_refused(tmp_path: Path, lacks: str) -> None:
    """As one that another version wrote, whose layout of the folder was the same."""
    fit(dataset_of("real"), options=OPTIONS, folder=tmp_path, watcher=Interrupter(2))
    state = read_state(tmp_path / "resume")
    if lacks == "tensor":
        state["average"][0] = torch.zeros(77)
    else:
        del state[lacks]
    write_state(tmp_path / "resume", state)
    with pytest.raises(RunError, match=r"resume\.safetensors doesn't hold the state of this fit .*fit again"):
        fit(dataset_of("real"), options=OPTIONS, folder=tmp_path, resume=True)


class Spoiler(Silent):
    """Makes the gradient of some steps infinite."""

    def __init__(self, first: int, last: int) -> None:
        self.steps = 0
        self.first, self.last = first, last

    def start(self, run: Run, data: int, epochs: int, done: int) -> None:
        def spoil(gradient: torch.Tensor) -> torch.Tensor:
            return gradient * inf if self.first <= self.steps <= self.last else gradient

        next(run.model.likelihood.parameters()).register_hook(spoil)

    def step(self, data: int) -> None:
        self.steps += 1


def test_steps_that_are_not_finite_are_skipped_and_counted(tmp_path: Path) -> None:
    run = fit(dataset_of("real"), options=OPTIONS, valid=0.2, folder=tmp_path, watcher=Spoiler(2, 4))
    assert run.history[-1]["status"] == "finished"
    assert [record["skipped"] for record in run.history] == [1, 3, 3, 3, 3, 3]
    assert all(torch.isfinite(value).all() for value in run.model.state_dict().values())


def test_skipped_steps_are_counted_across_an_interruption(tmp_path: Path) -> None:
    class Both(Spoiler):
        def step(self, data: int) -> None:
            super().step(data)
            if self.steps == STEPS + 1:
                signal.raise_signal(signal.SIGINT)

    arguments: dict[str, Any] = {"options": OPTIONS, "valid": 0.2, "folder": tmp_path}
    fit(dataset_of("real"), **arguments, watcher=Both(1, 2))
    run = fit(dataset_of("real"), **arguments, resume=True)
    assert run.history[-1]["skipped"] == 2


def test_a_fit_that_stays_non_finite_gives_up_with_the_best_weights(tmp_path: Path) -> None:
    dataset = dataset_of("real")
    options = {**OPTIONS, "epochs": 60, "averaging": None, "patience": None}
    with pytest.raises(
        FitError, match=r"not finite for \d+ steps in a row.*lower learning_rate, rescale the data"
    ):
        fit(dataset, options=options, valid=0.2, folder=tmp_path, watcher=Spoiler(6, 10**6))
    kept = Run.load(tmp_path)
    assert len(kept.history) < 60
    # The same weights as of a fit that was interrupted there.
    stopped = fit(dataset, options=options, valid=0.2, watcher=Interrupter(2 * STEPS + 1))
    for name, value in stopped.model.state_dict().items():
        assert torch.equal(kept.model.state_dict()[name], value), name


def test_a_huge_step_size(tmp_path: Path) -> None:
    options = {**OPTIONS, "epochs": 200, "learning_rate": 1e30, "clip_norm": None}
    with pytest.raises(FitError, match="lower learning_rate"):
        fit(dataset_of("real"), options=options, folder=tmp_path)
    kept = Run.load(tmp_path)
    assert all(record["skipped"] > 0 for record in kept.history[1:])


def test_large_values_are_no_trouble_until_their_squares_overflow() -> None:
    x = made("real", n=50, shape=(3,)).x.astype(np.float64)
    run = fit(from_array(x * 1e15), options=OPTIONS, valid=0.2)
    assert run.history[-1]["skipped"] == 0
    assert isfinite(run.history[-1]["valid"]["elbo"])
    with pytest.raises(SupportError, match="divide them by a power of ten"):
        fit(from_array(x * 1e30), options=OPTIONS)


def test_same_seed_same_fit_and_another_seed_another() -> None:
    dataset = dataset_of("uint8")
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first = fit(dataset, options=OPTIONS, valid=0.2, seed=1)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(6)
    assert_same_fit(fit(dataset, options=OPTIONS, valid=0.2, seed=1), first)
    other = fit(dataset, options=OPTIONS, valid=0.2, seed=2)
    assert outcome(other) != outcome(first)


def test_keeping_a_folder_does_not_change_the_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jensen.runs.keeping.SAVE_EVERY", 0.0)
    dataset = dataset_of("dynamic")
    kept = fit(dataset, options=OPTIONS, valid=0.2, folder=tmp_path)
    assert_same_fit(kept, fit(dataset, options=OPTIONS, valid=0.2))
    assert [record["epoch"] for record in read_metrics(tmp_path)] == list(range(1, EPOCHS + 1))


def test_watcher_is_told_everything() -> None:
    class Notes(Silent):
        def __init__(self) -> None:
            self.calls: list[Any] = []

        def start(self, run: Run, data: int, epochs: int, done: int) -> None:
            self.calls.append(("start", run.recipe, data, epochs, done))

        def step(self, data: int) -> None:
            self.calls.append(data)

        def epoch(self, epoch: Any) -> None:
            self.calls.append(("epoch", epoch.number, epoch.status))

    notes = Notes()
    fit(dataset_of("real"), options={**OPTIONS, "epochs": 2}, valid=0.2, watcher=notes)
    assert notes.calls == [
        ("start", "vae", 40, 2, 0),
        *(16, 16, 8),
        ("epoch", 1, "running"),
        *(16, 16, 8),
        ("epoch", 2, "finished"),
    ]


def test_too_few_data() -> None:
    with pytest.raises(DataError, match="at least 2 data, got n_samples = 1; add more"):
        fit(from_array([[0.5, 1.5]]), options=OPTIONS)
    with pytest.raises(DataError, match="Both need at least one"):
        fit(from_array([[0.5, 1.5], [0.1, 2.5]]), options=OPTIONS, valid=0.1)


def test_two_data_and_batches_larger_than_them() -> None:
    run = fit(from_array([[0.5, 1.5], [0.1, 2.5]]), options={**OPTIONS, "batch_size": 100})
    assert run.history[-1]["step"] == EPOCHS
    assert isfinite(run.history[-1]["train"]["elbo"])


def test_validation_data_of_another_form() -> None:
    with pytest.raises(ShapeError, match="has 4 columns; the model was fitted on 3"):
        fit(dataset_of("real"), options=OPTIONS, valid=made("real", shape=(4,)))


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, 1.5, float("nan")])
def test_fractions_to_validate_on(fraction: float) -> None:
    with pytest.raises(DataError, match=f"fraction of {fraction} to validate on"):
        fit(dataset_of("real"), options=OPTIONS, valid=fraction)


def test_unknown_names() -> None:
    with pytest.raises(ConfigError, match="unknown model 'vea'; did you mean 'vae'"):
        fit(dataset_of("real"), "vea")
    with pytest.raises(ConfigError, match="unknown device 'gpu'; there are: auto, cpu, cuda"):
        fit(dataset_of("real"), device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there() -> None:
    with pytest.raises(ConfigError, match="sees no GPU here; use device='cpu' or 'auto'"):
        fit(dataset_of("real"), device="cuda")
