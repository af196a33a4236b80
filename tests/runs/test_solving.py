"""Recipes that are solved: what their Runs have in common with those that are trained, and where they differ."""

from pathlib import Path

import numpy as np
import pytest
import torch

from jensen.data import Stored, from_array, load, split, stored, write
from jensen.errors import ConfigError, DataError, RunError
from jensen.evaluation import evaluate
from jensen.runs import Run, Silent, compare, fit, prepared, snapshot

X = np.random.default_rng(0).normal(size=(60, 3)) @ np.diag([3.0, 1.0, 0.3])
DATASET = from_array(X, exact=True)


class Told(Silent):
    def __init__(self) -> None:
        self.endings: list[BaseException | None] = []

    def end(self, error: BaseException | None) -> None:
        self.endings.append(error)


def test_it_is_seen_while_it_grows_and_told_of_as_other_fits_are(tmp_path: Path) -> None:
    told = Told()
    run = fit(DATASET, "mixture", {"epochs": 3, "components": 2}, valid=0.2, folder=tmp_path, watcher=told)
    assert told.endings == [None]
    found = snapshot(tmp_path)
    assert (found.state, found.recipe, found.epoch) == ("finished", "mixture", 3)
    trained = fit(from_array(X), options={"epochs": 1, "hidden": 4}, valid=0.2)
    assert set(run.about) == set(trained.about)
    assert (run.about["valid"], run.about["processes"]) == ({"fraction": 0.2}, 1)
    # Stopped by the number of iterations, the validation data are looked at all the same.
    values = run.model.log_prob(run.prepare(split(DATASET, 0.2, 0)[1]))
    assert run.history[-1]["valid"]["elbo"] == pytest.approx(float(values.mean()))


def test_what_was_stopped_early_says_so() -> None:
    cut = fit(DATASET, "mixture", {"epochs": 3, "components": 2}).history[-1]
    assert cut["note"].endswith("stopped after 3 iterations, before the bound stood still: allow more epochs")
    assert not cut["converged"]
    whole = fit(DATASET, "mixture", {"components": 2}).history[-1]
    assert whole["converged"]
    assert "note" not in whole


def test_what_breaks_it_is_told_and_lets_the_folder_go(tmp_path: Path) -> None:
    class Breaker(Told):
        def step(self, data: int) -> None:
            raise OverflowError("enough")

    told = Breaker()
    with pytest.raises(OverflowError):
        fit(DATASET, "ppca", folder=tmp_path, watcher=told)
    assert isinstance(told.endings[0], OverflowError)
    assert snapshot(tmp_path).state == "failed"
    assert fit(DATASET, "ppca", folder=tmp_path, resume=True).history[-1]["status"] == "finished"


@pytest.mark.parametrize("solver", ["em", "gradient"])
def test_what_breaks_it_leaves_torch_s_generator_alone(solver: str) -> None:
    """Also while the error holds on to the solver, which would give its state back at some later time."""

    class Breaker(Silent):
        def step(self, data: int) -> None:
            raise OverflowError("enough")

    torch.manual_seed(0)
    wanted = torch.rand(1)
    torch.manual_seed(0)
    with pytest.raises(OverflowError) as caught:
        fit(DATASET, "ppca", {"solver": solver}, watcher=Breaker())
    assert torch.equal(torch.rand(1), wanted)
    assert caught.value is not None


def test_a_folder_is_fitted_by_one_only(tmp_path: Path) -> None:
    class Another(Silent):
        def step(self, data: int) -> None:
            with pytest.raises(RunError, match="right now"):
                fit(DATASET, "ppca", folder=tmp_path, resume=True)

    fit(DATASET, "ppca", folder=tmp_path, watcher=Another())


@pytest.mark.parametrize(
    ("change", "message"),
    [({"latent_dim": 1}, "option latent_dim is 2"), ({"solver": "em"}, "option solver")],
)
def test_resuming_with_other_options(tmp_path: Path, change: dict[str, object], message: str) -> None:
    fit(DATASET, "ppca", folder=tmp_path)
    with pytest.raises(RunError, match=message):
        fit(DATASET, "ppca", change, folder=tmp_path, resume=True)


def test_what_the_data_decide_may_be_resumed(tmp_path: Path) -> None:
    first = fit(DATASET, "ppca", {"latent_dim": "laplace"}, folder=tmp_path)
    again = fit(DATASET, "ppca", {"latent_dim": "laplace"}, folder=tmp_path, resume=True)
    assert again.config.latent_dim == first.config.latent_dim


def test_several_processes_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="without torchrun"):
        fit(DATASET, "ppca", device="cpu")


@pytest.fixture
def on_disk(tmp_path: Path) -> Stored:
    """Shards whose float32 cells are those of the array below."""
    for number, rows in enumerate((slice(0, 41), slice(41, 90), slice(90, None))):
        write(tmp_path / f"{number}.npy", WIDE[rows])
    return stored(tmp_path, block_rows=16)


WIDE = (np.random.default_rng(1).normal(size=(150, 3)) @ np.random.default_rng(2).normal(size=(3, 6))).astype(
    np.float32
) + np.random.default_rng(3).normal(size=(150, 6)).astype(np.float32)
STREAMED = {
    "closed form": ("ppca", {}),
    "laplace": ("ppca", {"latent_dim": "laplace"}),
    "EM": ("ppca", {"solver": "em", "epochs": 5}),
    "gradient": ("ppca", {"solver": "gradient", "epochs": 5}),
    "factors": ("factor-analysis", {"epochs": 5}),
    "CAVI": ("mixture", {"epochs": 5}),
    "EM of a mixture": ("mixture", {"solver": "em", "epochs": 5}),
}


@pytest.mark.parametrize("name", STREAMED)
def test_data_on_disk_are_fitted_to_the_same_numbers(on_disk: Stored, name: str) -> None:
    recipe, options = STREAMED[name]
    streamed, whole = (fit(data, recipe, options, seed=1) for data in (on_disk, from_array(WIDE, exact=True)))
    assert [record["train"]["elbo"] for record in streamed.history] == pytest.approx(
        [record["train"]["elbo"] for record in whole.history], rel=1e-9
    )
    assert streamed.about["stream"] is not None
    by_parts = evaluate(streamed.model, prepared(streamed, on_disk))
    assert by_parts["elbo"] == pytest.approx(
        evaluate(whole.model, whole.prepare(on_disk.load()))["elbo"], rel=1e-6
    )


def test_minibatches_from_disk_climb_to_the_same_bound(on_disk: Stored) -> None:
    # Without clusters there are many maxima: with one start both climb the same one.
    options = {"components": 2, "batch_size": 32, "restarts": 1}
    best = fit(on_disk, "mixture", options).history[-1]["train"]["elbo"]
    found = fit(on_disk, "mixture", {**options, "solver": "stochastic", "epochs": 100})
    assert best - 0.05 < found.history[-1]["train"]["elbo"] < best + 0.02


def test_what_needs_all_data_says_so(on_disk: Stored, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no-stream"):
        fit(on_disk, "hmm")
    with pytest.raises(DataError, match="no-stream"):
        fit(on_disk, "ppca", {"latent_dim": "held-out"})
    write(tmp_path / "wide" / "x.npy", np.ascontiguousarray(WIDE.T))
    with pytest.raises(DataError, match="solver='em'"):
        fit(stored(tmp_path / "wide"), "ppca")
    assert fit(stored(tmp_path / "wide"), "ppca", {"solver": "em", "epochs": 3}).history[-1]["epoch"] == 3


def test_shards_keep_their_missing_cells(tmp_path: Path) -> None:
    gaps = X.copy()
    gaps[3, 1] = gaps[40, 0] = np.nan
    np.save(tmp_path / "a.npy", gaps[:30])
    np.save(tmp_path / "b.npy", gaps[30:])
    np.testing.assert_array_equal(load(tmp_path, exact=True).x, gaps)
    np.save(tmp_path / "c.npy", gaps[:, :2])
    with pytest.raises(DataError, match="one form"):
        load(tmp_path, exact=True)


def test_compared_with_a_model_that_is_trained(tmp_path: Path) -> None:
    found = compare(
        from_array(X),
        ["ppca", "mixture", "linear-vae"],
        tmp_path,
        seeds=1,
        epochs=2,
        samples=5,
        model_options={"mixture": {"covariance": "diag"}},
    )
    rows = {row.label: row for row in found.rows}
    assert all(row.density and not row.errors for row in rows.values())
    run = Run.load(tmp_path / "ppca-seed-0")
    (kept,) = run.evaluations
    assert rows["ppca"].nll == kept["nll"]
    assert (rows["ppca"].gap, rows["ppca"].nll_sampling_error, rows["ppca"].active_units) == (0.0, 0.0, None)
    from jensen.report import write_comparison

    page = write_comparison(found).read_text()
    assert "mixture" in page
    assert "ppca" in page
