"""Loggers: what other programs find, that a resumed fit goes on, and that none ever breaks a fit."""

import signal
import warnings
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from conftest import made
from jensen.errors import ConfigError
from jensen.runs import LOGGERS, Run, Several, Silent, fit
from jensen.runs.loggers import Logger, MLflow, TensorBoard
from jensen.runs.loggers.logger import values

OPTIONS = {"epochs": 4, "latent_dim": 2, "hidden": 6, "batch_size": 16}
STEPS = 3


class Recorder(Logger):
    """Keeps what it is given; fails where it is told to."""

    name = "recorder"
    packages = ()

    def __init__(self, folder: str | Path | None = None, fails: str = "") -> None:
        super().__init__(folder)
        self.fails = fails
        self.calls: list[Any] = []

    def _note(self, what: str, *details: Any) -> None:
        self.calls.append((what, *details))
        if self.fails == what:
            raise OSError("no space left")

    def open(self, run: Run, place: Path) -> None:
        self._note("open", place)

    def log(self, epoch: int, values: Mapping[str, float]) -> None:
        self._note("log", epoch, dict(values))

    def close(self, status: str) -> None:
        self._note("close", status)


class Interrupter(Silent):
    """Presses Ctrl-C after some steps."""

    def __init__(self, step: int) -> None:
        self.left = step

    def step(self, data: int) -> None:
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


def fit_twice(folder: Path, logger: Any) -> Run:
    """A fit that is interrupted in its third epoch, and resumed."""
    dataset = made("real", n=50, shape=(3,))
    arguments: dict[str, Any] = {"options": OPTIONS, "valid": 0.2, "folder": folder}
    fit(dataset, **arguments, watcher=Several(logger(), Interrupter(2 * STEPS + 1)))
    return fit(dataset, **arguments, resume=True, watcher=logger())


def test_what_a_logger_is_given(tmp_path: Path) -> None:
    logger = Recorder()
    run = fit(
        made("real", n=50, shape=(3,)), options=OPTIONS, valid=0.2, folder=tmp_path / "run", watcher=logger
    )
    assert [call[:2] for call in logger.calls] == [
        ("open", tmp_path / "run" / "recorder"),
        *(("log", epoch) for epoch in (1, 2, 3, 4)),
        ("close", "finished"),
    ]
    values, record = logger.calls[2][2], run.history[1]
    assert values == {
        "train/elbo": record["train"]["elbo"],
        "train/log_likelihood": record["train"]["log_likelihood"],
        "train/kl": record["train"]["kl"],
        "valid/elbo": record["valid"]["elbo"],
        "valid/standard_error": record["valid"]["standard_error"],
        "learning_rate": record["learning_rate"],
        "data_per_second": record["rate"],
        "seconds": record["seconds"],
        "skipped_steps": 0.0,
        "steps": 6.0,
    }


@pytest.mark.parametrize("where", ["open", "log", "close"])
def test_a_logger_that_fails_warns_once_and_never_breaks_a_fit(tmp_path: Path, where: str) -> None:
    logger = Recorder(tmp_path, fails=where)
    with pytest.warns(RuntimeWarning) as caught:
        run = fit(made("real", n=50, shape=(3,)), options=OPTIONS, watcher=logger)
    assert run.history[-1]["status"] == "finished"
    assert len(caught) == 1
    assert "the logger 'recorder' failed (OSError: no space left); the fit goes on without it" in str(
        caught[0].message
    )
    assert [call[0] for call in logger.calls].count(where) == 1


def test_how_it_ended(tmp_path: Path) -> None:
    logger = Recorder(tmp_path)
    dataset = made("real", n=50, shape=(3,))
    fit(dataset, options=OPTIONS, watcher=Several(logger, Interrupter(2)))
    assert [call[:2] for call in logger.calls] == [("open", tmp_path), ("close", "interrupted")]

    class Breaker(Silent):
        def step(self, data: int) -> None:
            raise ValueError("odd")

    logger = Recorder(tmp_path)
    with pytest.raises(ValueError, match="odd"):
        fit(dataset, options=OPTIONS, watcher=Several(logger, Breaker()))
    assert logger.calls[-1] == ("close", "failed")


def test_a_fit_in_memory_needs_a_place_for_its_logs() -> None:
    with pytest.raises(ConfigError, match=r"has nowhere to write.*Recorder\('logs'\)"):
        fit(made("real", n=50, shape=(3,)), options=OPTIONS, watcher=Recorder())


def test_a_missing_package_is_said_before_anything_is_fitted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jensen.runs.loggers.logger.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="needs tensorboard, which is not installed; pip install 'jensen"):
        TensorBoard()
    with pytest.raises(ConfigError, match="needs mlflow and sqlalchemy and alembic, which are not installed"):
        MLflow()
    with pytest.raises(ConfigError, match="unknown logger 'tensorbord'; did you mean 'tensorboard'"):
        LOGGERS["tensorbord"]


@pytest.mark.skipif(find_spec("tensorboard") is None, reason="needs the extra 'logging'")
def test_tensorboard_finds_each_epoch_once_after_a_resumed_fit(tmp_path: Path) -> None:
    run = fit_twice(tmp_path, TensorBoard)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        found = EventAccumulator(str(tmp_path / "tensorboard"))
        found.Reload()
    points = [(event.step, event.value) for event in found.Scalars("valid/elbo")]
    assert [step for step, _ in points] == [1, 2, 3, 4]
    assert [value for _, value in points] == pytest.approx([r["valid"]["elbo"] for r in run.history])
    assert "train/kl" in found.Tags()["scalars"]


@pytest.mark.skipif(
    find_spec("mlflow") is None or find_spec("sqlalchemy") is None, reason="needs the extra 'logging'"
)
def test_mlflow_goes_on_with_the_same_run(tmp_path: Path) -> None:
    run = fit_twice(tmp_path, MLflow)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow.tracking import MlflowClient

        client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow' / 'mlflow.db'}")
        (found,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
        points = client.get_metric_history(found.info.run_id, "train/elbo")
    assert found.info.status == "FINISHED"
    assert found.data.params["latent_dim"] == "2"
    assert found.data.params["recipe"] == "vae"
    assert [(p.step, p.value) for p in points] == [(r["epoch"], r["train"]["elbo"]) for r in run.history]


def test_of_one_validation_datum_there_is_no_standard_error(tmp_path: Path) -> None:
    """Whether an epoch is told as it comes or from the history of a fit that is resumed."""
    recorder = Recorder()
    run = fit(made("real", n=20, shape=(3,)), options=OPTIONS, valid=0.05, folder=tmp_path, watcher=recorder)
    told = [details[1] for what, *details in recorder.calls if what == "log"]
    assert len(told) == 4
    for mine, record in zip(told, run.history, strict=True):
        assert "valid/elbo" in mine
        assert "valid/standard_error" not in mine
        assert values(record) == pytest.approx(mine)
