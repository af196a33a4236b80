"""Fits to data on disk against fits to the same data in memory, and to themselves interrupted."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import made
from jensen.data import Stored, stored
from jensen.errors import DataError, JensenError, RunError, ShapeError, SupportError
from jensen.evaluation import evaluate, posterior_means
from jensen.runs import Run, Silent, default_fraction, fit, prepared, was_streamed
from jensen.runs.streams import batches, in_memory
from jensen.training import Alone, streams
from runs.test_fitting import OPTIONS, Interrupter, assert_same_fit

N = 100
CUTS = (33, 47)


@pytest.fixture(autouse=True)
def small_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of three blocks of five rows with three numbers, so that an epoch has several."""
    monkeypatch.setattr(streams, "BUFFER_BYTES", 3 * 5 * 3 * 4)


def data_in(folder: Path, kind: str = "real", ending: str = "npy") -> Callable[[], Stored]:
    """Writes three shards and returns what opens them."""
    folder.mkdir()
    for number, part in enumerate(np.split(made(kind, n=N, shape=(3,)).x, CUTS)):
        if ending == "npy":
            np.save(folder / f"{number}.npy", part)
        else:
            frame = pytest.importorskip("polars").DataFrame({f"c{i}": part[:, i] for i in range(3)})
            frame.write_parquet(folder / f"{number}.parquet")
    return lambda: stored(folder, block_rows=5)


@pytest.mark.parametrize(
    ("kind", "ending", "options", "step"),
    [
        ("real", "npy", {"averaging": 0.9}, 1),
        ("real", "npy", {"averaging": 0.9}, 5),
        ("uint8", "npy", {"dropout": 0.3, "input_dropout": 0.2}, 3),
        ("counts", "parquet", {"kl_warm_up": 4.0}, 8),
    ],
)
def test_a_fit_resumed_within_an_epoch_gives_the_numbers_of_an_uninterrupted_one(
    tmp_path: Path, kind: str, ending: str, options: dict[str, Any], step: int
) -> None:
    data, arguments = data_in(tmp_path / "x", kind, ending), {"options": {**OPTIONS, **options}, "valid": 0.2}
    whole = fit(data(), **arguments, seed=4)
    part = fit(data(), **arguments, seed=4, folder=tmp_path / "run", watcher=Interrupter(step))
    assert part.history[-1]["status"] == "interrupted"
    resumed = fit(data(), **arguments, seed=4, folder=tmp_path / "run", resume=True)
    assert_same_fit(resumed, whole)
    assert_same_fit(Run.load(tmp_path / "run"), whole)


class Killed(BaseException):
    """Ends a fit as a kill does: nothing of jensen's catches it."""


@pytest.mark.parametrize("step", [2, 7])
def test_a_fit_killed_within_an_epoch_goes_on_from_its_last_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    class Killer(Silent):
        steps = 0

        def step(self, data: int) -> None:
            self.steps += 1
            if self.steps > step:
                raise Killed

    monkeypatch.setattr("jensen.runs.keeping.SAVE_WITHIN", 0.0)
    monkeypatch.setattr("jensen.runs.keeping.SAVE_EVERY", 1e9)
    data, arguments = data_in(tmp_path / "x", "uint8"), {"options": {**OPTIONS, "dropout": 0.3}, "valid": 0.2}
    with pytest.raises(Killed):
        fit(data(), **arguments, folder=tmp_path / "run", watcher=Killer())
    seen: list[int] = []

    class Counter(Silent):
        def step(self, data: int) -> None:
            seen.append(data)

    resumed = fit(data(), **arguments, folder=tmp_path / "run", resume=True, watcher=Counter())
    assert_same_fit(resumed, fit(data(), **arguments))
    # Five steps for each of the epochs, less those before the save.
    assert len(seen) == 5 * OPTIONS["epochs"] - step


@pytest.mark.parametrize("spoil", ["remove", "cut"])
def test_a_shard_that_goes_away_leaves_a_run_that_goes_on(tmp_path: Path, spoil: str) -> None:
    data = data_in(tmp_path / "x")
    path = tmp_path / "x" / "1.npy"
    content = path.read_bytes()

    class Remover(Silent):
        steps = 0

        def step(self, data: int) -> None:
            self.steps += 1
            if self.steps == 7:
                path.unlink() if spoil == "remove" else path.write_bytes(content[:130])

    arguments: dict[str, Any] = {"options": OPTIONS, "valid": 0.2}
    with pytest.raises(DataError, match=r"1\.npy can't be read any more .* go on with --resume"):
        fit(data(), **arguments, folder=tmp_path / "run", watcher=Remover())
    kept = Run.load(tmp_path / "run")
    assert [record["epoch"] for record in kept.history] == [1]
    with pytest.raises(JensenError, match=r"1\.npy is damaged|its stream is"):
        fit(data(), **arguments, folder=tmp_path / "run", resume=True)
    path.write_bytes(content)
    seen: list[int] = []

    class Counter(Silent):
        def step(self, data: int) -> None:
            seen.append(data)

    resumed = fit(data(), **arguments, folder=tmp_path / "run", resume=True, watcher=Counter())
    assert_same_fit(resumed, fit(data(), **arguments))
    # No step that was done is lost.
    assert len(seen) <= 5 * OPTIONS["epochs"] - 7


@pytest.mark.parametrize(("kind", "likelihood"), [("real", "auto"), ("counts", "auto"), ("uint8", "normal")])
def test_units_are_those_of_the_training_data(tmp_path: Path, kind: str, likelihood: str) -> None:
    data, options = data_in(tmp_path / "x", kind), {**OPTIONS, "epochs": 1, "likelihood": likelihood}
    run = fit(data(), options=options, valid=0.3, seed=2)
    train, _ = data().split(0.3, 2)
    other = fit(train.load(), options=options, seed=2)
    mine, yours = run.model.state_dict(), other.model.state_dict()
    names = [name for name in mine if name.endswith(("shift", "unit"))]
    assert names
    for name in names:
        # Both are rounded from float64 to float32.
        torch.testing.assert_close(mine[name], yours[name], rtol=2**-23, atol=0)


def test_one_buffer_fits_as_well_as_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BUFFER_BYTES", 2**20)
    data, options = data_in(tmp_path / "x"), {**OPTIONS, "epochs": 10}
    mine = fit(data(), options=options).history[-1]["train"]["elbo"]
    yours = [fit(data().load(), options=options, seed=seed).history[-1]["train"]["elbo"] for seed in range(4)]
    # Other orders of the same data make a difference like other seeds.
    assert abs(mine - np.mean(yours)) < 5 * np.std(yours, ddof=1) * (1 + 1 / 4) ** 0.5


def test_what_a_run_says_of_its_data(tmp_path: Path) -> None:
    data = data_in(tmp_path / "x")
    run = fit(data(), options=OPTIONS, valid=0.2, folder=tmp_path / "run")
    about = Run.load(tmp_path / "run").about
    assert about["stream"] == {"shards": 3, "block_rows": 5, "buffer_bytes": 180}
    assert (about["n"], about["n_valid"], about["valid"]) == (80, 20, {"fraction": 0.2})
    assert (about["data"], about["source"]) == ("x", str(tmp_path / "x"))
    assert run.examples is not None
    assert len(run.examples) == 20
    assert was_streamed(tmp_path / "run") is True
    fit(data().load(), options=OPTIONS, folder=tmp_path / "memory")
    assert was_streamed(tmp_path / "memory") is False
    assert was_streamed(tmp_path / "nothing") is None
    alone = fit(data(), options=OPTIONS)
    assert alone.about["valid"] is None
    assert alone.examples is not None
    assert len(alone.examples) == N
    given = fit(data(), options=OPTIONS, valid=data())
    assert given.about["valid"] == {"data": "x", "source": str(tmp_path / "x"), "target": None}
    assert given.about["n_valid"] == N


def change_cell(folder: Path) -> None:
    x = np.load(folder / "2.npy")
    x[3, 1] += 1
    np.save(folder / "2.npy", x)


def test_what_is_not_the_same_can_not_be_resumed(tmp_path: Path) -> None:
    data, folder = data_in(tmp_path / "x"), tmp_path / "run"
    arguments: dict[str, Any] = {"options": OPTIONS, "valid": 0.2, "folder": folder}
    fit(data(), **arguments, watcher=Interrupter(2))
    with pytest.raises(RunError, match=r"its stream is \{'shards': 3, 'block_rows': 5, .*\}, now it is None"):
        fit(data().load(), **arguments, resume=True)
    with pytest.raises(RunError, match=r"'block_rows': 5.*'block_rows': 6"):
        fit(stored(tmp_path / "x", block_rows=6), **arguments, resume=True)
    change_cell(tmp_path / "x")
    with pytest.raises(RunError, match="its checksum of the data is"):
        fit(data(), **arguments, resume=True)


def test_a_likelihood_that_can_not_have_made_the_data_says_where(tmp_path: Path) -> None:
    data = data_in(tmp_path / "x", "uint8")
    with pytest.raises(SupportError, match=r"rows 0 to 4 of .*0\.npy: Bernoulli needs cells that are 0 or 1"):
        fit(data(), options={**OPTIONS, "likelihood": "bernoulli"})
    folder = tmp_path / "late"
    folder.mkdir()
    x = np.ones((60, 3), np.uint8)
    x[57, 1] = 9
    np.save(folder / "x.npy", x)
    with pytest.raises(
        SupportError, match=r"rows 55 to 59 of .*x\.npy: Bernoulli needs .* got 9 at \(2, 1\)"
    ):
        fit(stored(folder, block_rows=5), options={**OPTIONS, "likelihood": "bernoulli"})
    # Of data that the validation part alone holds, training knows nothing; preparing it does.
    poisson = fit(stored(folder, block_rows=5), options={**OPTIONS, "likelihood": "poisson"})
    assert poisson.config.likelihood == "poisson"


def test_too_few_and_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "one.npy", np.ones((1, 3)) / 2)
    with pytest.raises(DataError, match="at least 2 data, got n_samples = 1; add more"):
        fit(stored(tmp_path / "one.npy"), options=OPTIONS)
    data = data_in(tmp_path / "x")
    monkeypatch.setattr("jensen.data.memory.available", lambda: 1000)
    with pytest.raises(DataError, match=r"50 data of x to validate on don't fit into memory.*--valid 0.01"):
        fit(data(), options=OPTIONS, valid=0.5)
    assert len(in_memory(data().split(0.1)[1])) == 10


def test_data_too_large_for_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(tensor: torch.Tensor, *where: object) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 9 GiB")

    dataset = made("real", n=20, shape=(3,))
    with monkeypatch.context() as changed:
        changed.setattr(torch.Tensor, "to", full)
        with pytest.raises(
            DataError, match=r"20 data of real, 2\.4e-07 GB, don't fit into the GPU's.*--stream"
        ):
            batches(dataset, 5, 0, Alone(torch.device("cpu")))
    assert len(batches(dataset, 5, 0, Alone(torch.device("cpu")))) == 4


def test_how_much_is_held_out_by_default() -> None:
    assert default_fraction(49, streamed=True) is None
    assert default_fraction(50, streamed=True) == 0.1
    assert default_fraction(10**6, streamed=False) == 0.1
    assert default_fraction(10**6, streamed=True) == 0.01


@pytest.mark.parametrize("kind", ["binary", "real"])
def test_evaluation_by_blocks_gives_the_numbers_of_the_whole(tmp_path: Path, kind: str) -> None:
    data = data_in(tmp_path / "x", kind)
    run = fit(data(), options=OPTIONS)
    x = run.prepare(data().load())
    several = [evaluate(run.model, x, 20, seed=seed) for seed in range(1, 9)]
    whole, parts = several[0], evaluate(run.model, prepared(run, data()), 20)
    assert list(whole) == list(parts)
    for name in ("elbo", "nll", "gap", "log_likelihood", "kl", "nats_per_dim", "bits_per_dim"):
        values = [float(numbers[name]) for numbers in several]  # type: ignore[arg-type]
        # The 0.9995 quantile of Student's t with seven degrees of freedom is 5.4.
        error = np.std(values, ddof=1) * (1 + 1 / len(values)) ** 0.5
        assert abs(float(parts[name]) - np.mean(values)) < 5.4 * error, name  # type: ignore[arg-type]
    # What isn't drawn is the same but for rounding.
    for name in ("reconstruction_error", "kl_per_dimension"):
        np.testing.assert_allclose(parts[name], whole[name], rtol=1e-5)  # type: ignore[arg-type]
    for name in ("n", "samples", "active_units"):
        assert parts[name] == whole[name]
    np.testing.assert_allclose(parts["nll_test_standard_error"], whole["nll_test_standard_error"], rtol=0.1)  # type: ignore[arg-type]
    # The same parts twice, and yet other numbers: each part has noise of its own.
    assert evaluate(run.model, [x, x], 1)["elbo"] != evaluate(run.model, [x], 1)["elbo"]
    means = torch.cat([posterior_means(run.model, x) for x in prepared(run, data())])
    torch.testing.assert_close(means, posterior_means(run.model, x), rtol=1e-5, atol=1e-6)


def test_no_data_to_evaluate() -> None:
    run = fit(made("real", n=20, shape=(3,)), options={**OPTIONS, "epochs": 1})
    with pytest.raises(ShapeError, match="there are no data to evaluate"):
        evaluate(run.model, [])


@pytest.mark.parametrize("other", ["real", "shape"])
def test_data_that_do_not_match_are_refused_before_any_work(tmp_path: Path, other: str) -> None:
    run = fit(made("binary", n=20, shape=(3,)), options={**OPTIONS, "epochs": 1})
    if other == "real":
        data = data_in(tmp_path / "x", "real")()
        message = "x holds real data, such as .*; the model was fitted on binary data"
    else:
        np.save(tmp_path / "x.npy", np.zeros((9, 4)))
        data, message = stored(tmp_path / "x.npy"), "x has 4 columns; the model was fitted on 3"
    parts = prepared(run, data)
    with pytest.raises(JensenError, match=message):
        next(parts)
