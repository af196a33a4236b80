from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_iris

import jensen as jn
from cli.calling import Call
from jensen import runs

X, Y = load_iris(return_X_y=True)
NAMES = load_iris().target_names[Y]


@pytest.fixture
def flowers(tmp_path: Path) -> Path:
    path = tmp_path / "flowers.csv"
    rows = [",".join([*(f"{v}" for v in x), name]) for x, name in zip(X, NAMES, strict=True)]
    path.write_text("\n".join(["a,b,c,d,kind", *rows]) + "\n", encoding="utf8")
    return path


def test_a_classifier_from_a_table(call: Call, flowers: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    words = ("fit", flowers, "--target", "kind", "--model", "bayes-classifier", "--out", run)
    words = (*words, "--set", "members=2", "--set", "hidden=8", "--epochs", 40, "--json")
    result = call(*words).json
    assert (result["status"], result["method"], result["epochs"]) == ("finished", "ensemble", 40)
    assert result["valid"]["n"] == 15
    # A finished fit is given back; another one is refused.
    assert "holds a Run already" in call(*words).fault()
    assert call(*words, "--resume").json["loss"] == result["loss"]

    np.savez(tmp_path / "noise.npz", x=30 * np.random.default_rng(0).normal(size=(40, 4)))
    # The labels' column is remembered.
    numbers = call("evaluate", run, flowers, "--unknown", tmp_path / "noise.npz", "--json").json
    model = jn.load(run)
    assert isinstance(model, jn.BayesianClassifier)
    p = runs.probabilities(runs.predict(model.run_, jn.data.load(flowers, target="kind")))
    assert numbers["accuracy"] == pytest.approx((p.argmax(1) == Y).mean())
    assert numbers["nll"] == pytest.approx(-np.log(p[np.arange(150), Y]).mean(), rel=1e-5)
    assert numbers["brier"] == pytest.approx(np.square(p - np.eye(3)[Y]).sum(1).mean(), rel=1e-5)
    assert 0 <= numbers["ece"] <= 1
    assert 0 <= numbers["unknown_auroc"] <= 1
    assert (numbers["unknown_data"], numbers["unknown_n"]) == ("noise", 40)

    call("predict", run, flowers, "--out", tmp_path / "p.csv", "--json")
    lines = (tmp_path / "p.csv").read_text(encoding="utf8").splitlines()
    assert lines[0] == "p_setosa,p_versicolor,p_virginica,entropy,mutual_information"
    np.testing.assert_allclose(np.loadtxt(lines[1:], delimiter=",")[:, :3], p, rtol=1e-5)

    assert Path(call("report", run, "--json").json["report"]).exists()
    page = (run / "report.html").read_text(encoding="utf8")
    for heading in ("Reliability", "The most uncertain data", "If the most uncertain data were rejected"):
        assert f"<h2>{heading}</h2>" in page
    assert "jensen fit" in page
    assert "--target kind" in page
    assert "--set members=2" in page
    assert "nan" not in page.split("</style>")[1]


def test_predictions_of_several_targets_have_a_column_each(call: Call, tmp_path: Path) -> None:
    x = np.linspace(-1, 1, 30)[:, None]
    fitted = jn.BayesianRegressor(hidden=4, epochs=20, random_state=0).fit(x, np.column_stack([x, 5 - x]))
    fitted.save(tmp_path / "run")
    np.savez(tmp_path / "new.npz", x=x)
    call("predict", tmp_path / "run", tmp_path / "new.npz", "--out", tmp_path / "p.csv", "--json")
    lines = (tmp_path / "p.csv").read_text(encoding="utf8").splitlines()
    each = [f"{name}_{target}" for name in ("mean", "std", "quantile_05", "quantile_95") for target in (1, 2)]
    assert lines[0].split(",") == [*each, "epistemic_std"]
    found = np.loadtxt(lines[1:], delimiter=",")
    mean, std = fitted.predict(x.astype(np.float32), return_std=True)
    np.testing.assert_allclose(found[:, :4], np.column_stack([mean, std]), rtol=1e-4, atol=1e-5)
    assert (found[:, 4:6] < found[:, :2]).all()
    assert (found[:, :2] < found[:, 6:8]).all()


def test_a_regressor_from_arrays(call: Call, tmp_path: Path) -> None:
    run, data = tmp_path / "run", tmp_path / "line.npz"
    x = np.linspace(-1, 1, 60)[:, None]
    y = 100 + 20 * x[:, 0] + np.random.default_rng(0).normal(size=60)
    np.savez(data, x=x, y=y)
    words = ("--model", "bayes-regressor", "--set", "method=laplace", "--set", "structure=full")
    result = call("fit", data, *words, "--set", "hidden=5", "--epochs", 60, "--out", run, "--json").json
    assert result["valid"]["rmse"] < 5
    numbers = call("evaluate", run, data, "--json").json
    mean, std = jn.load(run).predict(x.astype(np.float32), return_std=True)
    assert numbers["rmse"] == pytest.approx(np.sqrt(np.square(mean - y).mean()), rel=1e-4)
    nll = 0.5 * np.log(2 * np.pi * std**2) + 0.5 * ((y - mean) / std) ** 2
    assert numbers["nll"] == pytest.approx(nll.mean(), rel=1e-4)
    assert 0.7 < numbers["coverage_90"] <= 1
    call("report", run, "--data", data, "--json")
    page = (run / "report.html").read_text(encoding="utf8")
    assert "<h2>Predictive intervals</h2>" in page
    assert "may have seen" in page
    assert "nan" not in page.split("</style>")[1]


def test_faults(call: Call, flowers: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit = ("fit", flowers, "--out", run, "--model")
    np.save(tmp_path / "plain.npy", X)
    plain = ("fit", tmp_path / "plain.npy", "--out", run, "--model", "bayes-classifier")
    assert "--target COLUMN" in call(*plain).fault()
    assert "bayes-classifier" in call(*fit, "bayes-regressor", "--target", "kind").fault()
    call(*fit, "bayes-classifier", "--target", "kind", "--epochs", 1, "--set", "members=2", "--json")
    assert "no density" in call("sample", run, "--out", tmp_path / "s.npy").fault()
    assert "no density" in call("score", run, flowers, "--out", tmp_path / "s.npy").fault()
    gaps = flowers.read_text(encoding="utf8").replace("5.1,", ",", 1)
    (tmp_path / "gaps.csv").write_text(gaps, encoding="utf8")
    wrong = call("predict", run, tmp_path / "gaps.csv", "--out", tmp_path / "p.csv").fault()
    assert "missing cells" in wrong
    assert "has text" not in wrong
    (tmp_path / "labels.csv").write_text(gaps.replace(",setosa", ",", 1), encoding="utf8")
    wrong = call("evaluate", run, flowers, "--unknown", tmp_path / "labels.csv").fault()
    assert "missing labels in column 'kind'" in wrong
    assert "--gap belongs" in call("evaluate", run, flowers, "--gap").fault()
    assert (
        "compare holds densities"
        in call("compare", flowers, "--models", "bayes-classifier", "--out", tmp_path / "c").fault()
    )
    call("fit", tmp_path / "plain.npy", "--model", "ppca", "--out", tmp_path / "ppca", "--json")
    assert (
        "--unknown"
        in call(
            "evaluate", tmp_path / "ppca", tmp_path / "plain.npy", "--unknown", tmp_path / "plain.npy"
        ).fault()
    )
    assert (
        "predicts no labels"
        in call("predict", tmp_path / "ppca", flowers, "--out", tmp_path / "p.csv").fault()
    )


def test_the_listing_names_the_methods_options(call: Call) -> None:
    text = call("models", "bayes-classifier").out
    assert "bagging" in text
    assert call("models", "bayes-regressor", "--json").json["bayes-regressor"]["options"]["method"]["choices"]


@pytest.mark.parametrize(("method", "name"), [("pbp", None), ("bayes-by-backprop", "negative_elbo")])
def test_epochs_and_bounds_are_told_by_their_names(
    call: Call, tmp_path: Path, method: str, name: str | None
) -> None:
    x = np.linspace(-1, 1, 30)[:, None]
    np.savez(tmp_path / "line.npz", x=x, y=x[:, 0])
    words = ("--model", "bayes-regressor", "--set", f"method={method}", "--set", "hidden=4", "--epochs", 7)
    result = call("fit", tmp_path / "line.npz", *words, "--out", tmp_path / "run", "--json").json
    assert (result["epochs"], result["loss"]) == (7, None)
    assert name is None or result[name] > 0
    assert Path(call("report", tmp_path / "run", "--json").json["report"]).exists()
