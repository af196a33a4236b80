from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

import jensen as jn
from jensen import report, runs
from jensen.data import from_array
from jensen.errors import ConfigError, DataError, RunError, ShapeError
from jensen.weights import METHODS

X, Y = load_iris(return_X_y=True)
NAMES = load_iris().target_names[Y]
RNG = np.random.default_rng(0)
LINE = np.linspace(-1, 1, 60)[:, None]
TARGET = 300 + 50 * LINE[:, 0] + 5 * RNG.normal(size=60)

SMALL = {"epochs": 40, "options": {"members": 2}, "random_state": 0}


@pytest.fixture(scope="module")
def classifier() -> jn.BayesianClassifier:
    return jn.BayesianClassifier(epochs=60, random_state=0).fit(X, NAMES)


@pytest.fixture(scope="module")
def regressor() -> jn.BayesianRegressor:
    return jn.BayesianRegressor(method="laplace", hidden=10, epochs=60, random_state=0).fit(LINE, TARGET)


@pytest.mark.parametrize(
    "estimator",
    [
        pytest.param(
            jn.BayesianClassifier(epochs=25, hidden=8, options={"members": 2}), marks=pytest.mark.slow
        ),
        jn.BayesianRegressor(epochs=25, hidden=8, options={"members": 2}),
    ],
    ids=["classifier", "regressor"],
)
def test_scikit_learns_checks(estimator: Any) -> None:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    # Tests check types at run time, which is not what the estimator does on parameters of wrong types.
    failed = [
        (r["check_name"], str(r["exception"]))
        for r in results
        if r["status"] not in ("passed", "skipped")
        and not type(r["exception"]).__module__.startswith(("jaxtyping", "beartype"))
    ]
    assert failed == []
    assert len(results) > 30


def test_labels_come_back(classifier: jn.BayesianClassifier) -> None:
    assert classifier.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    p = classifier.predict_proba(X)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (classifier.predict(X) == classifier.classes_[p.argmax(1)]).all()
    assert classifier.score(X, NAMES) > 0.95


def test_the_distribution_of_a_classifier(classifier: jn.BayesianClassifier) -> None:
    found = classifier.predict_distribution(X)
    assert found.samples == 5
    np.testing.assert_allclose(found.mean.numpy(), classifier.predict_proba(X), rtol=1e-9)
    p = found.cells.probs.numpy()
    disagreement = stats.entropy(p.mean(0), axis=1) - stats.entropy(p, axis=2).mean(0)
    np.testing.assert_allclose(found.mutual_information.numpy(), disagreement, atol=1e-9)


def test_a_regressor_in_the_targets_unit(regressor: jn.BayesianRegressor) -> None:
    mean, std = regressor.predict(LINE, return_std=True)
    # The line was drawn with a noise of 5.
    assert np.abs(mean - (300 + 50 * LINE[:, 0])).mean() < 3
    assert 4 < std.mean() < 8
    found = regressor.predict_distribution(LINE)
    log_prob = found.log_prob(TARGET).numpy()
    np.testing.assert_allclose(log_prob, stats.norm(mean, std).logpdf(TARGET), rtol=1e-6)
    assert regressor.predict(np.array([[4.0]]), return_std=True)[1] > 2 * std.mean()


def test_a_density_of_other_units_changes_by_their_logarithm() -> None:
    one = jn.BayesianRegressor(**SMALL).fit(LINE, TARGET)
    other = jn.BayesianRegressor(**SMALL).fit(LINE, 1000 * TARGET)
    first = one.predict_distribution(LINE).log_prob(TARGET)
    second = other.predict_distribution(LINE).log_prob(1000 * TARGET)
    torch.testing.assert_close(second, first - np.log(1000), atol=1e-4, rtol=0)


@pytest.mark.parametrize("face", [jn.BayesianClassifier, jn.BayesianRegressor])
def test_saved_and_loaded(face: Any, tmp_path: Path) -> None:
    fitted = face(method="dropout", hidden=(6, 5), epochs=3, random_state=3).fit(X, Y)
    fitted.save(tmp_path / "run")
    again = jn.load(tmp_path / "run")
    assert type(again) is face
    assert (again.method, tuple(again.hidden), again.random_state) == ("dropout", (6, 5), 3)
    np.testing.assert_array_equal(again.predict(X), fitted.predict(X))
    np.testing.assert_array_equal(clone(again).fit(X, Y).predict(X), fitted.predict(X))


def test_a_network_of_ones_own(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))
    before = {name: value.clone() for name, value in net.state_dict().items()}
    fitted = jn.BayesianClassifier(net, "map", epochs=30).fit(X, Y)
    assert all(bool((value == before[name]).all()) for name, value in net.state_dict().items())
    fitted.save(tmp_path / "run")
    with pytest.raises(RunError, match="network=net"):
        jn.load(tmp_path / "run")
    again = jn.load(tmp_path / "run", network=net)
    np.testing.assert_array_equal(again.predict_proba(X), fitted.predict_proba(X))
    with pytest.raises(ShapeError, match=r"0\.bias"):
        jn.load(tmp_path / "run", network=nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)))
    jn.BayesianRegressor(epochs=1, **{"random_state": 0}).fit(LINE, TARGET).save(tmp_path / "other")
    with pytest.raises(RunError, match="built from its config"):
        jn.load(tmp_path / "other", network=net)


def test_two_classes_by_one_output() -> None:
    two = Y[:100]
    fitted = jn.BayesianClassifier(nn.Linear(4, 1), "map", epochs=60, random_state=0).fit(X[:100], two)
    assert fitted.predict_proba(X).shape == (150, 2)
    assert fitted.score(X[:100], two) == 1


def test_tokens_of_two_classes_by_one_output() -> None:
    tokens = RNG.integers(0, 5, (40, 3))
    labels = np.where(tokens[:, 0] > 2, "late", "early")
    net = nn.Sequential(nn.Embedding(5, 2), nn.Flatten(), nn.Linear(6, 1))
    fitted = jn.BayesianClassifier(net, "map", epochs=200, random_state=0).fit(tokens, labels)
    assert fitted.score(tokens, labels) == 1
    with pytest.raises(ConfigError, match="samples has to be at least 1, got 0"):
        fitted.predict_distribution(tokens, samples=0)


def test_images_get_convolutions() -> None:
    images = RNG.integers(0, 256, (24, 8, 8)).astype(np.uint8)
    labels = np.arange(24) % 2
    fitted = jn.BayesianClassifier(epochs=2, options={"members": 2}, random_state=0).fit(images, labels)
    assert fitted.run_.config.network == "conv"
    assert fitted.predict_proba(images).shape == (24, 2)
    flat = jn.BayesianClassifier("mlp", epochs=2, random_state=0).fit(images, labels)
    assert flat.predict(images).shape == (24,)


def test_online_learning_goes_on_from_the_posterior() -> None:
    first = jn.BayesianRegressor(method="laplace", hidden=5, epochs=100, random_state=0)
    first.partial_fit(LINE[::2], TARGET[::2])
    before = first.predict(LINE)
    first.partial_fit(LINE[1::2], TARGET[1::2])
    after = first.predict(LINE)
    assert first.run_.about["n"] == 60
    # Weights of a network have no variance that must fall, as those of a line do; but what was learned stays.
    assert 0 < np.abs(after - before).max() < 10
    assert np.abs(after - (300 + 50 * LINE[:, 0])).mean() < 4
    for method in ("ensemble", "swag"):
        assert not hasattr(jn.BayesianRegressor(method=method), "partial_fit")
    online = jn.BayesianClassifier(method="laplace", hidden=5, epochs=30, random_state=0)
    with pytest.raises(DataError, match="no label 2"):
        online.partial_fit(X[:100], Y[:100], classes=[0, 1, 2])
    online.partial_fit(X, NAMES).partial_fit(X[:3], NAMES[:3])
    with pytest.raises(DataError, match="didn't know, such as rose"):
        online.partial_fit(X[:1], ["rose"])


def test_several_targets_have_units_of_their_own(tmp_path: Path) -> None:
    both = np.column_stack([TARGET, -LINE[:, 0]])
    # Powers of two leave the standardised targets as they are, bit for bit.
    units = np.array([4.0, 1 / 1024])
    fitted, scaled = (jn.BayesianRegressor(hidden=5, **SMALL).fit(LINE, y) for y in (both, both * units))
    mean, std = fitted.predict(LINE, return_std=True)
    assert mean.shape == std.shape == (60, 2)
    assert fitted.score(LINE, both) > 0.9
    np.testing.assert_allclose(scaled.predict(LINE), mean * units, rtol=1e-12)
    np.testing.assert_allclose(scaled.predict(LINE, return_std=True)[1], std * units, rtol=1e-12)
    densities = [
        f.predict_distribution(LINE).log_prob(y) for f, y in ((fitted, both), (scaled, both * units))
    ]
    np.testing.assert_allclose(densities[1], densities[0] - np.log(units).sum(), rtol=1e-9)
    data = from_array(LINE, both, exact=True, several=True)
    found, other = (
        runs.judge(f.run_, replace(data, y=y)) for f, y in ((fitted, both), (scaled, both * units))
    )
    np.testing.assert_allclose(other["rmse_each"], np.array(found["rmse_each"]) * units)
    assert other["r2"] == pytest.approx(found["r2"])
    # How doubtful a datum is doesn't depend on the targets' units.
    doubts = [runs.doubts(f.run_, f.predict_distribution(LINE)) for f in (fitted, scaled)]
    np.testing.assert_allclose(doubts[0], doubts[1], rtol=1e-9)
    fitted.save(tmp_path)
    again = jn.load(tmp_path)
    assert np.array_equal(again.predict(LINE), mean)
    page = report.build(again.run_)
    assert "label 2" in page
    assert "targets=" not in page
    assert again.fit(LINE, TARGET).predict(LINE).shape == (60,)


def test_targets_of_several_columns_stay_as_many() -> None:
    both = np.column_stack([TARGET, LINE[:, 0]])
    online = jn.BayesianRegressor(method="laplace", hidden=3, epochs=5, random_state=0).partial_fit(
        LINE, both
    )
    with pytest.raises(DataError, match="wanted 2 targets a datum, as in the first call, got 1"):
        online.partial_fit(LINE, TARGET)
    with pytest.raises(ConfigError, match="each of the 2 targets has a unit of its own"):
        jn.BayesianRegressor(noise_scale=0.3).fit(LINE, both)
    with pytest.raises(ConfigError, match="targets=3, but a datum of array has 2"):
        jn.BayesianRegressor(options={"targets": 3}).fit(LINE, both)


def test_in_a_pipeline() -> None:
    pipeline = make_pipeline(StandardScaler(), jn.BayesianClassifier(**SMALL)).fit(X, Y)
    assert pipeline.score(X, Y) > 0.9


@pytest.mark.slow
def test_every_method_has_a_default_for_small_tables() -> None:
    for method in METHODS:
        options = {"epochs": 2} if "epochs" in METHODS[method].options.model_fields else {}
        fitted = jn.BayesianRegressor(method=method, hidden=3, random_state=0, **options)
        assert np.isfinite(fitted.fit(LINE[:20], TARGET[:20]).predict(LINE)).all(), method


@pytest.mark.parametrize(
    ("estimator", "x", "y", "error", "words"),
    [
        (jn.BayesianClassifier(), X[:50], Y[:50], DataError, "of one class"),
        (jn.BayesianClassifier(method="swagger"), X, Y, ConfigError, "did you mean 'swag'"),
        (jn.BayesianClassifier(options={"member": 3}), X, Y, ConfigError, "did you mean 'members'"),
        (jn.BayesianClassifier("conv"), X, Y, ShapeError, "needs images"),
        (jn.BayesianRegressor(method="pbp", learning_rate=0.1), X, Y, ConfigError, "no option learning_rate"),
        (jn.BayesianRegressor(noise_scale=-1.0), X, Y, ConfigError, "noise_scale"),
        (jn.BayesianRegressor(prior="flat"), X, Y, ConfigError, "flat"),
        (jn.BayesianClassifier(options={"classes": 7}), X, Y, ConfigError, "labels of 3"),
        (jn.BayesianClassifier(options={"network": "own"}), X, Y, ConfigError, "network=net"),
        (
            jn.BayesianClassifier(nn.Linear(4, 5)),
            X,
            Y,
            ShapeError,
            "returns 5 numbers a datum, and there are 3",
        ),
        (jn.BayesianClassifier(nn.LazyLinear(3)), X, Y, ConfigError, "is lazy"),
        (jn.BayesianClassifier(nn.Identity()), X, Y, ConfigError, "Identity has no parameters"),
        (
            jn.BayesianClassifier(prior="scale-mixture", options={"mixture_weight": 2.0}),
            *(X, Y, ConfigError, "mixture_weight between 0 and 1"),
        ),
        (
            jn.BayesianRegressor(noise_scale=0.3, options={"likelihood": "poisson"}),
            *(X, Y, ConfigError, "counts have no noise"),
        ),
    ],
)
def test_bad_input(estimator: Any, x: np.ndarray, y: np.ndarray, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        estimator.fit(x, y)
