import numpy as np
import pytest
import torch
from scipy.stats import genpareto

from diagnostics.peers import arviz
from jensen.diagnostics import kish_size, pareto_fit, psis
from jensen.errors import ConfigError, DataError, ShapeError

PUBLISHED_K = {
    0.5: 0.9080815512205151,
    0.7: 0.6371459500343336,
    0.9: 0.27494481323913184,
    0.99: 0.08018355166699344,
}
"""NumPyro's reference values: shapes of log-weights of a narrower normal for a standard one in three dimensions."""

PUBLISHED_FIT = {
    0.1: (0.11030538299874189, 0.9689311464171625),
    0.5: (0.5035203992870904, 0.966373900167903),
    1.0: (0.9891947607352517, 0.9688794540950301),
}


def log_weights(scale: float, n: int = 50_000, seed: int = 42) -> torch.Tensor:
    z = np.random.default_rng(seed).normal(0, scale, size=(n, 3))
    squares = (z**2).sum(1)
    return torch.from_numpy(-0.5 * squares * (1 - 1 / scale**2) + 3 * np.log(scale))


@pytest.mark.parametrize("scale", sorted(PUBLISHED_K))
def test_shapes_are_the_published_ones(scale: float) -> None:
    assert float(psis(log_weights(scale)).k) == pytest.approx(PUBLISHED_K[scale], abs=1e-10)


@pytest.mark.parametrize("k", sorted(PUBLISHED_FIT))
def test_so_are_shape_and_scale_of_a_fit(k: float) -> None:
    values = genpareto.rvs(c=k, scale=1.0, size=3000, random_state=np.random.default_rng(123))
    fit = pareto_fit(torch.from_numpy(np.sort(values)))
    wanted = PUBLISHED_FIT[k]
    # Published before k is pulled to 1/2 by ten more values, which the fit here does itself.
    assert float(fit.k) == pytest.approx(wanted[0], abs=1e-10)
    assert float(fit.scale) == pytest.approx(wanted[1], abs=1e-10)


@pytest.mark.parametrize("efficiency", [1.0, 0.3])
@pytest.mark.parametrize("n", [26, 100, 1003, 4000])
@pytest.mark.parametrize("kind", ["normal", "cauchy", "bounded", "ties", "zeros"])
def test_weights_and_shapes_are_those_of_arviz(kind: str, n: int, efficiency: float) -> None:
    generator = np.random.default_rng(n)
    raw = {
        "normal": lambda: generator.normal(size=(n, 3)),
        "cauchy": lambda: np.log(np.abs(generator.standard_cauchy((n, 3)))),
        "bounded": lambda: np.log(generator.uniform(size=(n, 3))),
        "ties": lambda: (4 * generator.normal(size=(n, 3))).round() / 4,
        "zeros": lambda: np.where(
            generator.uniform(size=(n, 3)) < 0.3, -np.inf, generator.normal(size=(n, 3))
        ),
    }[kind]()
    wanted, shapes = arviz().psislw(raw.T.copy(), reff=efficiency)
    smoothed, k = psis(torch.from_numpy(raw), efficiency)
    np.testing.assert_allclose(k.numpy(), shapes, atol=1e-10)
    # Which one of equal weights is smoothed to which order statistic is nobody's concern.
    ordered = (
        (smoothed.sort(0).values.numpy(), np.sort(wanted.T, 0))
        if kind == "ties"
        else (smoothed.numpy(), wanted.T)
    )
    np.testing.assert_allclose(*ordered, atol=1e-10)


def test_weights_that_are_all_alike_have_no_tail() -> None:
    smoothed, k = psis(5 + 1e-13 * torch.randn(1000, dtype=torch.float64))
    assert float(k) == -torch.inf
    np.testing.assert_allclose(smoothed.exp().numpy(), 1e-3, rtol=1e-9)


def test_a_tail_of_ties_is_no_obstacle() -> None:
    smoothed, k = psis(torch.arange(4000.0) % 40)
    assert bool(smoothed.isfinite().all())
    assert float(k) < 0


def test_few_weights_have_a_shape_that_nobody_trusts() -> None:
    assert float(psis(torch.randn(20)).k) == torch.inf


def test_the_effective_number_of_weights() -> None:
    weights = torch.tensor([3.0, 1.0])
    assert float(kish_size(weights.log() + 700)) == pytest.approx(16 / 10, rel=1e-5)


@pytest.mark.parametrize(
    ("weights", "efficiency", "error", "message"),
    [
        (torch.tensor([0.0, torch.nan, 1.0]), 1.0, DataError, "1 of 3 log-weights are NaN or"),
        (torch.tensor([0.0, torch.inf]), 1.0, DataError, "NaN or"),
        (torch.full((30,), -torch.inf), 1.0, DataError, "no sample lies where"),
        (torch.zeros(1), 1.0, ShapeError, "got 1 log-weights"),
        (torch.zeros(30), 0.0, ConfigError, "above 0"),
    ],
)
def test_bad_weights_are_refused(
    weights: torch.Tensor, efficiency: float, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        psis(weights, efficiency)
