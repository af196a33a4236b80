from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

import jensen as jn
from cli.calling import Call

X = load_iris().data
GAPS = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)


@pytest.fixture
def gaps(tmp_path: Path) -> Path:
    path = tmp_path / "gaps.npy"
    np.save(path, GAPS)
    return path


def test_the_commands_by_ppca(call: Call, gaps: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    result = call("fit", gaps, "--model", "ppca", "--out", run, "--set", "latent_dim=2", "--json").json
    assert (result["model"], result["status"]) == ("ppca", "finished")
    model = jn.load(run)
    assert isinstance(model, jn.PPCA)
    assert result["elbo"] == pytest.approx(model.score(GAPS), rel=1e-9)

    numbers = call("evaluate", run, gaps, "--json").json
    assert numbers["nll"] == pytest.approx(-model.score(GAPS), rel=1e-9)
    assert (numbers["nll_standard_error"], numbers["gap"], numbers["n"]) == (0.0, 0.0, 150)

    call("impute", run, gaps, "--out", tmp_path / "full.npy", "--json")
    filled, missing = np.load(tmp_path / "full.npy"), np.isnan(GAPS)
    np.testing.assert_array_equal(filled[~missing], GAPS[~missing])
    np.testing.assert_allclose(filled, model.impute(GAPS))

    call("score", run, gaps, "--out", tmp_path / "s.npy", "--json")
    np.testing.assert_allclose(np.load(tmp_path / "s.npy"), model.score_samples(GAPS))
    call("encode", run, gaps, "--out", tmp_path / "z.npy", "--json")
    np.testing.assert_allclose(np.load(tmp_path / "z.npy"), model.transform(GAPS))
    call("decode", run, tmp_path / "z.npy", "--out", tmp_path / "x.npy", "--json")
    np.testing.assert_allclose(np.load(tmp_path / "x.npy"), model.reconstruct(GAPS), rtol=1e-5)
    call("reconstruct", run, gaps, "--out", tmp_path / "r.npy", "--json")
    np.testing.assert_allclose(np.load(tmp_path / "r.npy"), model.reconstruct(GAPS))
    assert call("sample", run, "-n", 5, "--out", tmp_path / "d.npy", "--json").json["shape"] == [5, 4]


def test_what_components_and_states_stand_for(call: Call, gaps: Path, tmp_path: Path) -> None:
    x = np.concatenate([GAPS[:20], np.full((10, 4), np.nan), GAPS[50:80], GAPS[:40]]).reshape(-1, 20, 4)
    x[0, 15:] = np.nan
    np.save(tmp_path / "sequences.npy", x)
    for model, data, shape in (("mixture", gaps, (150, 5)), ("hmm", tmp_path / "sequences.npy", (5, 20, 3))):
        run = tmp_path / model
        call("fit", data, "--model", model, "--epochs", 30, "--out", run, "--json")
        call("encode", run, data, "--out", tmp_path / "z.npy", "--json")
        call("decode", run, tmp_path / "z.npy", "--out", tmp_path / "x.npy", "--json")
        call("reconstruct", run, data, "--out", tmp_path / "r.npy", "--json")
        shares = np.load(tmp_path / "z.npy")
        assert shares.shape == shape
        expected = shares @ jn.load(run).means_
        expected[~(shares.sum(-1) > 0.5)] = np.nan
        np.testing.assert_allclose(np.load(tmp_path / "x.npy"), expected, rtol=1e-12)
        np.testing.assert_allclose(np.load(tmp_path / "r.npy"), expected, rtol=1e-12)
    assert np.isnan(expected[0, 15:]).all()
    assert not np.isnan(expected[0, :15]).any()


@pytest.mark.parametrize(
    ("model", "settings", "picture"),
    [
        ("ppca", [], "Explained variance"),
        ("factor-analysis", ["latent_dim=1"], "Latents"),
        ("mixture", [], "Responsibilities"),
        ("mixture", ["solver=em"], "Responsibilities"),
        ("hmm", [], "State paths"),
    ],
)
def test_a_report_each(
    call: Call, gaps: Path, tmp_path: Path, model: str, settings: list[str], picture: str
) -> None:
    run = tmp_path / "run"
    options = [part for setting in settings for part in ("--set", setting)]
    call("fit", gaps, "--model", model, "--out", run, "--epochs", 30, *options, "--json")
    assert Path(call("report", run, "--json").json["report"]).exists()
    page = (run / "report.html").read_text(encoding="utf8")
    assert f"<h2>{picture}</h2>" in page
    assert "<svg" in page
    assert ("the bars are" in page) == ("latent_dim=1" in settings)
    assert ("is predictive" in page) == (model == "mixture" and not settings)
    assert "nan" not in page.split("</style>")[1]
    assert call("models", model, "--json").json[model]["options"]["epochs"]["description"]


def test_a_table_with_gaps(call: Call, tmp_path: Path) -> None:
    rows = [",".join("" if np.isnan(v) else f"{v}" for v in row) for row in GAPS]
    (tmp_path / "t.csv").write_text("\n".join(["a,b,c,d", *rows]) + "\n", encoding="utf8")
    call(
        "fit",
        tmp_path / "t.csv",
        "--model",
        "mixture",
        "--out",
        tmp_path / "run",
        "--json",
    )
    call("impute", tmp_path / "run", tmp_path / "t.csv", "--out", tmp_path / "full.csv", "--json")
    lines = (tmp_path / "full.csv").read_text(encoding="utf8").splitlines()
    assert lines[0] == "a,b,c,d"
    filled = np.array([[float(v) for v in line.split(",")] for line in lines[1:]])
    np.testing.assert_allclose(filled[~np.isnan(GAPS)], GAPS[~np.isnan(GAPS)])


def test_data_that_stay_on_disk(call: Call, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X.astype(np.float32))
    for model in ("ppca", "mixture"):
        words = ("fit", tmp_path / "x.npy", "--model", model, "--epochs", 20, "--json", "--out")
        streamed = call(*words, tmp_path / f"{model}-disk", "--stream").json
        whole = call(*words, tmp_path / f"{model}-memory", "--no-stream").json
        assert (streamed["streamed"], whole["streamed"]) == (True, False)
        assert streamed["elbo"] == pytest.approx(whole["elbo"], rel=1e-6)
        assert call(*words, tmp_path / f"{model}-disk", "--resume").json["elbo"] == streamed["elbo"]
    chain = call("fit", tmp_path / "x.npy", "--model", "hmm", "--stream", "--out", tmp_path / "h").fault()
    assert "--no-stream" in chain
    np.save(tmp_path / "gaps.npy", GAPS)
    gaps = call("fit", tmp_path / "gaps.npy", "--model", "ppca", "--stream", "--out", tmp_path / "g").fault()
    assert "--no-stream" in gaps


def test_finished_runs_resume_to_themselves(call: Call, gaps: Path, tmp_path: Path) -> None:
    words = ("fit", gaps, "--model", "ppca", "--out", tmp_path / "run", "--json")
    first = call(*words).json
    assert "holds a Run already" in call(*words).fault()
    assert call(*words, "--resume").json["elbo"] == first["elbo"]


def test_faults(call: Call, gaps: Path, tmp_path: Path) -> None:
    assert "missing cells" in call("fit", gaps, "--model", "vae", "--out", tmp_path / "v").fault()
    call("fit", gaps, "--model", "mixture", "--out", tmp_path / "d", "--json")
    np.save(tmp_path / "z.npy", np.ones((3, 2)))
    other = call("decode", tmp_path / "d", tmp_path / "z.npy", "--out", tmp_path / "r.npy").fault()
    assert "responsibilities should have shape (n, 5)" in other
    assert (
        "did you mean" in call("fit", gaps, "--model", "ppca", "--set", "latentdim=2", "--out", "x").fault()
    )


def test_a_collapsed_component_is_told(call: Call, tmp_path: Path) -> None:
    x = np.concatenate([np.random.default_rng(0).normal(size=(40, 2)), np.full((30, 2), 9.0)])
    np.save(tmp_path / "x.npy", x)
    run = tmp_path / "run"
    fitted = call(
        "fit",
        tmp_path / "x.npy",
        "--model",
        "mixture",
        "--set",
        "solver=em",
        "--set",
        "components=2",
        "--out",
        run,
        "--json",
    )
    assert fitted.json["note"].startswith("the variance of 1 of 2 components is at the lowest value allowed")
    call("report", run, "--json")
    assert "The variance of 1 of 2 components" in (run / "report.html").read_text(encoding="utf8")
