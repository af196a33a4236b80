"""Comparisons: what is fitted, what is judged, when a difference counts, and that nothing is done twice."""

import csv
import json
import os
import shutil
import subprocess
import sys
from io import StringIO
from math import log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from conftest import made
from jensen.data import Dataset, Stored, from_array, split, stored
from jensen.errors import ConfigError, DataError, FitError, RunError
from jensen.evaluation import evaluate, importance_pass
from jensen.runs import Comparison, Run, Silent, compare, paired_difference
from jensen.runs.comparing import as_csv, as_markdown, as_record
from jensen.runs.comparing.budget import epochs_for
from jensen.runs.comparing.comparison import _parts
from jensen.runs.comparing.differences import holm
from jensen.runs.comparing.plan import named
from jensen.runs.comparing.sharing import alone, place
from jensen.runs.comparing.tables import INCOMPARABLE, notes

SMALL = {"hidden": 6, "latent_dim": 2, "batch_size": 16}
ARGUMENTS: dict[str, Any] = {"seeds": 2, "epochs": 2, "samples": 10, "options": SMALL}


def draws(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def counts() -> Dataset:
    return made("counts", n=90, shape=(4,))


@pytest.fixture(scope="module")
def done(counts: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Two models that compare and one that doesn't; not to be changed."""
    folder = tmp_path_factory.mktemp("comparison")
    models = {"vae": "vae", "wide": "vae", "linear": "linear-vae"}
    return compare(
        counts,
        models,
        folder,
        **{**ARGUMENTS, "options": {"latent_dim": 2}},
        model_options={"wide": {"hidden": 9}},
    )


def test_one_seed_each_is_the_paired_t_test() -> None:
    a, b = draws(1, 40), draws(1, 40, seed=1) + 0.3
    found = paired_difference(a, b, ("a", "b"))
    expected = stats.ttest_rel(b[0].numpy(), a[0].numpy())
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.degrees_of_freedom == pytest.approx(39)
    assert (found.better, found.worse) == (("b", "a") if float((b - a).mean()) > 0 else ("a", "b"))
    assert found.nats == pytest.approx(abs(float((a - b).mean())), rel=1e-12)
    assert found.seed_error is None


def test_without_a_spread_over_data_it_is_welchs_test_over_seeds() -> None:
    a, b = draws(5, 1).expand(5, 30), 2 * draws(4, 1, seed=1).expand(4, 30) + 1
    found = paired_difference(a, b)
    expected = stats.ttest_ind(a[:, 0].numpy(), b[:, 0].numpy(), equal_var=False)
    assert found.p_value == pytest.approx(expected.pvalue, rel=1e-9)
    assert found.degrees_of_freedom == pytest.approx(expected.df, rel=1e-9)
    assert found.data_error == pytest.approx(0.0, abs=1e-12)


def test_what_data_have_in_common_cancels() -> None:
    common, noise = 50 * draws(1, 200), 0.1 * draws(2, 200, seed=1)
    found = paired_difference(common + noise[:1], common + noise[1:] - 0.1)
    assert found.better == "one"
    assert found.significant
    assert found.standard_error == pytest.approx(0.1 * sqrt(2 / 200), rel=0.2)


def test_equal_models_are_told_apart_no_more_often_than_the_level_says() -> None:
    alarms, times = 0, 400
    for i in range(times):
        common, seeds = draws(1, 25, seed=3 * i), draws(6, 1, seed=3 * i + 1)
        scores = 3 * common + 0.5 * seeds + draws(6, 25, seed=3 * i + 2)
        alarms += paired_difference(scores[:3], scores[3:]).significant
    # Datum and seed together are counted twice, so that it is rather too careful, but it must not be blind.
    assert alarms / times <= 0.05 + 3 * sqrt(0.05 * 0.95 / times)
    assert alarms > 0


def test_scores_without_any_spread() -> None:
    flat = torch.zeros(1, 5)
    assert paired_difference(flat, flat).p_value == 1.0
    assert paired_difference(flat, flat - 1).p_value == 0.0
    single = paired_difference(torch.zeros(1, 1), torch.ones(1, 1))
    assert not single.significant


def test_adjusted_for_the_number_of_pairs() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([float("nan"), 0.02]) == pytest.approx([1.0, 0.04])
    assert holm([]) == []


def test_every_model_and_seed_is_a_run_on_the_same_data(done: Comparison, counts: Dataset) -> None:
    rest, test = split(counts, 0.2, 0)
    train, valid = split(rest, 0.1, 0)
    assert [(o.label, o.seed) for o in done.outcomes] == [
        (label, seed) for seed in (0, 1) for label in ("vae", "wide", "linear")
    ]
    for o in done.outcomes:
        run = Run.load(o.folder)
        assert o.folder == done.folder / f"{o.label}-seed-{o.seed}"
        assert (run.about["seed"], run.about["n"], run.about["n_valid"]) == (o.seed, len(train), len(valid))
        assert run.config.epochs == run.history[-1]["epoch"] == o.epochs == 2
        assert run.config.hidden == {"vae": (400,), "wide": (9,), "linear": ()}[o.label]
        x = run.prepare(test)
        again = importance_pass(run.model, x, 10, seed=0)
        assert o.evidence is not None
        torch.testing.assert_close(o.evidence, again.evidence, rtol=0, atol=0)
        assert o.numbers == evaluate(run.model, x, 10, seed=0)
        assert run.evaluations == [{"data": test.name, "seed": 0, **o.numbers}]
        assert o.parameters == sum(p.numel() for p in run.model.parameters())


def test_rows_are_means_over_seeds_with_their_errors(done: Comparison) -> None:
    assert [row.label for row in done.rows][-1] == "linear"
    for row in done.rows:
        each = [o for o in done.outcomes if o.label == row.label]
        nll = [o.numbers["nll"] for o in each]
        assert row.nll == pytest.approx(sum(nll) / 2)
        # Of two values the standard error of the mean is half their distance.
        assert row.nll_seed_error == pytest.approx(abs(nll[0] - nll[1]) / 2)
        mean = torch.stack([o.evidence for o in each]).mean(0)
        assert row.nll_data_error == pytest.approx(float(mean.std()) / sqrt(len(mean)))
        sampling = [o.numbers["nll_standard_error"] for o in each]
        assert row.nll_sampling_error == pytest.approx(sqrt(sampling[0] ** 2 + sampling[1] ** 2) / 2)
        assert row.bits_per_dim == pytest.approx(row.nll / 4 / log(2))
        assert row.fits == 2


def test_densities_are_not_compared_with_probabilities(done: Comparison) -> None:
    assert [(row.label, row.density) for row in done.rows if row.density] == [("linear", True)]
    assert not done.comparable
    (difference,) = done.differences
    assert {difference.better, difference.worse} == {"vae", "wide"}
    first, second, alone_one = done.rows
    assert (first.best, second.best, alone_one.best) == (True, False, False)
    assert second.behind == difference
    assert difference.nats == pytest.approx(second.nll - first.nll)
    assert first.behind is None
    assert alone_one.behind is None
    assert INCOMPARABLE in notes(done)


def test_the_tables(done: Comparison) -> None:
    rows = list(csv.DictReader(StringIO(as_csv(done))))
    assert [row["label"] for row in rows] == [row.label for row in done.rows]
    assert float(rows[1]["behind_nats"]) == done.differences[0].nats
    assert rows[0]["behind_nats"] == ""
    record = json.loads((done.folder / "table.json").read_text(encoding="utf8"))
    assert record == json.loads(json.dumps(as_record(done)))
    assert record["models"][0]["nll"] == done.rows[0].nll
    text = (done.folder / "table.md").read_text(encoding="utf8")
    assert text == as_markdown(done)
    assert "linear (density)" in text
    assert "the same 2 passes over the training data" in text
    assert (done.folder / "table.csv").read_text(encoding="utf8") == as_csv(done)


def test_what_is_done_is_not_done_again_and_more_can_be_added(
    done: Comparison, counts: Dataset, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(done.folder, tmp_path / "copy"))
    fitted: list[tuple[str, int]] = []

    def watcher(label: str, seed: int) -> Silent:
        fitted.append((label, seed))
        return Silent()

    arguments = {**ARGUMENTS, "options": {"latent_dim": 2}, "watcher": watcher}
    own = {"wide": {"hidden": "9"}}
    models = {"vae": "vae", "wide": "vae", "linear": "linear-vae"}
    again = compare(counts, models, folder, **arguments, model_options=own)
    assert fitted == []
    assert again.rows == done.rows
    # One that was killed after its fit is only judged again; a removed one is fitted again, to the same numbers.
    (folder / "vae-seed-0" / "result.json").unlink()
    shutil.rmtree(folder / "wide-seed-1")
    again = compare(counts, models, folder, **arguments, model_options=own)
    assert fitted == [("vae", 0), ("wide", 1)]
    assert [row.nll for row in again.rows] == [row.nll for row in done.rows]
    fitted.clear()
    more = compare(counts, ["vae", "beta-vae"], folder, **{**arguments, "seeds": 3})
    assert fitted == [("beta-vae", 0), ("beta-vae", 1), ("vae", 2), ("beta-vae", 2)]
    assert {row.label: row.fits for row in more.rows} == {"vae": 3, "beta-vae": 3}
    # What was there before is still part of the plan.
    plan = json.loads((folder / "compare.json").read_text(encoding="utf8"))
    assert set(plan["models"]) == {"vae", "wide", "linear", "beta-vae"}
    assert plan["seeds"] == [0, 1, 2]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 3}, r"budget \(epochs\) is 2, asked for is 3"),
        ({"samples": 11}, "samples is 10, asked for is 11"),
        ({"options": {"latent_dim": 3}}, r"options of 'vae' is .*latent_dim.*another label"),
        ({"test": 0.3}, r"data \(n\) is 65, asked for is 57"),
    ],
)
def test_another_comparison_in_the_same_folder(
    done: Comparison, counts: Dataset, change: dict[str, Any], message: str
) -> None:
    arguments = {**ARGUMENTS, "options": {"latent_dim": 2}, **change}
    with pytest.raises(RunError, match=message):
        compare(counts, ["vae"], done.folder, **arguments)


def test_a_fit_that_fails_is_a_line_in_the_table_and_the_others_go_on(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 2, (60, 4))
    models = {"good": "vae", "bad": "vae", "worse": "vae"}

    def watcher(label: str, seed: int) -> Silent:
        class Breaker(Silent):
            def step(self, data: int) -> None:
                if label == "worse" and seed == 1:
                    raise OverflowError("no room")

        return Breaker()

    found = compare(
        from_array(x),
        models,
        tmp_path,
        **ARGUMENTS,
        model_options={"bad": {"likelihood": "poisson", "hidden": (400,), "network": "conv"}},
        watcher=watcher,
    )
    rows = {row.label: row for row in found.rows}
    assert rows["good"].fits == 2
    assert rows["worse"].fits == 1
    assert rows["worse"].errors == ("seed 1: OverflowError: no room",)
    assert rows["worse"].nll_seed_error is None
    assert found.rows[-1].label == "bad"
    assert rows["bad"].nll is None
    assert "conv" in rows["bad"].errors[0] or "image" in rows["bad"].errors[0]
    assert "worse, seed 1: OverflowError: no room" in as_markdown(found)
    # It isn't tried again.
    again = compare(
        from_array(x),
        models,
        tmp_path,
        **ARGUMENTS,
        model_options={"bad": {"likelihood": "poisson", "hidden": (400,), "network": "conv"}},
    )
    assert [row.errors for row in again.rows] == [row.errors for row in found.rows]
    with pytest.raises(FitError, match="every fit of the comparison failed; bad with seed 0"):
        compare(
            from_array(x), {"bad": "vae"}, tmp_path / "b", **{**ARGUMENTS, "options": {"network": "conv"}}
        )


def test_a_folder_that_can_not_be_used_is_no_failure_of_the_model(counts: Dataset, tmp_path: Path) -> None:
    (tmp_path / "vae-seed-0").mkdir()
    (tmp_path / "vae-seed-0" / "config.json").write_text("{", encoding="utf8")
    with pytest.raises(RunError, match=r"config\.json is damaged"):
        compare(counts, ["vae"], tmp_path, **ARGUMENTS)
    assert not (tmp_path / "vae-seed-0" / "result.json").exists()
    shutil.rmtree(tmp_path / "vae-seed-0")
    done = compare(counts, ["vae"], tmp_path, **ARGUMENTS)
    # The result of another fit is never taken for that of this one.
    result = tmp_path / "vae-seed-0" / "result.json"
    content = json.loads(result.read_text(encoding="utf8"))
    result.write_text(json.dumps({**content, "fingerprint": content["fingerprint"] + 1}), encoding="utf8")
    with pytest.raises(RunError, match="holds the result of another fit"):
        compare(counts, ["vae"], tmp_path, **ARGUMENTS)
    assert done.rows[0].fits == 2


@pytest.mark.parametrize(
    ("models", "change", "message"),
    [
        (["vea"], {}, "unknown model 'vea'; did you mean 'vae'"),
        ([], {}, "there are no models to compare"),
        (["vae", "vae"], {}, "'vae' is there twice; give one a label of its own, as in 'other=vae'"),
        (["a.b=vae"], {}, "can't be the label"),
        (["vae"], {"seeds": 0}, "at least one seed"),
        (["vae"], {"seeds": []}, "at least one seed"),
        (["vae"], {"seeds": [1, 1]}, "a seed is there twice"),
        (["vae"], {"options": {"latent_dims": 2}}, "unknown option 'latent_dims'; did you mean 'latent_dim'"),
        (["vae"], {"options": {"epochs": 2}}, "is the budget of a comparison"),
        (
            ["vae"],
            {"model_options": {"iwae": {"hidden": 3}}},
            "options are set for 'iwae', which isn't compared",
        ),
        (["vae"], {"minutes": 1}, "a comparison has one budget, got 2 epochs and 1 minutes"),
        (["vae"], {"epochs": None, "minutes": 0}, "should be a time above zero"),
        (["vae"], {"epochs": 0}, "at least one epoch"),
        (["vae"], {"samples": 0}, "at least one draw"),
        (["iwae"], {"options": {"beta": 2.0}}, "weigh the ELBO's KL"),
        (["vae"], {"device": "gpu"}, "unknown device 'gpu'"),
    ],
)
def test_what_can_not_be_is_said_before_anything_is_fitted(
    counts: Dataset, tmp_path: Path, models: list[str], change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(counts, models, tmp_path / "out", **{**ARGUMENTS, **change})
    assert not (tmp_path / "out").exists()
    with pytest.raises(DataError, match="fraction"):
        compare(counts, ["vae"], tmp_path / "out", **{**ARGUMENTS, "test": 1.5})


def test_labels() -> None:
    assert named({"a": "vae"}) == {"a": "vae"}
    assert named(["vae", " b = iwae "]) == {"vae": "vae", "b": "iwae"}


def test_the_budget_that_models_choose_themselves_is_the_largest(
    counts: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*rest: Any, **more: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("jensen.runs.comparing.comparison.carry_out", stop)
    own = {"small": {"batch_size": 5}}
    with pytest.raises(KeyboardInterrupt):
        compare(counts, ["vae", "small=vae"], tmp_path, seeds=1, model_options=own)
    plan = json.loads((tmp_path / "compare.json").read_text(encoding="utf8"))
    # Of 65 data at least 2,000 steps: one an epoch with batches of 100, thirteen with batches of 5.
    assert plan["budget"] == {"epochs": 2000}
    assert [model["epochs"] for model in plan["models"].values()] == [2000, 2000]


def test_minutes_buy_epochs(counts: Dataset) -> None:
    train, valid = split(counts, 0.3, 0)
    bought = {
        minutes: epochs_for(minutes, "vae", SMALL, train, valid, device="cpu", seconds=0.1)
        for minutes in (0.01, 0.1)
    }
    # Noise of the machine aside, ten times the time buys ten times the epochs.
    assert 2 < bought[0.1] / bought[0.01] < 50
    assert epochs_for(1e-9, "vae", SMALL, train, None, device="cpu", seconds=0.05) == 1
    # A model that can't be fitted says so when its turn comes.
    assert epochs_for(1.0, "vae", {"network": "conv"}, train, None, device="cpu", seconds=0.05) == 1


def test_a_time_as_the_budget(counts: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured: list[str] = []

    def bought(minutes: float, recipe: str, *rest: Any, **more: Any) -> int:
        measured.append(recipe)
        return 2 if recipe == "vae" else 3

    monkeypatch.setattr("jensen.runs.comparing.comparison.epochs_for", bought)
    arguments = {"seeds": 1, "minutes": 0.5, "samples": 5, "options": {"latent_dim": 2}}
    found = compare(counts, ["vae", "beta-vae"], tmp_path, **arguments)
    assert {o.label: o.epochs for o in found.outcomes} == {"vae": 2, "beta-vae": 3}
    assert "about 0.5 minutes of training for each fit" in found.budget_in_words()
    assert "(vae 2, beta-vae 3)" in found.budget_in_words()
    # The speed of another day changes nothing.
    compare(counts, ["vae", "beta-vae"], tmp_path, **arguments)
    assert measured == ["vae", "beta-vae"]


def test_an_interrupted_comparison_stops_and_goes_on(counts: Dataset, tmp_path: Path) -> None:
    import signal

    class Presser(Silent):
        def step(self, data: int) -> None:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        compare(counts, ["vae"], tmp_path, **ARGUMENTS, watcher=lambda label, seed: Presser())
    assert not (tmp_path / "vae-seed-0" / "result.json").exists()
    assert not (tmp_path / "vae-seed-1").exists()
    whole = compare(counts, ["vae"], tmp_path / "whole", **ARGUMENTS)
    assert compare(counts, ["vae"], tmp_path, **ARGUMENTS).rows[0].nll == whole.rows[0].nll


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Ninety rows, each of which is another, on disk."""
    folder = tmp_path / "shards"
    folder.mkdir()
    x = (
        np.arange(90 * 3, dtype=np.float32).reshape(90, 3) / 100
        + np.random.default_rng(0).random((90, 3)) / 1000
    )
    for number, part in enumerate(np.split(x.astype(np.float32), (40, 60))):
        np.save(folder / f"{number}.npy", part)
    return folder


@pytest.mark.parametrize(
    ("valid", "test", "sizes"),
    [(0.1, 0.2, (65, 7, 18)), (None, 0.2, (72, 0, 18)), (0.1, "given", (81, 9, 10))],
)
def test_data_on_disk_are_shared_out_once(
    shards: Path, valid: float | None, test: float | str, sizes: tuple[int, int, int]
) -> None:
    data = stored(shards, block_rows=7)
    other = made("real", n=10, shape=(3,))
    train, checked, judged = _parts(data, valid, other if isinstance(test, str) else test, 3)
    assert isinstance(train, Stored)
    assert (len(train), 0 if checked is None else len(checked), len(judged)) == sizes
    parts = [
        train.load().x,
        *([] if checked is None else [checked.x]),
        *([] if test == "given" else [judged.x]),
    ]
    assert sorted(np.concatenate(parts)[:, 0].tolist()) == sorted(data.load().x[:, 0].tolist())
    again = _parts(data, valid, other if isinstance(test, str) else test, 3)
    assert np.array_equal(again[2].x, judged.x)


def test_a_comparison_on_data_that_stay_on_disk(shards: Path, tmp_path: Path) -> None:
    def run(**more: Any) -> Comparison:
        return compare(
            stored(shards), ["vae", "beta-vae"], tmp_path / "out", **{**ARGUMENTS, "seeds": 1, **more}
        )

    found = run()
    assert [row.fits for row in found.rows] == [1, 1]
    assert found.data["n"] == 65
    assert Run.load(tmp_path / "out" / "vae-seed-0").about["stream"]["shards"] == 3
    assert [row.nll for row in run().rows] == [row.nll for row in found.rows]
    with pytest.raises(RunError, match=r"its data \(stream\) is .*asked for is None"):
        compare(stored(shards).load(), ["vae"], tmp_path / "out", **{**ARGUMENTS, "seeds": 1})
    # Models that are solved go through the data by blocks.
    both = compare(
        stored(shards),
        ["vae", "ppca"],
        tmp_path / "both",
        seeds=1,
        epochs=1,
        samples=5,
        options={"latent_dim": 2},
    )
    assert {row.label: row.fits for row in both.rows} == {"vae": 1, "ppca": 1}


def test_fits_know_nothing_of_other_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "3", "TORCHELASTIC_RUN_ID": "x", "OTHER": "y"}.items():
        monkeypatch.setenv(name, value)
    assert place() == (1, 3)
    with alone():
        assert place() == (0, 1)
        assert "TORCHELASTIC_RUN_ID" not in os.environ
        assert os.environ["OTHER"] == "y"
    assert place() == (1, 3)


CHILD = """
import os, sys
import numpy as np
from jensen.data import from_array
from jensen.runs import Silent, compare

def watcher(label, seed):
    print(label, seed)
    assert "RANK" in os.environ
    return Silent()

x = np.random.default_rng(0).poisson(3.0, (90, 4))
options = {"hidden": 6, "latent_dim": 2, "batch_size": 16}
found = compare(from_array(x), ["vae", "beta-vae"], sys.argv[1], seeds=2, epochs=2, samples=10, options=options,
                watcher=watcher)
print("rows", len(found.rows), found.rows[0].fits)
"""


def test_several_processes_share_the_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    other = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(out)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "RANK": "1", "WORLD_SIZE": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    mine: list[tuple[str, int]] = []

    class Looker(Silent):
        def start(self, *about: Any, **more: Any) -> None:
            # A fit must not take the others for parts of itself.
            assert "RANK" not in os.environ

    def watcher(label: str, seed: int) -> Silent:
        mine.append((label, seed))
        return Looker()

    x = from_array(np.random.default_rng(0).poisson(3.0, (90, 4)))
    try:
        with monkeypatch.context() as changed:
            changed.setenv("RANK", "0")
            changed.setenv("WORLD_SIZE", "2")
            found = compare(x, ["vae", "beta-vae"], out, **ARGUMENTS, watcher=watcher)
        printed, errors = other.communicate(timeout=100)
    finally:
        other.kill()
    assert other.returncode == 0, errors
    assert mine == [("vae", 0), ("vae", 1)]
    assert printed.splitlines() == ["beta-vae 0", "beta-vae 1", "rows 2 2"]
    whole = compare(x, ["vae", "beta-vae"], tmp_path / "alone", **ARGUMENTS)
    assert [row.nll for row in found.rows] == [row.nll for row in whole.rows]
    assert (out / "table.json").exists()
