import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import rosen, rosen_der
from scipy.stats import multivariate_normal
from sklearn.decomposition import PCA
from sklearn.decomposition._pca import _assess_dimension

from jensen.bounds import elbo, iwae
from jensen.errors import ConfigError, DataError
from jensen.models import ppca, quasi_newton
from jensen.models.factor_analysis import factor_analysis
from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.linear_gaussian_em import SMALLEST_NOISE, em
from jensen.models.progress import Iteration
from jensen.models.quasi_newton import descend
from jensen.models.rows import Rows

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 3)) @ RNG.normal(size=(3, 6)) + 0.3 * RNG.normal(size=(80, 6)) + 5
GAPS = np.where(RNG.random(X.shape) < 0.3, np.nan, X)
GAPS[3] = np.nan


def solved(
    solver: Callable[..., Iterator[Iteration]] = ppca.eigh,
    x: np.ndarray = X,
    m: int = 2,
    *,
    shared: bool = True,
    **options: Any,
) -> LinearGaussian:
    model = LinearGaussian(m, x.shape[1:], shared_noise=shared)
    torch.manual_seed(0)
    for _ in solver(model, Rows(x), **options):
        pass
    return model


def test_likelihood_equals_scipys_dense_normal() -> None:
    model = solved()
    dense = multivariate_normal(model.mean.numpy(), model.covariance().numpy()).logpdf(X)
    np.testing.assert_allclose(model.log_prob(torch.from_numpy(X)).numpy(), dense, rtol=1e-10)


def test_closed_form_is_stationary_and_maximal() -> None:
    model = solved()
    parts = [p.data.clone().requires_grad_() for p in (model.factor, model.mean, model.noise_variance)]
    for part, name in zip(parts, ("factor", "mean", "noise_variance"), strict=True):
        delattr(model, name)
        setattr(model, name, part)
    best = model.log_prob(torch.from_numpy(X)).sum()
    for slope in torch.autograd.grad(best, parts):
        assert float(slope.abs().max()) < 1e-8


def test_components_and_noise_are_those_of_scikit_learn() -> None:
    model, peer = solved(), PCA(2, svd_solver="full").fit(X)
    n = len(X)
    assert float(model.noise_variance) * n / (n - 1) == pytest.approx(peer.noise_variance_, rel=1e-10)
    axes = (model.factor / model.factor.norm(dim=0)).T.numpy()
    np.testing.assert_allclose(np.abs((axes * peer.components_).sum(1)), 1, rtol=1e-10)


def test_posterior_is_that_of_the_joint_normal() -> None:
    model = solved()
    whole, factor = model.covariance(), model.factor.data
    gain = factor.T @ torch.linalg.inv(whole)
    q = model.encode(torch.from_numpy(X))
    torch.testing.assert_close(q.mean, (torch.from_numpy(X) - model.mean) @ gain.T, rtol=1e-9, atol=1e-11)
    expected = torch.eye(2, dtype=torch.float64) - gain @ factor
    torch.testing.assert_close(q.covariance_matrix[5], expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("observed", [X, GAPS])
def test_every_bound_equals_the_evidence(observed: np.ndarray) -> None:
    model, x = solved(), torch.from_numpy(observed)
    exact = model.log_prob(x)
    terms = model.terms(x, observed=~x.isnan(), samples=3)
    torch.testing.assert_close(elbo(terms), exact, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(iwae(terms), exact, rtol=1e-9, atol=1e-9)


def test_missing_cells_are_marginalised() -> None:
    model, x = solved(), torch.from_numpy(GAPS)
    value, q, filled = model.log_prob(x), model.encode(x), model.impute(x)
    whole, mean = model.covariance().numpy(), model.mean.numpy()
    for i, row in enumerate(GAPS):
        seen = ~np.isnan(row)
        if not seen.any():
            assert float(value[i]) == 0
            torch.testing.assert_close(q.mean[i], torch.zeros(2, dtype=torch.float64))
            np.testing.assert_allclose(filled[i].numpy(), mean)
            continue
        part = whole[seen][:, seen]
        assert float(value[i]) == pytest.approx(
            multivariate_normal(mean[seen], part).logpdf(row[seen]), rel=1e-9
        )
        expected = mean + whole[:, seen] @ np.linalg.solve(part, row[seen] - mean[seen])
        np.testing.assert_allclose(filled[i].numpy(), np.where(seen, row, expected), rtol=1e-9)


@pytest.mark.parametrize("solver", [em, ppca.gradient])
def test_iterative_solvers_reach_the_closed_form(solver: object) -> None:
    best = float(solved().log_prob(torch.from_numpy(X)).mean())
    options = {"tolerance": 1e-12} if solver is em else {}
    found = solved(solver, **options)
    assert float(found.log_prob(torch.from_numpy(X)).mean()) == pytest.approx(best, abs=1e-8)


def test_the_gradient_solver_tells_of_each_iteration_and_can_be_left() -> None:
    threads = threading.active_count()
    model = LinearGaussian(2, (6,))
    steps = ppca.gradient(model, Rows(X))
    x = torch.from_numpy(X)
    for _ in range(2):
        bound = next(steps).bound
        assert bound == pytest.approx(float(model.log_prob(x).mean()), rel=1e-12)
    assert isinstance(steps, Generator)
    steps.close()
    assert threading.active_count() == threads

    def broken(place: np.ndarray) -> tuple[float, np.ndarray]:
        raise DataError("no")

    with pytest.raises(DataError, match="no"):
        next(descend(broken, np.zeros(1), lowest=np.zeros(1), iterations=3, tolerance=1e-9))
    assert threading.active_count() == threads


def test_steps_that_are_collected_as_garbage_by_the_search_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    threads, made, closed = threading.active_count(), list[int](), list[bool]()
    held: list[Generator[quasi_newton.Step]] = []
    forgotten, plain = threading.Event(), quasi_newton.Step

    def counted(*arguments: Any) -> quasi_newton.Step:
        made.append(1)
        return plain(*arguments)

    monkeypatch.setattr(quasi_newton, "Step", counted)

    def rosenbrock(place: np.ndarray) -> tuple[float, np.ndarray]:
        if len(made) == 2 and not closed:
            assert forgotten.wait(30)
            held.pop().close()
            closed.append(True)
        return float(rosen(place)), rosen_der(place)

    steps = descend(rosenbrock, -np.ones(4), lowest=-5 * np.ones(4), iterations=90, tolerance=1e-9)
    assert isinstance(steps, Generator)
    held.append(steps)
    assert next(steps).value < rosen(-np.ones(4))
    forgotten.set()
    for _ in range(300):
        if threading.active_count() == threads:
            break
        time.sleep(0.1)
    assert closed
    assert threading.active_count() == threads
    # The step in which it was forgotten is the last one.
    assert len(made) == 3


def test_noise_of_a_constant_cell_stops_at_its_floor() -> None:
    x = np.column_stack([X, np.ones(len(X))])
    for solver in (em, ppca.gradient):
        model = LinearGaussian(1, (7,), shared_noise=False)
        torch.manual_seed(0)
        for _ in solver(model, Rows(x), iterations=300):
            pass
        assert bool((model.noise_variance >= SMALLEST_NOISE * x.var(0)[:6].min() * 0.99).all())


def test_em_with_gaps_climbs_to_a_stationary_point() -> None:
    model = LinearGaussian(2, (6,))
    torch.manual_seed(0)
    bounds = [i.bound for i in em(model, Rows(GAPS, cells=60), tolerance=1e-12, iterations=3000)]
    assert min(np.diff(bounds)) > -1e-12
    x = torch.from_numpy(GAPS)
    assert bounds[-1] == pytest.approx(float(model.log_prob(x).mean()), rel=1e-10)
    parts = [p.data.clone().requires_grad_() for p in (model.factor, model.mean, model.noise_variance)]
    for part, name in zip(parts, ("factor", "mean", "noise_variance"), strict=True):
        delattr(model, name)
        setattr(model, name, part)
    for slope in torch.autograd.grad(model.log_prob(x).mean(), parts):
        assert float(slope.abs().max()) < 1e-4


def test_em_without_a_covariance_is_em_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    first = solved(em, iterations=20)
    monkeypatch.setattr("jensen.models.linear_gaussian_em.COVARIANCE_CELLS", 0)
    second = solved(em, iterations=20)
    torch.testing.assert_close(first.covariance(), second.covariance(), rtol=1e-9, atol=1e-9)


def test_wide_data_by_inner_products() -> None:
    wide = RNG.normal(size=(12, 30)) * np.linspace(3, 1, 30)
    model = solved(x=wide, m=3)
    values, vectors = np.linalg.eigh(np.cov(wide.T, bias=True))
    noise = values[:-3].sum() / 27
    expected = (vectors[:, -3:] * (values[-3:] - noise)) @ vectors[:, -3:].T + noise * np.eye(30)
    np.testing.assert_allclose(model.covariance().numpy(), expected, atol=1e-10)


def test_an_array_on_disk_is_read_in_chunks(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    on_disk = np.load(tmp_path / "x.npy", mmap_mode="r")
    torch.testing.assert_close(solved(x=on_disk).covariance(), solved().covariance(), rtol=0, atol=0)


def test_factors_follow_the_columns_units() -> None:
    """In another unit the loadings are others by it, and the likelihood by its logarithm."""
    unit = np.array([1.0, 1e6, 1e-6, 1.0, 1e3, 1.0])
    plain, scaled = (solved(ppca.gradient, x, m=2, shared=False) for x in (X, X * unit))
    wanted = plain.log_prob(torch.from_numpy(X)).numpy() - np.log(unit).sum()
    np.testing.assert_allclose(scaled.log_prob(torch.from_numpy(X * unit)).numpy(), wanted, rtol=1e-4)


@pytest.mark.parametrize("gaps", [False, True])
@pytest.mark.parametrize("shared", [True, False])
def test_more_latents_than_the_data_have_dimensions(gaps: bool, shared: bool) -> None:
    """The likelihood grows until the noise is at its floor, 10^-10 of the data's: W W^T is 10^10 times as large."""
    x = X[:4].copy()
    if gaps:
        x[0, 0] = np.nan
    model = LinearGaussian(5, (6,), shared_noise=shared)
    torch.manual_seed(1)
    steps = list(em(model, Rows(x)))
    bounds = np.array([step.bound for step in steps])
    # What is left is of the rounding of numbers that are 10^10 as large.
    assert np.diff(bounds).min() > -1e-3
    assert "lowest value" in steps[-1].note
    assert float(model.log_prob(torch.from_numpy(x)).mean()) == pytest.approx(bounds[-1], abs=1e-3)


def test_number_of_latents() -> None:
    found = ppca.spectrum(Rows(X))
    ours = [ppca.laplace_evidence(found, m) for m in range(1, 6)]
    theirs = [_assess_dimension(found.values.numpy(), m, len(X)) for m in range(1, 6)]
    np.testing.assert_allclose(ours, theirs, rtol=1e-9)
    assert ppca.choose_by_evidence(found) == ppca.choose_by_held_out(Rows(X)) == 3


def test_the_number_of_latents_is_chosen_with_gaps_too() -> None:
    gaps = X[:40, :5].copy()
    gaps[::4, 0] = gaps[1::5, 4] = np.nan
    assert ppca.choose_by_held_out(Rows(gaps)) == 3
    # Two latents take all variance there is: such a fit says nothing, however likely it makes the data.
    flat = X[:20, :1] * [1.0, 2.0, 3.0, 4.0] + X[:20, 1:2] * [1.0, 0.0, 2.0, -1.0]
    flat[0, 0] = np.nan
    assert ppca.choose_by_held_out(Rows(flat)) == 1


def test_factor_analysis_is_stationary_and_finds_the_noise() -> None:
    rng = np.random.default_rng(1)
    noise = np.array([0.1, 0.5, 1.0, 2.0, 0.3])
    x = rng.normal(size=(4000, 1)) @ rng.normal(size=(1, 5)) * 2 + rng.normal(size=(4000, 5)) * noise**0.5
    model, iterations = factor_analysis(1, (5,), Rows(x), tolerance=1e-12)
    bounds = [i.bound for i in iterations]
    assert min(np.diff(bounds)) > -1e-11
    # A variance of n normal data has a standard error of about sqrt(2 / n) of itself; loadings add to it.
    np.testing.assert_allclose(model.noise_variance.numpy(), noise, rtol=0.15)


@pytest.mark.parametrize(
    ("x", "m", "error", "words"),
    [
        (np.ones((20, 3)), 1, DataError, "subspace"),
        (RNG.normal(size=(3, 9)), 2, DataError, "subspace"),
        (np.outer(np.arange(9.0), [1.0, 2.0, 3.0]), 1, DataError, "subspace"),
        (X[:1], 2, DataError, "1"),
        (X, 6, ConfigError, "less than that of a datum's cells"),
        (GAPS, 2, DataError, "solver='em'"),
    ],
)
def test_bad_input(x: np.ndarray, m: int, error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        solved(x=x, m=m)


def test_a_column_that_is_missing_entirely() -> None:
    x = X.copy()
    x[:, 2] = np.nan
    with pytest.raises(DataError, match="column 2"):
        solved(em, x)
