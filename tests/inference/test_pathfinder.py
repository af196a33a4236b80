import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from jensen.errors import ConfigError, FitError
from jensen.inference import Target, real
from jensen.inference.fitted import judged
from jensen.inference.pathfinder import Equals, LowRankNormal, _normals, _Path, pathfinder
from jensen.seeding import seeded

MEAN = torch.tensor([1.0, -2.0, 0.5, 3.0], dtype=torch.float64)


def precision() -> Tensor:
    with seeded(0):
        root = torch.randn(4, 4, dtype=torch.float64)
    return root @ root.T + 0.5 * torch.eye(4, dtype=torch.float64)


def gaussian() -> Target:
    matrix = precision()
    return Target(lambda p: -0.5 * (p["x"] - MEAN) @ matrix @ (p["x"] - MEAN), {"x": real(4)})


def test_low_rank_normal_is_the_normal_of_its_covariance() -> None:
    with seeded(1):
        basis = torch.linalg.qr(torch.randn(4, 2, dtype=torch.float64))[0]
        points = torch.randn(5, 4, dtype=torch.float64)
    triangle = torch.tensor([[0.5, 0.0], [-0.3, 2.0]], dtype=torch.float64)
    q = LowRankNormal(MEAN, torch.tensor([1.0, 2.0, 0.5, 4.0], dtype=torch.float64), basis, triangle)
    same = MultivariateNormal(MEAN, q.covariance_matrix)
    torch.testing.assert_close(q.log_prob(points), same.log_prob(points))
    with seeded(2):
        draws = q.sample(torch.Size([40_000]))
    # The standard error of a variance of normals is sqrt(2 / n) of it.
    scale = q.covariance_matrix.diagonal()
    error = (draws.T.cov() - q.covariance_matrix).abs() / torch.outer(scale, scale).sqrt()
    assert error.max() < 4.5 * (2 / 40_000) ** 0.5


def test_exact_steps_on_a_quadratic_give_its_inverse() -> None:
    matrix = precision()
    with seeded(3):
        points = torch.cat([torch.zeros(1, 4), torch.randn(4, 4).cumsum(0)]).double()
    gradients = -(points - MEAN) @ matrix
    # After as many conjugate steps as dimensions BFGS has the inverse Hessian: here steps conjugate to the matrix.
    lower = torch.linalg.cholesky(matrix)
    steps = torch.linalg.solve_triangular(lower.T, torch.eye(4, dtype=torch.float64), upper=True)
    points = torch.cat([torch.zeros(1, 4, dtype=torch.float64), steps.T.cumsum(0)])
    gradients = -(points - MEAN) @ matrix
    last = _normals(_Path(points, gradients), memory=4)[-1]
    torch.testing.assert_close(last.covariance_matrix, torch.linalg.inv(matrix))
    torch.testing.assert_close(last.mean, MEAN)


def test_gaussian_target() -> None:
    target = gaussian()
    found = pathfinder(target, target.starting_points(1, seed=0), memory=10)
    assert found.posterior is not None
    covariance = found.posterior.parts[0].covariance_matrix
    expected = torch.linalg.inv(precision())
    assert ((found.posterior.mean - MEAN).abs() / expected.diagonal().sqrt()).max() < 0.1
    assert (covariance - expected).norm() / expected.norm() < 0.25
    fit = judged(target, "pathfinder", found, weighted=True, seed=1)
    log_evidence = 0.5 * (
        4 * float(torch.log(torch.tensor(2 * torch.pi).double())) - float(torch.logdet(precision()))
    )
    assert fit.pareto_k < 0.7
    assert abs(float(fit.evidence.value) - log_evidence) < 4 * float(fit.evidence.standard_error) + 1e-6


def test_ways_to_two_modes_are_weighed_by_their_evidence() -> None:
    modes = MultivariateNormal(
        torch.tensor([[-6.0, 0.0], [6.0, 1.0]], dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    )
    log_weights = torch.tensor([0.2, 0.8], dtype=torch.float64).log()
    target = Target(lambda p: (modes.log_prob(p["x"]) + log_weights).logsumexp(0), {"x": real(2)})
    starts = torch.tensor([[-5.0, 1.0], [5.0, 0.0]], dtype=torch.float64)
    fit = judged(target, "pathfinder", pathfinder(target, starts), weighted=True, seed=0)
    left = (fit.sample(4000, seed=1)["x"][:, 0] < 0).double().mean()
    assert abs(float(left) - 0.2) < 0.04
    assert abs(float(fit.evidence.value)) < 0.05


def test_equals_is_the_mean_of_the_densities() -> None:
    parts = [MultivariateNormal(torch.tensor([x]).double(), torch.eye(1).double()) for x in (-1.0, 2.0)]
    points = torch.tensor([[0.3], [4.0]], dtype=torch.float64)
    expected = torch.stack([part.log_prob(points).exp() for part in parts]).mean(0).log()
    torch.testing.assert_close(Equals(parts).log_prob(points), expected)
    assert abs(float(Equals(parts).mean) - 0.5) < 1e-12


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        pathfinder(gaussian(), torch.zeros(1, 4).double(), draws=0)
    spike = Target(lambda p: torch.where(p["x"].abs() > 0.5, -torch.inf, 0 * p["x"]), {"x": real()})
    with pytest.raises(FitError, match="no normal along"):
        pathfinder(spike, torch.zeros(1, 1).double())
