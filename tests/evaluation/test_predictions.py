import numpy as np
import pytest
import torch
from scipy import stats
from sklearn import metrics

from jensen import evaluation
from jensen.errors import ConfigError, DataError, ShapeError, SupportError
from jensen.weights import MixturePredictive, RescaledPredictive
from jensen.weights.likelihoods import NormalLikelihood

RNG = np.random.default_rng(0)
P = RNG.dirichlet(np.ones(4), 300)
Y = np.array([RNG.choice(4, p=row) for row in P])


def normal(loc: np.ndarray, scale: float = 1.0) -> MixturePredictive:
    return MixturePredictive(NormalLikelihood(scale), torch.as_tensor(loc)[None, :, None])


def test_numbers_of_a_classifier_beside_scikit_learns() -> None:
    found = evaluation.evaluate_classifier(P, Y)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(Y, P.argmax(1)))
    assert found["nll"] == pytest.approx(metrics.log_loss(Y, P, labels=range(4)))
    squares = np.square(P - np.eye(4)[Y]).sum(1)
    assert found["brier"] == pytest.approx(squares.mean())
    assert found["brier_standard_error"] == pytest.approx(stats.sem(squares))
    assert found["nll_standard_error"] == pytest.approx(stats.sem(-np.log(P[np.arange(300), Y])))


def test_a_class_that_was_ruled_out_costs_everything() -> None:
    found = evaluation.evaluate_classifier([[1.0, 0.0], [0.5, 0.5]], [1, 0])
    assert found["nll"] == np.inf
    assert found["nll_standard_error"] is None


def test_reliability_by_hand() -> None:
    stated = [0.05, 0.15, 0.15, 0.95]
    found = evaluation.reliability(stated, [False, True, False, True], bins=10)
    assert found.count.tolist() == [1, 2, 0, 0, 0, 0, 0, 0, 0, 1]
    assert found.confidence[1] == pytest.approx(0.15)
    assert found.accuracy[[0, 1, 9]].tolist() == [0.0, 0.5, 1.0]
    assert found.standard_error[1] == pytest.approx(0.5 / 2**0.5)
    assert np.isnan(found.accuracy[5])
    error = evaluation.calibration_error(stated, [False, True, False, True], bins=10)
    assert error.value == pytest.approx((0.05 + 2 * 0.35 + 0.05) / 4)


def test_bins_of_one_mass() -> None:
    found = evaluation.reliability(P.max(1), P.argmax(1) == Y, bins=10, binning="mass")
    assert found.count.tolist() == [30] * 10
    same = evaluation.reliability([0.5] * 6, [True] * 6, bins=3, binning="mass")
    assert same.count.sum() == 6
    with pytest.raises(ConfigError, match="at least 1"):
        evaluation.reliability([0.5], [True], bins=0)


def test_the_bias_of_the_calibration_error() -> None:
    """One bin and n predictions of a half: the binned error of a calibrated model is E|k / n - 1/2|."""
    n, repeats = 50, 400
    exact = sum(abs(k / n - 0.5) * stats.binom.pmf(k, n, 0.5) for k in range(n + 1))
    rng = np.random.default_rng(1)
    values, debiased = [], []
    for _ in range(repeats):
        found = evaluation.calibration_error(np.full(n, 0.5), rng.random(n) < 0.5, bins=1, draws=2)
        values.append(found.value)
        debiased.append(found.debiased)
    assert abs(np.mean(values) - exact) < 4 * stats.sem(values)
    # Adding normal noise of the same variance again makes the mean of |noise| larger by sqrt(2).
    assert abs(np.mean(debiased) - (2 - 2**0.5) * exact) < 4 * stats.sem(debiased)
    told = evaluation.calibration_error(np.full(n, 0.5), np.arange(n) < 25, bins=1, draws=4000)
    spread = 0.5 / n**0.5
    assert abs(told.if_calibrated - exact) < 4 * spread / 4000**0.5
    # The bootstrap of |mean| around zero is that of a folded normal.
    assert told.standard_error == pytest.approx(spread * (1 - 2 / np.pi) ** 0.5, rel=0.1)


def test_debiasing_leaves_a_large_error() -> None:
    rng = np.random.default_rng(2)
    found = evaluation.calibration_error(np.full(4000, 0.9), rng.random(4000) < 0.6, bins=15)
    assert found.debiased == pytest.approx(found.value, abs=1e-9)
    assert found.value == pytest.approx(0.3, abs=4 * 0.5 / 4000**0.5)
    assert found.value > 10 * found.if_calibrated


def test_numbers_of_a_regressor() -> None:
    rng = np.random.default_rng(3)
    loc = rng.normal(size=400)
    y = loc + 2 * rng.normal(size=400)
    found = evaluation.evaluate_regressor(normal(loc, 2.0), y)
    away = loc - y
    assert found["rmse"] == pytest.approx(np.sqrt((away**2).mean()))
    assert found["nll"] == pytest.approx(-stats.norm(loc, 2.0).logpdf(y).mean())
    assert found["nll_standard_error"] == pytest.approx(stats.sem(-stats.norm(loc, 2.0).logpdf(y)))
    # Of a normal the mean square has relative variance 2 / n, its root a quarter of that.
    assert found["rmse_standard_error"] == pytest.approx(2.0 / (2 * 400) ** 0.5, rel=0.2)
    assert found["r2"] == pytest.approx(metrics.r2_score(y, loc))
    assert found["coverage_90"] == pytest.approx(np.mean(np.abs(away) < 2 * stats.norm.ppf(0.95)))
    assert found["width_95"] == pytest.approx(4 * stats.norm.ppf(0.975))


def test_numbers_of_a_regressor_of_several_targets() -> None:
    rng = np.random.default_rng(4)
    loc = rng.normal(size=(300, 2))
    scale = np.array([1.0, 5.0])
    y = loc + scale * rng.normal(size=(300, 2))
    inner = MixturePredictive(NormalLikelihood(1.0), torch.tensor(loc / scale)[None])
    found = evaluation.evaluate_regressor(RescaledPredictive(inner, 0.0, torch.tensor(scale)), y)
    assert found["rmse"] == pytest.approx(np.sqrt(((loc - y) ** 2).mean()))
    assert found["rmse_each"] == pytest.approx(np.sqrt(((loc - y) ** 2).mean(0)))
    assert found["r2"] == pytest.approx(metrics.r2_score(y, loc))
    assert found["r2_each"] == pytest.approx(metrics.r2_score(y, loc, multioutput="raw_values"))
    assert found["nll"] == pytest.approx(-stats.norm(loc, scale).logpdf(y).sum(1).mean())
    assert found["coverage_90"] == pytest.approx(np.mean(np.abs(loc - y) < scale * stats.norm.ppf(0.95)))
    assert found["n"] == 300


def test_coverage_of_intervals_that_are_too_narrow() -> None:
    y = np.random.default_rng(4).normal(size=2000)
    found = evaluation.interval_coverage(normal(np.zeros(2000), 0.5), y, [0.95])
    exact = 2 * stats.norm.cdf(0.5 * stats.norm.ppf(0.975)) - 1
    assert abs(found.coverage[0] - exact) < 4 * found.standard_error[0]
    assert found.calibration_error == pytest.approx(0.95 - found.coverage[0])


def test_separation_beside_scikit_learns() -> None:
    rng = np.random.default_rng(5)
    known, unknown = rng.normal(size=80).round(1), (1 + rng.normal(size=50)).round(1)
    found = evaluation.separation(known, unknown)
    labels = np.repeat([0, 1], [80, 50])
    assert found.auroc == pytest.approx(metrics.roc_auc_score(labels, np.concatenate([known, unknown])))
    drawn = [evaluation.separation(rng.normal(size=80), 1 + rng.normal(size=50)).auroc for _ in range(400)]
    assert found.standard_error == pytest.approx(np.std(drawn), rel=0.25)
    assert evaluation.separation([0.0, 1.0], [2.0, 3.0]) == evaluation.Separation(1.0, 0.0)


def test_risk_and_coverage() -> None:
    losses = np.array([0.0, 1.0, 0.0, 1.0])
    perfect = evaluation.risk_coverage(losses, losses)
    assert perfect.risk.tolist() == [0.0, 0.0, 1 / 3, 0.5]
    assert perfect.excess_area == 0
    assert perfect.at(0.5) == 0
    # Without a ranking nothing is won: each coverage has the mean risk.
    blind = evaluation.risk_coverage(losses, np.zeros(4))
    assert blind.risk.tolist() == [0.5] * 4
    worst = evaluation.risk_coverage(losses, -losses)
    assert worst.risk.tolist() == [1.0, 1.0, 2 / 3, 0.5]
    assert worst.excess_area == pytest.approx(np.mean([1, 1, 1 / 3, 0]))


@pytest.mark.parametrize(
    ("p", "y", "error", "words"),
    [
        (P[:, 0], Y, ShapeError, "classes"),
        (P, Y[:5], ShapeError, "class numbers"),
        (2 * P, Y, SupportError, "sum to one"),
        (P, Y + 1, SupportError, "0, ..., 3"),
        (P, Y.astype(str), SupportError, "of type <U"),
    ],
)
def test_bad_probabilities(p: np.ndarray, y: np.ndarray, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        evaluation.evaluate_classifier(p, y)


def test_bad_scores() -> None:
    with pytest.raises(DataError, match="1 of 2 scores are NaN"):
        evaluation.separation([0.0, np.nan], [1.0])
    with pytest.raises(ShapeError, match="one of each"):
        evaluation.risk_coverage([0, 1], [0.5])
    with pytest.raises(ShapeError, match="like the predictions"):
        evaluation.evaluate_regressor(normal(np.zeros(3)), np.zeros(4))
    with pytest.raises(ConfigError, match="between 0 and 1"):
        evaluation.interval_coverage(normal(np.zeros(3)), np.zeros(3), [1.0])
