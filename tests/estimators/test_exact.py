from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.decomposition import PCA
from sklearn.decomposition import FactorAnalysis as PeerFactors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import check_estimator

import jensen as jn
from jensen.errors import ConfigError, DataError, ShapeError, SupportError

X = load_iris().data
GAPS = np.where(np.random.default_rng(0).random(X.shape) < 0.2, np.nan, X)
BINARY = (X.mean(0) < X).astype(int)

CHECKED = [
    jn.PPCA(1),
    jn.FactorAnalysis(1, max_iter=50),
    jn.GaussianMixture(2, max_iter=20),
    jn.GaussianMixture(2, "em", max_iter=20),
    jn.BernoulliMixture(2, max_iter=20, binarize=0.0),
    jn.HiddenMarkovModel(2, max_iter=5),
]


@pytest.mark.parametrize("estimator", CHECKED, ids=repr)
def test_scikit_learns_checks(estimator: Any) -> None:
    results = check_estimator(estimator, on_fail=None, on_skip=None)
    # Tests check types at run time, which is not what the estimator does on parameters of wrong types.
    failed = {
        r["check_name"]
        for r in results
        if r["status"] not in ("passed", "skipped")
        and not type(r["exception"]).__module__.startswith(("jaxtyping", "beartype"))
    }
    assert not failed
    assert len(results) > 30


ALL = [
    (jn.PPCA(2, random_state=0), GAPS),
    (jn.PPCA("laplace"), X),
    (jn.FactorAnalysis(1, max_iter=30, random_state=0), GAPS),
    (jn.GaussianMixture(3, random_state=0, max_iter=30), X),
    (jn.GaussianMixture(3, "em", covariance_type="diag", random_state=0, max_iter=30), GAPS),
    (jn.BernoulliMixture(2, random_state=0, max_iter=30), BINARY),
    (jn.HiddenMarkovModel(2, random_state=0, max_iter=10), GAPS),
]


@pytest.mark.parametrize(("estimator", "x"), ALL, ids=lambda value: type(value).__name__)
def test_saved_and_loaded_with_the_right_face(estimator: Any, x: np.ndarray, tmp_path: Path) -> None:
    fitted = clone(estimator).fit(x)
    fitted.save(tmp_path / "run")
    again = jn.load(tmp_path / "run")
    assert type(again) is type(fitted)
    np.testing.assert_array_equal(again.score_samples(x), fitted.score_samples(x))
    np.testing.assert_array_equal(again.lower_bounds_, fitted.lower_bounds_)
    np.testing.assert_array_equal(again.sample(3, random_state=1), fitted.sample(3, random_state=1))
    # It can be fitted again with the same result.
    np.testing.assert_allclose(clone(again).fit(x).score(x), fitted.score(x), rtol=1e-10)
    assert fitted.sample(4).shape == (4, *x.shape[1:])


def test_ppca_beside_scikit_learns_pca() -> None:
    ours, peer = jn.PPCA(2).fit(X), PCA(2, svd_solver="full").fit(X)
    n = len(X)
    np.testing.assert_allclose(np.abs((ours.components_ * peer.components_).sum(1)), 1, rtol=1e-10)
    np.testing.assert_allclose(ours.explained_variance_ * n / (n - 1), peer.explained_variance_, rtol=1e-10)
    assert ours.noise_variance_ * n / (n - 1) == pytest.approx(peer.noise_variance_, rel=1e-10)
    np.testing.assert_allclose(ours.get_covariance() * n / (n - 1), peer.get_covariance(), atol=1e-12)
    # Maximum likelihood is at least as likely.
    assert ours.score(X) >= peer.score(X)
    assert ours.lower_bound_ == pytest.approx(ours.score_samples(X).sum(), rel=1e-10)


def test_factor_analysis_is_as_likely_as_scikit_learns() -> None:
    x = np.random.default_rng(0).normal(size=(200, 2)) @ np.random.default_rng(1).normal(size=(2, 6))
    x = x + np.random.default_rng(2).normal(size=x.shape)
    ours = jn.FactorAnalysis(2, tol=1e-11, max_iter=3000, random_state=0).fit(x)
    peer = PeerFactors(2, tol=1e-10, max_iter=5000, svd_method="lapack").fit(x)
    assert ours.score(x) == pytest.approx(peer.score(x), abs=1e-5)
    np.testing.assert_allclose(ours.get_covariance(), peer.get_covariance(), atol=2e-2)


def test_ppca_shapes_and_posterior() -> None:
    ppca = jn.PPCA(2).fit(X)
    z = ppca.transform(X)
    assert z.shape == (150, 2)
    np.testing.assert_allclose(ppca.posterior(X).mean.numpy(), z)
    np.testing.assert_allclose(ppca.inverse_transform(z), ppca.reconstruct(X))
    with pytest.raises(ShapeError, match=r"\(n, 2\)"):
        ppca.inverse_transform(X)
    assert jn.PPCA("held-out").fit(X).transform(X).shape == (150, 3)


def test_imputing_leaves_observed_cells_and_beats_the_mean() -> None:
    missing = np.isnan(GAPS)
    baseline = (np.nanmean(GAPS, 0) - X)[missing]
    for estimator in (
        jn.PPCA(2, random_state=0),
        jn.GaussianMixture(3, covariance_type="diag", random_state=0),
        jn.GaussianMixture(3, random_state=0),
    ):
        filled = estimator.fit(GAPS).impute(GAPS)
        np.testing.assert_array_equal(filled[~missing], GAPS[~missing])
        assert ((filled - X)[missing] ** 2).mean() < 0.5 * (baseline**2).mean()


def test_mixture_predicts_in_a_pipeline() -> None:
    pipeline = make_pipeline(StandardScaler(), jn.GaussianMixture(3, "em", random_state=0)).fit(X)
    labels, shares = pipeline.predict(X), pipeline.predict_proba(X)
    np.testing.assert_array_equal(labels, shares.argmax(1))
    np.testing.assert_allclose(shares.sum(1), 1)
    # The first fifty irises stand apart.
    assert len(set(labels[:50])) == 1
    assert labels[0] not in labels[50:]


def test_lectures_mixture_finds_three_centres() -> None:
    rng = np.random.default_rng(0)
    x = (np.repeat([-6.0, 0.0, 5.0], 200) + rng.normal(size=600))[:, None]
    mixture = jn.GaussianMixture(3, covariance_type="unit", random_state=0).fit(x)
    # Standard error of each centre is 1 / sqrt(200).
    np.testing.assert_allclose(np.sort(mixture.means_[:, 0]), [-6, 0, 5], atol=4 / 200**0.5)
    np.testing.assert_allclose(mixture.weights_, 1 / 3)
    assert np.diff(mixture.lower_bounds_).min() > -1e-9


def test_the_number_of_latents_is_chosen_where_cells_are_missing() -> None:
    assert jn.PPCA("held-out", max_iter=20).fit(GAPS[:40]).transform(GAPS).shape[1] in (1, 2, 3)
    with pytest.raises(DataError, match="'held-out'"):
        jn.PPCA("laplace").fit(GAPS)


@pytest.mark.parametrize("model", [jn.PPCA(2), jn.FactorAnalysis(2), jn.GaussianMixture(2)], ids=str)
def test_squares_beyond_all_numbers(model: Any) -> None:
    with pytest.raises(DataError, match="rescale"):
        clone(model).fit(X * 1e200)


def test_latents_have_names() -> None:
    """set_output is there once the columns that come out have names."""
    for model, name in ((jn.PPCA(2), "ppca"), (jn.FactorAnalysis(2), "factoranalysis")):
        out = model.set_output(transform="polars").fit(X).transform(X)
        assert list(out.columns) == list(model.get_feature_names_out()) == [f"{name}0", f"{name}1"]


def test_sequences_in_a_list() -> None:
    hmm = jn.HiddenMarkovModel(2, random_state=0).fit([[0.1, 0.2, 5.1, 4.9], [5.0, 5.2], [0.3, 0.1, 0.0]])
    path = hmm.predict([[0.0, 0.1, 5.0, 5.1], [5.0]])
    assert path[0, 0] == path[0, 1] != path[0, 2]
    assert path[1].tolist() == [path[0, 2], -1, -1, -1]
    assert hmm.predict_proba([[0.0, 0.1, 5.0, 5.1]]).shape == (1, 4, 2)
    assert hmm.transition_.shape == (2, 2)
    with pytest.raises(DataError, match="length 0"):
        hmm.fit([[1.0], []])


def test_later_sequences_have_lengths_of_their_own() -> None:
    rng = np.random.default_rng(0)
    states = np.repeat([0, 1, 0, 1], 10)
    x = (4 * states[:, None] + rng.normal(size=(40, 2)))[None]
    hmm = jn.HiddenMarkovModel(2, random_state=0).fit(x)
    assert hmm.covariances_ is not None
    np.testing.assert_allclose(hmm.covariances_, np.broadcast_to(np.eye(2), (2, 2, 2)), atol=1.0)
    # The chain goes one way in time, so what comes later doesn't change the density of what comes first.
    short, long = x[:, :7], np.concatenate([x, x], 1)
    for part in (short, long):
        emission = np.stack(
            [
                multivariate_normal(m, c).logpdf(part[0])
                for m, c in zip(hmm.means_, hmm.covariances_, strict=True)
            ],
            1,
        )
        log = np.log(hmm.start_) + emission[0]
        for row in emission[1:]:
            log = logsumexp(log[:, None] + np.log(hmm.transition_), axis=0) + row
        value = pytest.approx(logsumexp(log), rel=1e-9)
        assert hmm.score_samples(part)[0] == value
        assert hmm.score_samples([part[0]])[0] == value
        assert hmm.predict([part[0]]).shape == (1, part.shape[1])
    with pytest.raises(DataError, match="shape"):
        hmm.score_samples([x[0, :, :1]])
    assert jn.HiddenMarkovModel(2, emissions="poisson").fit([[1, 0, 3], [2]]).covariances_ is None
    symbols = jn.HiddenMarkovModel(2, emissions="categorical", symbols=5, random_state=0).fit(
        [[0, 1, 1], [2]]
    )
    # None of it was seen: all that its probability has is what keeps it from zero.
    assert -700 < symbols.score_samples([[4]])[0] < -20


def test_one_long_sequence_is_enough() -> None:
    rng = np.random.default_rng(0)
    states = np.repeat([0, 1, 0, 1], 60)
    hmm = jn.HiddenMarkovModel(2, random_state=0).fit((4 * states + rng.normal(size=240))[None])
    assert len(set(hmm.predict([(4 * states).tolist()])[0, :60])) == 1
    np.testing.assert_allclose(np.sort(hmm.means_[:, 0]), [0, 4], atol=4 / 120**0.5)
    for empty in ([], [[]], [[], []]):
        with pytest.raises(DataError, match=r"length 0|no sequences"):
            hmm.fit(empty)


@pytest.mark.parametrize(
    ("estimator", "x", "words"),
    [
        (jn.GaussianMixture(4, "em", random_state=0), np.repeat(X[::50], 9, 0), "of 4 components"),
        (
            jn.GaussianMixture(3, "em", covariance_type="diag", random_state=0),
            np.repeat(X[::50], 9, 0),
            "3 of 3",
        ),
        (jn.FactorAnalysis(1, random_state=0), np.column_stack([X, np.ones(150)]), "1 of 5 noise terms"),
        (jn.FactorAnalysis(1, "gradient", random_state=0), np.column_stack([X, np.ones(150)]), "noise terms"),
        (jn.PPCA(1, solver="em", random_state=0), np.repeat(X[::75], 9, 0), "1 of 1 noise terms"),
        (jn.HiddenMarkovModel(2, random_state=0), np.repeat([[0.0, 1.0, 0.0, 1.1]], 5, 0), "1 of 2 states"),
        (jn.GaussianMixture(3, "em", random_state=0), X, None),
        (jn.GaussianMixture(4, random_state=0), np.repeat(X[::50], 9, 0), None),
        (jn.PPCA(2), X, None),
    ],
)
def test_an_answer_at_its_floor_is_labelled(estimator: Any, x: np.ndarray, words: str | None) -> None:
    note = clone(estimator).fit(x).note_
    assert note == "" if words is None else words in note


AWKWARD = {
    "a column twice": np.column_stack([X, 2 * X[:, 0]]),
    "few points often": np.repeat(X[::30], 12, 0),
    "a constant column": np.column_stack([X, np.ones(len(X))]),
    "a row without cells": np.where(np.arange(len(X))[:, None] == 3, np.nan, X),
    "fewer than components": X[:3],
}


@pytest.mark.parametrize("name", AWKWARD)
@pytest.mark.parametrize(
    "estimator",
    [
        jn.PPCA(1),
        jn.PPCA(1, solver="em"),
        jn.PPCA(1, solver="gradient", max_iter=30),
        jn.FactorAnalysis(1, max_iter=30),
        jn.GaussianMixture(5, max_iter=30),
        jn.GaussianMixture(3, "em", max_iter=30),
        jn.GaussianMixture(3, "em", covariance_type="tied", max_iter=30),
        jn.GaussianMixture(5, covariance_type="diag", max_iter=30),
        jn.GaussianMixture(5, "plain-gradient", covariance_type="unit", max_iter=30),
        jn.HiddenMarkovModel(2, max_iter=10),
    ],
    ids=repr,
)
def test_awkward_data_have_an_answer(estimator: Any, name: str) -> None:
    x = AWKWARD[name]
    if isinstance(estimator, jn.HiddenMarkovModel):
        x = x[~np.isnan(x).all(1)]
    fitted = clone(estimator).set_params(random_state=0).fit(x)
    assert np.isfinite(fitted.score(x))
    assert np.isfinite(fitted.sample(5)).all()
    # Where a variance is at its floor, digits of the bound are lost.
    assert np.diff(fitted.lower_bounds_).min(initial=0) > -1e-7 * np.abs(fitted.lower_bounds_).max()


@pytest.mark.parametrize(
    ("estimator", "x", "error", "words"),
    [
        (jn.PPCA(4), X, ConfigError, "less than that of a datum's cells"),
        (jn.PPCA(2, solver="eig"), X, ConfigError, "eigh"),
        (jn.PPCA(2, solver="eigh"), GAPS, DataError, "solver='em'"),
        (jn.GaussianMixture(200, "em"), X, DataError, "n_samples = 150"),
        (jn.GaussianMixture(2, "em", covariance_type="unit"), X, ConfigError, "cavi"),
        (jn.GaussianMixture(2, covariance_type="tied"), X, ConfigError, "em"),
        (jn.GaussianMixture(2, "em", weights="dirichlet"), X, ConfigError, "priors"),
        (jn.BernoulliMixture(2), X, SupportError, "binary"),
        (jn.HiddenMarkovModel(2, emissions="poisson"), X, SupportError, "normal"),
        (jn.PPCA(1), np.where(np.arange(4) == 1, np.nan, X), DataError, "column 1"),
        (jn.FactorAnalysis(1), np.where(np.arange(4) == 1, np.nan, X), DataError, "column 1"),
        (jn.GaussianMixture(2), np.where(np.arange(4) == 1, np.nan, X), DataError, "column 1"),
        (jn.BernoulliMixture(2), np.where(np.arange(4) == 1, np.nan, BINARY), DataError, "column 1"),
        (jn.PPCA(1), X[:2], DataError, "subspace"),
        (jn.PPCA(2), np.repeat(X[:2], 9, 0), DataError, "subspace"),
        (jn.PPCA(1, solver="em"), np.ones((9, 3)), DataError, "all data are the same"),
        (
            jn.HiddenMarkovModel(2),
            np.where(np.arange(len(X))[:, None] == 3, np.nan, X),
            DataError,
            "sequence 3",
        ),
    ],
)
def test_bad_input(estimator: Any, x: np.ndarray, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        estimator.fit(x)


def test_a_row_without_cells_counts_for_nothing() -> None:
    x = GAPS.copy()
    x[7] = np.nan
    ppca = jn.PPCA(2, random_state=0).fit(x)
    assert ppca.score_samples(x)[7] == 0
    np.testing.assert_allclose(ppca.impute(x)[7], ppca.mean_)
