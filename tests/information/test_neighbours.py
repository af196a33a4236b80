from math import e, inf, log, pi, sqrt

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import digamma
from sklearn.feature_selection import mutual_info_regression

from jensen.errors import ConfigError, DataError, JensenError, ShapeError
from jensen.information import entropy_from_samples, kl_from_samples, mutual_information_from_samples
from jensen.information.neighbours import _check


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def pairs(rho: float, n: int, dimensions: int = 1) -> tuple[np.ndarray, np.ndarray]:
    x, noise = rng().normal(size=(2, n, dimensions))
    return x, rho * x + sqrt(1 - rho**2) * noise


@pytest.mark.parametrize(
    ("draws", "wanted"),
    [
        (rng().normal(0, 2, 4000), 0.5 * log(2 * pi * e * 4)),
        (rng().uniform(0, 3, 4000), log(3)),
        (rng().exponential(2, 4000), 1 + log(2)),
        (rng().normal(size=(4000, 3)), 1.5 * log(2 * pi * e)),
    ],
)
def test_entropies_of_known_densities(draws: np.ndarray, wanted: float) -> None:
    found = entropy_from_samples(draws)
    assert found.samples == 4000
    # The bias is of the order of (k / n)^(2 / D), in three dimensions about .01 times the curvature.
    bias = 0.0 if draws.ndim == 1 else 0.04
    assert abs(float(found) - wanted) <= 4 * float(found.standard_error) + bias


@pytest.mark.parametrize("dimensions", [1, 3])
def test_divergences_of_normals(dimensions: int) -> None:
    x, y = rng().normal(0.5, 1, (4000, dimensions)), rng().normal(0, 1.5, (5000, dimensions))
    wanted = dimensions * (log(1.5) + (1 + 0.25) / (2 * 1.5**2) - 0.5)
    found = kl_from_samples(x, y)
    # The spread over y adds about as much again as that over x.
    assert abs(float(found) - wanted) <= 6 * float(found.standard_error)


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
@pytest.mark.parametrize("rho", [0.0, 0.6, 0.95])
def test_mutual_information_of_correlated_normals(method: str, rho: float) -> None:
    found = mutual_information_from_samples(*pairs(rho, 3000), method=method)
    assert abs(float(found) + 0.5 * log(1 - rho**2)) <= 4 * float(found.standard_error)
    assert float(found.standard_error) < 0.03


@pytest.mark.parametrize("method", ["ksg1", "ksg2"])
def test_mutual_information_of_vectors(method: str) -> None:
    found = mutual_information_from_samples(*pairs(0.6, 3000, 2), method=method)
    assert abs(float(found) + log(1 - 0.6**2)) <= 4 * float(found.standard_error) + 0.03


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000), st.integers(1, 5), st.booleans())
def test_agrees_with_counting_all_pairs(seed: int, k: int, rounded: bool) -> None:
    """Counts by sorting and by trees against all differences, also for tied values."""
    x, y = np.random.default_rng(seed).normal(size=(2, 40))
    if rounded:
        x, y = x.round(1), y.round(1)
    dx, dy = np.abs(x[:, None] - x), np.abs(y[:, None] - y)
    distance = np.sort(np.maximum(dx, dy), 1)[:, k]
    terms = []
    for i, radius in enumerate(distance):
        if radius > 0:
            terms.append(digamma(k) - digamma((dx[i] < radius).sum()) - digamma((dy[i] < radius).sum()))
        else:
            both, alone = ((dx[i] == 0) & (dy[i] == 0)).sum(), [(dx[i] == 0).sum(), (dy[i] == 0).sum()]
            terms.append(digamma(both) - digamma(alone).sum())
    found = mutual_information_from_samples(x, y, k)
    assert float(found) == pytest.approx(np.mean(terms) + digamma(40), abs=1e-12)
    # Columns of zeros change no distance, but take the way of vectors.
    pad = np.zeros((40, 1))
    vectors = mutual_information_from_samples(np.c_[x, pad], np.c_[y, pad], k)
    assert float(vectors) == pytest.approx(float(found), abs=1e-12)


def test_agrees_with_scikit_learn() -> None:
    """Which scales its columns and adds noise of 1e-10 of their spread."""
    x, y = pairs(0.7, 500)
    wanted = mutual_info_regression(x / x.std(), y[:, 0], n_neighbors=3, random_state=0)[0]
    scaled = mutual_information_from_samples(x / x.std(), y / y.std())
    assert float(scaled) == pytest.approx(wanted, abs=1e-6)


def test_discrete_pairs_have_the_information_of_their_table() -> None:
    draw = rng()
    x = draw.integers(0, 3, 2000)
    y = np.where(draw.random(2000) < 0.7, x, draw.integers(0, 3, 2000))
    counts = np.histogram2d(x, y, bins=3)[0] / 2000
    wanted = (counts * np.log(counts / np.outer(counts.sum(1), counts.sum(0)))).sum()
    for method in ("ksg1", "ksg2"):
        assert float(mutual_information_from_samples(x, y, method=method)) == pytest.approx(wanted, abs=0.005)


def test_a_constant_tells_nothing() -> None:
    assert float(mutual_information_from_samples(np.ones(100), np.ones(100))) == pytest.approx(0, abs=1e-12)


def test_tied_points_give_finite_answers() -> None:
    """Normal values rounded to tenths, so that many coincide: near the entropy of the density all the same."""
    x, y = rng().normal(size=(2, 3000)).round(1)
    assert abs(float(entropy_from_samples(x)) - 0.5 * log(2 * pi * e)) < 0.5
    assert abs(float(kl_from_samples(x, y))) < 0.1
    assert np.isfinite(float(kl_from_samples(x, x)))


def test_counts_of_a_tied_ball() -> None:
    """Points 0 0 0 1 with one neighbour: of the zeros the ball reaches to 1 and holds three, that of 1 reaches 0."""
    found = entropy_from_samples([0.0, 0.0, 0.0, 1.0], k=1)
    wanted = digamma(4) - (3 * digamma(3) + digamma(1)) / 4 + log(2)
    assert float(found) == pytest.approx(wanted, rel=1e-12)


def test_bits_are_nats_over_log_two() -> None:
    x = rng().normal(size=200)
    nats, bits = entropy_from_samples(x), entropy_from_samples(x, unit="bits")
    assert float(bits) == pytest.approx(float(nats) / log(2), rel=1e-14)
    assert float(bits.standard_error) == pytest.approx(float(nats.standard_error) / log(2), rel=1e-14)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: entropy_from_samples([1.0, 1.0, 1.0], k=1), DataError, "all points coincide"),
        (lambda: entropy_from_samples([1.0, inf, 3.0], k=1), DataError, "isn't finite"),
        (lambda: entropy_from_samples([1.0, 2.0]), ShapeError, "at least 4"),
        (lambda: entropy_from_samples(np.zeros((4, 2, 2))), ShapeError, "points as rows"),
        (lambda: entropy_from_samples([1.0, 2.0], k=0), ConfigError, "got 0"),
        (lambda: _check(1.5), ConfigError, "got 1.5"),
        (lambda: kl_from_samples(np.zeros((9, 2)), np.zeros((9, 3))), ShapeError, "2 columns and y has 3"),
        (lambda: mutual_information_from_samples(range(9), range(8)), ShapeError, "come in pairs"),
        (lambda: mutual_information_from_samples([1.0], [2.0], method="ksg"), ConfigError, "did you mean"),
    ],
)
def test_bad_samples_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
