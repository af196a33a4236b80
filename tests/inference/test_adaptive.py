import pytest
import torch
from torch import Tensor

from jensen.inference import adaptive
from jensen.inference.families.student_mixture import StudentMixture


def weighted(seed: int = 0) -> tuple[Tensor, Tensor, StudentMixture]:
    """Weighted points far from the origin, in two lumps of unlike units, and a mixture to start from."""
    generator = torch.Generator().manual_seed(seed)
    mixing = torch.randn(3, 3, generator=generator, dtype=torch.float64) * torch.tensor([1.0, 1e-3, 50.0])
    points = torch.randn(500, 3, generator=generator, dtype=torch.float64)
    points[::2] += 8
    points = points @ mixing + 1000
    weights = torch.rand(500, generator=generator, dtype=torch.float64) ** 2
    covariance = torch.cov(points.T)
    factors = torch.linalg.cholesky(covariance).expand(2, 3, 3)
    mixture = StudentMixture(torch.tensor([0.3, 0.7]).double(), points[:2].clone(), factors, 8.0)
    return points, weights / weights.sum(), mixture


def step_by_definition(points: Tensor, weights: Tensor, mixture: StudentMixture) -> StudentMixture:
    """Expectation maximisation for Student-t distributions, a component at a time."""
    dim, nu = points.shape[1], mixture.dof
    distances = mixture.distances(points)
    belong = weights * mixture.component_log_probs(distances).softmax(0)
    scaled = belong * (nu + dim) / (nu + distances)
    locs, factors = [], []
    for k in range(len(mixture.weights)):
        loc = scaled[k] @ points / scaled[k].sum()
        away = points - loc
        covariance = (away * scaled[k, :, None]).T @ away / belong[k].sum()
        effective = belong[k].sum() ** 2 / belong[k].square().sum()
        keep = min(0.5, 0.5 * dim / float(effective))
        before = mixture.scale_trils[k] @ mixture.scale_trils[k].T
        locs.append(loc)
        factors.append(torch.linalg.cholesky((1 - keep) * covariance + keep * before))
    shares = belong.sum(1) + 1e-3
    return StudentMixture(shares / shares.sum(), torch.stack(locs), torch.stack(factors), nu)


@pytest.mark.parametrize("largest", [adaptive.LARGEST_PRODUCTS, 600])
def test_a_step_is_expectation_maximisation(largest: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adaptive, "LARGEST_PRODUCTS", largest)
    points, weights, mixture = weighted()
    expectation = adaptive._Expectation(points, weights)
    assert (expectation.products is None) == (largest == 600)
    wanted = mixture
    for _ in range(5):
        wanted = step_by_definition(points, weights, wanted)
        mixture = expectation.step(mixture)
    for name in ("weights", "locs", "scale_trils"):
        torch.testing.assert_close(getattr(mixture, name), getattr(wanted, name), rtol=1e-8, atol=1e-10)


def test_weights_on_a_single_point_leave_a_mixture() -> None:
    points, weights, mixture = weighted()
    weights = torch.zeros_like(weights)
    weights[0] = 1
    found = adaptive._Expectation(points, weights).step(mixture)
    assert torch.isfinite(found.locs).all()
    assert torch.isfinite(found.log_prob(points)).all()
