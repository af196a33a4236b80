from collections.abc import Callable
from itertools import product
from math import lgamma, log, pi
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import multigammaln
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture as Peer

from jensen.errors import ConfigError
from jensen.models import mixture_solver
from jensen.models.families import (
    BernoulliCells,
    Dirichlet,
    Family,
    NormalCells,
    NormalFull,
    NormalWishart,
    PoissonCells,
    Sticks,
    Uniform,
    UnitNormal,
    WeightFamily,
    Weights,
)
from jensen.models.mixture import Mixture
from jensen.models.mixture_solver import Settings, climb
from jensen.models.rows import Rows

IRIS = load_iris().data
BINARY = (IRIS.mean(0) < IRIS).astype(float)

FAMILIES: dict[str, tuple[Callable[[int], Family], WeightFamily, np.ndarray]] = {
    "full": (NormalFull, Weights(), IRIS),
    "tied": (lambda d: NormalFull(d, "tied"), Weights(), IRIS),
    "diag": (NormalCells, Weights(), IRIS),
    "spherical": (lambda d: NormalCells(d, "spherical"), Weights(), IRIS),
    "normal-wishart": (NormalWishart, Dirichlet(), IRIS),
    "normal-wishart, sticks": (NormalWishart, Sticks(), IRIS),
    "normal-gamma": (lambda d: NormalCells(d, prior=True), Dirichlet(2.0), IRIS),
    "spherical prior": (lambda d: NormalCells(d, "spherical", prior=True), Dirichlet(), IRIS),
    "unit": (lambda d: UnitNormal(d, 5.0), Uniform(), IRIS),
    "bernoulli": (BernoulliCells, Weights(), BINARY),
    "beta-bernoulli": (lambda d: BernoulliCells(d, 1.0), Dirichlet(), BINARY),
    "poisson": (PoissonCells, Weights(), np.round(IRIS)),
    "gamma-poisson": (lambda d: PoissonCells(d, 1.0), Dirichlet(), np.round(IRIS)),
}


def fitted(
    name: str, x: np.ndarray | None = None, k: int = 3, seed: int = 0, **options: Any
) -> tuple[Mixture, list[float]]:
    family, weights, data = FAMILIES[name]
    x = data if x is None else x
    mixture = Mixture(family(x.shape[1]), weights, k, x.shape[1:])
    settings = Settings(**{"restarts": 2, "tolerance": 1e-8, "iterations": 300, **options})
    steps = list(climb(mixture, Rows(x), settings, torch.Generator().manual_seed(seed)))
    return mixture, [step.bound * len(x) for step in steps]


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("method", ["coordinate", "gradient"])
def test_the_bound_never_decreases(name: str, method: str) -> None:
    _, bounds = fitted(name, method=method, restarts=1)
    assert len(bounds) > 2
    assert min(np.diff(bounds)) > -1e-9


@pytest.mark.parametrize("name", ["full", "tied", "diag", "spherical"])
def test_em_agrees_with_scikit_learn(name: str) -> None:
    mixture, bounds = fitted(name)
    density = mixture.log_prob(torch.from_numpy(IRIS))
    # The bound of maximum likelihood is the likelihood itself.
    assert float(density.sum()) == pytest.approx(bounds[-1], rel=1e-9)
    mean, covariance = mixture.predictive.mean.numpy(), mixture.predictive.covariance.numpy()
    precision = np.linalg.inv(covariance)
    shaped = {"full": precision, "tied": precision[0], "diag": np.diagonal(precision, axis1=1, axis2=2)}
    shaped["spherical"] = precision[:, 0, 0]
    start = {"means_init": mean, "weights_init": mixture.weights.numpy(), "precisions_init": shaped[name]}
    with pytest.warns(ConvergenceWarning):
        peer = Peer(3, covariance_type=name, reg_covar=0, max_iter=1, **start).fit(IRIS)
    np.testing.assert_allclose(peer.means_, mean, atol=1e-3)
    assert float(density.mean()) == pytest.approx(peer.score(IRIS), abs=1e-6)


@pytest.mark.parametrize(
    ("name", "published"), [("full", -180.1858), ("tied", -256.3547), ("diag", -307.1808)]
)
def test_iris_is_as_likely_as_others_publish(name: str, published: float) -> None:
    """Of mclust and Mplus, in the tests of tidyLPA; for "diag" there is a higher maximum than theirs."""
    found = fitted(name, restarts=20, tolerance=1e-9, iterations=2000)[1][-1]
    assert published - 1e-3 < found < published + (0.5 if name == "diag" else 1e-3)


@pytest.mark.parametrize("name", ["normal-wishart", "unit", "beta-bernoulli", "normal-wishart, sticks"])
def test_all_solvers_climb_the_same_bound(name: str) -> None:
    best = fitted(name)[1][-1]
    assert fitted(name, method="gradient")[1][-1] == pytest.approx(best, abs=0.1)
    stochastic = max(fitted(name, method="stochastic", batch_size=50, iterations=200)[1])
    assert best - 3 < stochastic < best + 0.1


def test_plain_gradients_climb_to_the_same_place() -> None:
    best, bounds = fitted("unit")[1], fitted("unit", method="plain-gradient", step=30.0)[1]
    # The first step is far too long, and isn't taken.
    assert min(np.diff(bounds)) >= -1e-9
    assert bounds[-1] == pytest.approx(best[-1], abs=0.01)
    with pytest.raises(ConfigError, match="natural"):
        fitted("normal-gamma", method="plain-gradient")


def test_of_many_data_the_best_start_is_chosen_on_a_part(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    x = 6 * rng.normal(size=(4, 2))[rng.integers(0, 4, 2000)] + rng.normal(size=(2000, 2))
    whole = fitted("normal-wishart", x, k=4)[1][-1]
    start, seen = mixture_solver._start, []

    def starts(mixture: Mixture, rows: Rows, *rest: Any) -> torch.Tensor:
        """All but the second have equal components, which nothing tells apart later."""
        found = start(mixture, rows, *rest)
        seen.append(len(rows))
        equal = found.mean(1, keepdim=True).expand_as(found).clone()
        equal[1:2] = found[1:2]
        return equal

    monkeypatch.setattr(mixture_solver, "SUBSET", 500)
    monkeypatch.setattr(mixture_solver, "PART", 100)
    monkeypatch.setattr(mixture_solver, "_start", starts)
    bounds = fitted("normal-wishart", x, k=4, restarts=3)[1]
    assert seen == [500]
    assert min(np.diff(bounds)) > -1e-9
    assert bounds[-1] == pytest.approx(whole, abs=0.01)
    assert fitted("normal-wishart", x, k=4, restarts=1)[1][-1] < whole - 1000


def _log_marginal_wishart(x: np.ndarray, prior: NormalWishart) -> float:
    """Log of the integral of N(x | mu, L^-1) over the Normal-Wishart prior, by its normalisers."""
    n, d = x.shape
    if n == 0:
        return 0.0
    beta0, nu0, inverse0 = prior.mean_precision, prior.freedom, prior.inverse_scale.numpy()
    beta, nu = beta0 + n, nu0 + n
    mean0 = prior.moments.centre.numpy()
    away = x.mean(0) - mean0
    scatter = (x - x.mean(0)).T @ (x - x.mean(0))
    inverse = inverse0 + scatter + beta0 * n / beta * np.outer(away, away)
    return float(
        -n * d / 2 * log(pi)
        + multigammaln(nu / 2, d)
        - multigammaln(nu0 / 2, d)
        + nu0 / 2 * np.linalg.slogdet(inverse0)[1]
        - nu / 2 * np.linalg.slogdet(inverse)[1]
        + d / 2 * log(beta0 / beta)
    )


def _log_marginal_unit(x: np.ndarray, prior_scale: float) -> float:
    n = len(x)
    cov = np.eye(n) + prior_scale**2
    return sum(float(multivariate_normal(np.zeros(n), cov).logpdf(column)) for column in x.T) if n else 0.0


def _log_marginal_beta(x: np.ndarray) -> float:
    ones, n = x.sum(0), len(x)
    return float(sum(lgamma(1 + k) + lgamma(1 + n - k) - lgamma(2 + n) for k in ones))


def _evidence(x: np.ndarray, k: int, marginal: Callable[[np.ndarray], float], alpha: float | None) -> float:
    """Log p(x) by a sum over all assignments; uniform weights if alpha is None, else Dirichlet ones."""
    logs = []
    for assignment in product(range(k), repeat=len(x)):
        labels = np.array(assignment)
        counts = np.bincount(labels, minlength=k)
        if alpha is None:
            prior = -len(x) * log(k)
        else:
            prior = lgamma(k * alpha) - lgamma(k * alpha + len(x))
            prior += sum(lgamma(alpha + c) - lgamma(alpha) for c in counts)
        logs.append(prior + sum(marginal(x[labels == j]) for j in range(k)))
    return float(np.logaddexp.reduce(logs))


def test_the_bound_is_one_on_the_evidence() -> None:
    x = np.random.default_rng(2).normal(size=(7, 2)) + np.array([[4.0, 0]] * 4 + [[0.0, 3]] * 3)
    mixture, bounds = fitted("normal-wishart", x, k=2)
    prior = mixture.components
    assert isinstance(prior, NormalWishart)
    evidence = _evidence(x, 2, lambda some: _log_marginal_wishart(some, prior), 0.5)
    assert evidence - 6 < bounds[-1] < evidence
    _, bounds = fitted("unit", x, k=2)
    evidence = _evidence(x, 2, lambda some: _log_marginal_unit(some, 5.0), None)
    # Clusters far apart leave one assignment and its mirror image, which the bound counts once: log 2.
    assert evidence - log(2) - 0.2 < bounds[-1] < evidence - log(2) + 0.2
    _, bounds = fitted("beta-bernoulli", BINARY[::22], k=2)
    evidence = _evidence(BINARY[::22], 2, _log_marginal_beta, 0.5)
    assert evidence - 4 < bounds[-1] < evidence


@pytest.mark.parametrize("name", ["normal-wishart", "normal-gamma", "spherical prior", "unit"])
def test_one_component_is_exact(name: str) -> None:
    """The posterior is in the family, so that the bound is the evidence, here by the chain rule of predictives."""
    x = np.random.default_rng(3).normal(size=(6, 2)) * 2 + 1
    mixture, bounds = fitted(name, x, k=1)
    family, total = mixture.components, 0.0
    if name == "normal-wishart":
        assert isinstance(family, NormalWishart)
        assert bounds[-1] == pytest.approx(_log_marginal_wishart(x, family), rel=1e-10)
    for i in range(len(x)):
        sums = family.features(torch.from_numpy(x[:i])).sum(1)[None]
        total += float(family.predictive(sums).log_prob(torch.from_numpy(x[i : i + 1])))
    assert bounds[-1] == pytest.approx(total, rel=1e-9)


@pytest.mark.parametrize("name", ["full", "normal-wishart", "diag", "normal-gamma", "unit"])
def test_missing_cells_in_densities(name: str) -> None:
    mixture, _ = fitted(name)
    x = torch.from_numpy(IRIS[::30].copy())
    x[:, 1] = torch.nan
    # The margin is the integral over the missing cell, by the trapezoidal rule.
    grid = torch.linspace(-40, 40, 20001, dtype=torch.float64)
    for row, value in zip(x, mixture.log_prob(x), strict=True):
        wide = row.repeat(len(grid), 1)
        wide[:, 1] = grid
        density = mixture.log_prob(wide).exp()
        assert float(value.exp()) == pytest.approx(float(torch.trapezoid(density, grid)), rel=2e-3)
        mean = float(torch.trapezoid(density * grid, grid)) / float(value.exp())
        assert float(mixture.impute(row[None])[0, 1]) == pytest.approx(mean, abs=0.02)
    assert torch.equal(mixture.impute(x)[:, 0], x[:, 0])


@pytest.mark.parametrize("method", ["coordinate", "gradient"])
@pytest.mark.parametrize("name", [name for name in FAMILIES if "poisson" not in name])
def test_fits_with_gaps(name: str, method: str) -> None:
    x = FAMILIES[name][2].copy()
    x[np.random.default_rng(0).random(x.shape) < 0.3] = np.nan
    x[5] = np.nan
    mixture, bounds = fitted(name, x, method=method)
    assert min(np.diff(bounds)) > -1e-9
    if FAMILIES[name][1].__class__ is Weights:
        assert float(mixture.log_prob(torch.from_numpy(x)).sum()) == pytest.approx(bounds[-1], rel=1e-8)


def test_one_normal_with_gaps_is_at_the_maximum_of_its_likelihood() -> None:
    x = IRIS[::3].copy()
    x[np.random.default_rng(1).random(x.shape) < 0.3] = np.nan
    mixture, _ = fitted("full", x, k=1, tolerance=1e-13, iterations=3000)
    mean = mixture.predictive.mean[0].clone().requires_grad_()
    covariance = mixture.predictive.covariance
    assert covariance is not None
    root = torch.linalg.cholesky(covariance[0]).requires_grad_()
    total = torch.zeros((), dtype=torch.float64)
    for row in torch.from_numpy(x):
        seen = ~row.isnan()
        if bool(seen.any()):
            own = (root @ root.T)[seen][:, seen]
            total = total + torch.distributions.MultivariateNormal(mean[seen], own).log_prob(row[seen])
    total.backward()
    assert mean.grad is not None
    assert root.grad is not None
    # Nats for a unit: along a standard error, some 0.1, the likelihood falls by half a nat.
    assert float(mean.grad.abs().max()) < 1e-3
    assert float(root.grad.tril().abs().max()) < 1e-3


def test_the_bound_with_a_gap_is_one_on_the_integral() -> None:
    x = np.random.default_rng(3).normal(size=(8, 2)) * 2 + 1
    x[2, 1] = np.nan
    mixture, bounds = fitted("normal-wishart", x, k=1, tolerance=1e-12)
    prior = mixture.components
    assert isinstance(prior, NormalWishart)
    grid = np.linspace(-150, 150, 12001)
    logs = [_log_marginal_wishart(np.where(np.isnan(x), cell, x), prior) for cell in grid]
    evidence = float(np.logaddexp.reduce(logs)) + log(grid[1] - grid[0])
    # The cell and the parameters are independent under q, which costs something, but not much of one cell of sixteen.
    assert evidence - 0.2 < bounds[-1] < evidence - 1e-4


@pytest.mark.parametrize("name", ["full", "diag", "normal-wishart", "unit"])
def test_duplicates_and_singular_covariances(name: str) -> None:
    x = np.repeat(np.array([[0.0, 1.0], [2.0, 3.0]]), 10, 0)
    mixture, bounds = fitted(name, x, k=4)
    assert np.isfinite(bounds).all()
    assert bool(torch.isfinite(mixture.log_prob(torch.from_numpy(x))).all())
    assert float(mixture.weights.sum()) == pytest.approx(1)


def test_more_components_than_data_with_priors() -> None:
    mixture, bounds = fitted("normal-wishart", IRIS[:3], k=5)
    assert np.isfinite(bounds).all()
    assert mixture.weights.shape == (5,)


def test_draws_have_the_models_moments() -> None:
    mixture, _ = fitted("full")
    torch.manual_seed(0)
    drawn = mixture.sample(20000)
    error = drawn.std(0) / 20000**0.5
    assert bool(((drawn.mean(0) - torch.from_numpy(IRIS.mean(0))).abs() < 4.5 * error).all())
    assert float(mixture.log_prob(drawn).mean()) == pytest.approx(
        float(mixture.log_prob(torch.from_numpy(IRIS)).mean()), abs=0.3
    )


def test_restarts_never_hurt() -> None:
    assert fitted("full", restarts=6)[1][-1] >= fitted("full", restarts=1)[1][-1] - 1e-6
