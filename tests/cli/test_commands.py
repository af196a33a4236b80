import json
import signal
from math import log
from pathlib import Path

import numpy as np
import pytest

import jensen as jn
from cli.calling import Call
from jensen.cli import actions
from jensen.cli.progress import FitBar
from jensen.data import KNOWN, load
from jensen.recipes import RECIPES
from jensen.runs import Run
from jensen.training import Epoch

FAST = ("--set", "hidden=8", "--set", "latent_dim=3", "--epochs", 1)
DENSITY_KEYS = {
    "elbo",
    "nll",
    "nll_standard_error",
    "nll_test_standard_error",
    "samples",
    "nats_per_dim",
    "bits_per_dim",
    "n",
}


@pytest.fixture
def few(tmp_path: Path) -> Path:
    """The first 20 test digits."""
    path = tmp_path / "few.npy"
    np.save(path, load("digits", "test").x[:20])
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A table with names and a column of classes."""
    rng = np.random.default_rng(0)
    rows = [f"{a:.4f},{b:.4f},{'yes' if a > 0 else 'no'}" for a, b in rng.normal(size=(80, 2))]
    path = tmp_path / "table.csv"
    path.write_text("\n".join(["height,weight,tall", *rows]) + "\n", encoding="utf8")
    return path


def test_fit(call: Call, tmp_path: Path) -> None:
    result = call("fit", "digits", "--model", "vae", "--out", tmp_path / "run", *FAST, "--json").json
    assert result["run"] == str(tmp_path / "run")
    assert (result["model"], result["likelihood"]) == ("vae", "logistic-256")
    assert (result["status"], result["epochs"], result["skipped_steps"]) == ("finished", 1, 0)
    run = Run.load(tmp_path / "run")
    assert run.config.hidden == (8,)
    # The known set's own validation data.
    assert (run.about["n"], run.about["n_valid"]) == (1297, 250)
    assert result["best_valid_elbo"] == run.history[0]["valid"]["elbo"]
    assert result["elbo"] == run.history[0]["train"]["elbo"]


def test_fit_for_people(call: Call, tmp_path: Path, few: Path) -> None:
    result = call("fit", few, "--model", "vae", "--out", tmp_path / "run", *FAST)
    assert result.code == 0
    assert "likelihood" in result.out
    assert "logistic-256" in result.out
    # What was chosen is said before it takes time.
    assert "likelihood logistic-256" in " ".join(result.err.split())


@pytest.mark.parametrize(
    ("valid", "sizes"),
    [
        ((), (72, 8)),
        (("--valid", "0.25"), (60, 20)),
        (("--valid", "0"), (80, 0)),
        (("--valid", "self"), (80, 80)),
    ],
)
def test_validation_data(call: Call, tmp_path: Path, table: Path, valid, sizes: tuple[int, int]) -> None:
    valid = [str(table) if value == "self" else value for value in valid]
    out = tmp_path / "run"
    assert call("fit", table, "--target", "tall", "--model", "vae", "--out", out, *FAST, *valid).code == 0
    about = Run.load(out).about
    assert (about["n"], about["n_valid"]) == sizes


def test_small_data_are_not_split(call: Call, tmp_path: Path, few: Path) -> None:
    result = call("fit", few, "--model", "vae", "--out", tmp_path / "run", *FAST, "--json").json
    assert "best_valid_elbo" not in result
    assert Run.load(tmp_path / "run").about["n_valid"] == 0


@pytest.mark.parametrize(
    "model", [name for name, recipe in RECIPES.items() if recipe.solve is None and recipe.targets is None]
)
def test_every_model_fits_and_evaluates(call: Call, tmp_path: Path, few: Path, model: str) -> None:
    out = tmp_path / "run"
    assert call("fit", few, "--model", model, "--out", out, *FAST).code == 0
    numbers = call("evaluate", out, few, "--samples", 4, "--json").json
    assert numbers.keys() >= DENSITY_KEYS
    assert all(np.isfinite(numbers[key]) for key in DENSITY_KEYS)


def test_evaluate(call: Call, digits_folder: Path, few: Path) -> None:
    numbers = call("evaluate", digits_folder, few, "--samples", 50, "--json", "--seed", 3).json
    assert numbers.keys() >= DENSITY_KEYS | {"gap", "active_units", "kl_per_dimension", "data"}
    assert (numbers["samples"], numbers["n"], numbers["data"]) == (50, 20, "few")
    assert numbers["bits_per_dim"] == pytest.approx(numbers["nll"] / 64 / log(2))
    assert -numbers["nll"] >= numbers["elbo"]
    assert call("evaluate", digits_folder, few, "--samples", 50, "--json", "--seed", 3).json == numbers
    other = call("evaluate", digits_folder, few, "--samples", 50, "--json", "--seed", 4).json
    assert other["nll"] != numbers["nll"]
    # The numbers are kept with the Run, once for each seed.
    kept = [e for e in Run.load(digits_folder).evaluations if e["data"] == "few"]
    assert [(e["seed"], e["nll"]) for e in kept] == [(3, numbers["nll"]), (4, other["nll"])]
    (digits_folder / "evaluations.json").unlink()


def test_evaluate_of_a_known_set_takes_its_test_split(call: Call, digits_folder: Path) -> None:
    result = call("evaluate", digits_folder, "digits", "--samples", 2)
    assert result.code == 0
    assert "digits" in result.out
    assert "bits per dim" in result.out
    (kept,) = Run.load(digits_folder).evaluations
    assert kept["n"] == 250
    (digits_folder / "evaluations.json").unlink()


def test_sample(call: Call, digits_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "samples.npy"
    result = call("sample", digits_folder, "-n", 7, "--out", out, "--json").json
    assert result == {"out": str(out), "shape": [7, 8, 8]}
    drawn = np.load(out)
    assert (drawn.shape, drawn.dtype) == ((7, 8, 8), np.uint8)
    first = out.read_bytes()
    call("sample", digits_folder, "-n", 7, "--out", out)
    assert out.read_bytes() == first
    call("sample", digits_folder, "-n", 7, "--out", out, "--seed", 1)
    assert out.read_bytes() != first


def test_encode_decode_reconstruct_and_score(
    call: Call, digits_folder: Path, few: Path, tmp_path: Path
) -> None:
    vae = jn.load(digits_folder)
    x = np.load(few)

    def written(command: str, data: Path, ending: str = "npy", *more: object) -> np.ndarray:
        out = tmp_path / f"{command}.{ending}"
        result = call(command, digits_folder, data, "--out", out, "--json", *more).json
        array = np.load(out)
        array = array["x"] if ending == "npz" else array
        assert result == {"out": str(out), "shape": list(array.shape)}
        return array

    latents = written("encode", few)
    assert latents.shape == (20, 3)
    np.testing.assert_allclose(latents, vae.transform(x), rtol=1e-4, atol=1e-4)
    decoded = written("decode", tmp_path / "encode.npy", "npz")
    assert decoded.shape == (20, 8, 8)
    np.testing.assert_allclose(decoded, vae.inverse_transform(latents), rtol=1e-4, atol=1e-2)
    np.testing.assert_allclose(written("reconstruct", few), decoded, rtol=1e-4, atol=1e-2)
    scores = written("score", few, "npy", "--samples", 50)
    assert scores.shape == (20,)
    np.testing.assert_allclose(scores, vae.score_samples(x), atol=5)


def test_tables_keep_their_columns(call: Call, tmp_path: Path, table: Path) -> None:
    out = tmp_path / "run"
    assert call("fit", table, "--target", -1, "--model", "vae", "--out", out, *FAST).code == 0
    assert Run.load(out).schema.columns == ("height", "weight")
    for command in ("sample", "reconstruct"):
        data = () if command == "sample" else (table, "--target", "tall")
        call(command, out, *data, "--out", tmp_path / "x.csv")
        header, *rows = (tmp_path / "x.csv").read_text(encoding="utf8").splitlines()
        assert header == "height,weight"
        assert len(rows) == (64 if command == "sample" else 80)
    call("score", out, table, "--target", "2", "--samples", 3, "--out", tmp_path / "s.csv")
    header, *rows = (tmp_path / "s.csv").read_text(encoding="utf8").splitlines()
    assert header == "log_prob,standard_error"
    assert len(rows) == 80
    # Images are flattened in a .csv.
    call("encode", out, table, "--target", "tall", "--out", tmp_path / "z.csv")
    latents = np.loadtxt(tmp_path / "z.csv", delimiter=",")
    assert latents.shape == (80, 3)


def test_images_in_a_table(call: Call, digits_folder: Path, tmp_path: Path) -> None:
    call("sample", digits_folder, "-n", 2, "--out", tmp_path / "x.csv")
    assert np.loadtxt(tmp_path / "x.csv", delimiter=",").shape == (2, 64)


def test_resume(call: Call, tmp_path: Path, few: Path) -> None:
    arguments = ("fit", few, "--model", "vae", "--out", tmp_path / "run", *FAST)
    assert call(*arguments).code == 0
    assert "--resume" in call(*arguments).fault()
    assert call(*arguments, "--resume", "--json").json["status"] == "finished"
    assert "seed is 0, now it is 1" in call(*arguments, "--resume", "--seed", 1).fault()


def test_same_seed_same_weights(call: Call, tmp_path: Path, few: Path) -> None:
    weights = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        call("fit", few, "--model", "vae", "--out", tmp_path / name, *FAST, "--seed", seed)
        weights.append((tmp_path / name / "weights.safetensors").read_bytes())
    assert weights[0] == weights[1] != weights[2]


def test_models(call: Call) -> None:
    listing = call("models")
    assert listing.code == 0
    content = call("models", "--json").json
    assert list(content) == list(RECIPES)
    for name in RECIPES:
        assert name in listing.out
        assert set(content[name]["options"]) == set(RECIPES[name].config_type.model_fields)
    assert content["beta-vae"]["options"]["beta"]["default"] == 4.0
    assert content["iwae"]["options"]["bound"] == {
        "default": "iwae",
        "description": "bound that is maximised",
        "choices": ["elbo", "iwae", "renyi"],
    }
    one = call("models", "vae")
    assert "latent_dim" in one.out
    assert "did you mean 'vae'" in call("models", "vea").fault()


def test_data(call: Call) -> None:
    content = call("data", "--json").json
    assert list(content) == list(KNOWN)
    assert content["digits"]["splits"] == {"train": 1297, "valid": 250, "test": 250}
    assert content["digits"]["licence"]
    listing = call("data")
    assert listing.code == 0
    assert "digits" in listing.out


def test_report(call: Call, digits_folder: Path, few: Path) -> None:
    result = call("report", digits_folder, "--data", few, "--json").json
    page = Path(result["report"])
    assert page == digits_folder / "report.html"
    assert page.read_text(encoding="utf8").lstrip().lower().startswith("<!doctype html")
    page.unlink()


def test_demo(call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(actions, "DEMO", {"hidden": 8, "latent_dim": 2, "epochs": 1})
    monkeypatch.setattr(
        actions, "load", lambda name, split="train": load("digits", "valid" if split == "train" else split)
    )
    result = call("demo", "--out", tmp_path / "demo", "--json").json
    assert {"elbo", "nll", "bits_per_dim", "run", "report"} <= set(result)
    assert result["n"] == 250
    assert Path(result["report"]).exists()
    kept = json.loads((tmp_path / "demo" / "evaluations.json").read_text(encoding="utf8"))["evaluations"]
    assert [e["nll"] for e in kept] == [result["nll"]]
    # A second call finds the fit done and gives the same numbers.
    assert call("demo", "--out", tmp_path / "demo", "--json").json == result


def test_version_and_help(call: Call) -> None:
    assert call("--version").out.strip() == jn.__version__
    overview = call("--help")
    assert overview.code == 0
    for command in (
        "demo",
        "fit",
        "evaluate",
        "sample",
        "encode",
        "decode",
        "score",
        "reconstruct",
        "report",
    ):
        assert f"  {command} " in overview.out
        assert call(command, "--help").code == 0
    assert call().code == 2


def test_evaluate_with_the_gap(call: Call, digits_folder: Path, few: Path) -> None:
    # The gap of few data; its numbers are printed, kept, and drawn in the report.
    out = call("evaluate", digits_folder, few, "--samples", 3, "--gap", "--gap-data", 2, "--json").json
    assert out["gap_n"] == 2
    assert out["gap_amortisation"] is not None
    assert out["gap_curve_samples"][0] == 1
    assert len(out["gap_curve_data"]) == len(out["gap_curve_samples"])
    assert out["gap_total"] == pytest.approx(out["gap_data_ais"] - out["gap_data_elbo"])
    (kept,) = Run.load(digits_folder).evaluations
    assert kept["gap_simulated_upper"] == out["gap_simulated_upper"]
    assert "gap_n" not in call("evaluate", digits_folder, few, "--json").json
    assert "--gap-data" in call("evaluate", digits_folder, few, "--gap-data", 0).err
    (digits_folder / "evaluations.json").unlink()


def test_an_interrupt_between_epochs_tells_the_last_bound(
    call: Call, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The epoch that is then begun has no step, so no numbers.
    def interrupt(bar: FitBar, epoch: Epoch) -> None:
        if epoch.status == "running":
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(FitBar, "epoch", interrupt)
    done = call(
        "fit", "digits:valid", "--model", "vae", "--out", tmp_path / "run", "--epochs", 9, "--json"
    ).json
    assert done["status"] == "interrupted"
    assert done["epochs"] == 1
    assert np.isfinite(done["elbo"])


def test_an_interrupted_command_says_so(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(actions, "sample", interrupted)
    done = call("sample", "run", "--out", "x.npy")
    assert (done.code, done.out, done.err) == (1, "", "jensen: interrupted\n")
