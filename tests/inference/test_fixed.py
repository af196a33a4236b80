import pytest
import torch
from torch import Tensor
from torch.distributions import Gamma, Normal

from jensen.errors import FitError
from jensen.inference import Target, fit, positive, real
from jensen.inference.families import FullRank, LowRank, MeanField
from jensen.inference.fixed import fit_fixed, fixed_noise, linear_response
from jensen.inference.start import find_modes, hessian, scale_from

DIM = 4


def normal(seed: int = 0) -> tuple[Target, Tensor, Tensor, float]:
    """A normal target with its mean, covariance, and log normaliser."""
    torch.manual_seed(seed)
    root = torch.randn(DIM, DIM, dtype=torch.float64)
    precision = root @ root.T + 0.5 * torch.eye(DIM)
    mean = torch.randn(DIM, dtype=torch.float64)
    target = Target(lambda p: -0.5 * (p["x"] - mean) @ precision @ (p["x"] - mean), {"x": real(DIM)})
    log_z = 0.5 * DIM * torch.tensor(2 * torch.pi).log() - 0.5 * torch.linalg.slogdet(precision).logabsdet
    return target, mean, torch.linalg.inv(precision), float(log_z)


def start() -> tuple[Tensor, Tensor]:
    return torch.zeros(DIM, dtype=torch.float64), torch.ones(DIM, dtype=torch.float64)


def test_the_noise_has_exact_moments():
    noise = fixed_noise(64, 5, seed=1)
    torch.testing.assert_close(noise.mean(0), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(noise.T @ noise / 64, torch.eye(5, dtype=torch.float64))
    few = fixed_noise(8, 5, seed=1)
    torch.testing.assert_close(few.square().mean(0), torch.ones(5, dtype=torch.float64))


def test_full_rank_recovers_a_normal_exactly():
    target, mean, covariance, log_z = normal()
    fitted = fit_fixed(target, FullRank.around(*start()), tolerance=1e-14)
    q = fitted.family(None)
    torch.testing.assert_close(q.mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.covariance_matrix, covariance, rtol=1e-4, atol=1e-5)
    assert fitted.bound == pytest.approx(log_z, abs=1e-6)


def test_mean_field_has_the_inverse_precisions():
    target, mean, covariance, log_z = normal()
    fitted = fit_fixed(target, MeanField.around(*start()), tolerance=1e-14)
    q = fitted.family(None)
    precision = torch.linalg.inv(covariance)
    torch.testing.assert_close(q.mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.variance, 1 / precision.diagonal(), rtol=1e-5, atol=1e-6)
    # Its gap is KL(q || p) in closed form.
    gap = 0.5 * (precision.diagonal().log().sum() - torch.linalg.slogdet(precision).logabsdet)
    assert fitted.bound == pytest.approx(log_z - float(gap), abs=1e-6)


def test_linear_response_repairs_the_mean_field():
    target, mean, covariance, _ = normal()
    fitted = fit_fixed(target, MeanField.around(*start()), tolerance=1e-14)
    q = linear_response(target, fitted)(None)
    torch.testing.assert_close(q.mean, mean, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(q.covariance_matrix, covariance, rtol=1e-4, atol=1e-5)


def test_low_rank_lies_between():
    target, _, _, log_z = normal()
    mean_field = fit_fixed(target, MeanField.around(*start()), tolerance=1e-12).bound
    low_rank = fit_fixed(target, LowRank.around(*start(), rank=1), draws=256, tolerance=1e-9).bound
    assert mean_field < low_rank < log_z + 1e-3


def test_the_start_is_not_changed():
    target, *_ = normal()
    family = MeanField.around(*start())
    fit_fixed(target, family)
    assert family.loc.abs().max() == 0


def test_an_improper_posterior_is_named():
    target = Target(lambda p: -0.5 * p["x"] ** 2 + 0 * p["y"], {"x": real(), "y": real()})
    with pytest.raises(FitError, match=r"without end along y"):
        fit_fixed(target, MeanField(2))


def test_a_bound_that_is_not_finite_at_the_start():
    target = Target(lambda p: torch.where(p["x"] > 5, -p["x"], -torch.inf), {"x": real()})
    with pytest.raises(FitError, match="at the start"):
        fit_fixed(target, MeanField(1))


def test_modes_are_found_with_their_masses():
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    centres = torch.tensor([-4.0, 4.0], dtype=torch.float64)

    def two(p):
        return (weights.log() - 0.5 * (p["x"] - centres) ** 2).logsumexp(0)

    target = Target(two, {"x": real()})
    modes, trouble = find_modes(target, torch.tensor([[-3.0], [5.0], [4.5]], dtype=torch.float64))
    assert trouble is None
    assert [round(float(mode.point), 2) for mode in modes] == [4.0, -4.0]
    masses = torch.tensor([mode.log_mass for mode in modes]).softmax(0)
    torch.testing.assert_close(masses, torch.tensor([0.7, 0.3]), rtol=0, atol=1e-3)


def test_a_density_without_bound_is_named():
    target = Target(lambda p: p["x"] ** 2, {"x": real()})
    with pytest.raises(FitError, match=r"without bound.*x at"):
        find_modes(target, torch.ones(1, 1, dtype=torch.float64))


def test_no_mode():
    target = Target(lambda p: p["x"] - p["x"].exp() * 0, {"x": real()})
    modes, trouble = find_modes(target, torch.ones(1, 1, dtype=torch.float64), evaluations=20)
    assert modes == []
    assert trouble is not None
    assert "x at" in trouble


def test_the_scale_of_a_precision():
    _, _, covariance, _ = normal()
    scale_tril, definite = scale_from(torch.linalg.inv(covariance))
    assert definite
    torch.testing.assert_close(scale_tril @ scale_tril.T, covariance)
    torch.testing.assert_close(scale_tril, scale_tril.tril())
    flat, definite = scale_from(torch.diag(torch.tensor([4.0, 0.0], dtype=torch.float64)))
    assert not definite
    torch.testing.assert_close(flat @ flat.T, torch.diag(torch.tensor([0.25, 1.0], dtype=torch.float64)))


def test_second_derivatives():
    def cubic(x: Tensor) -> tuple[Tensor, Tensor]:
        return (x[:, 0] ** 3 * x[:, 1]), torch.stack([3 * x[:, 0] ** 2 * x[:, 1], x[:, 0] ** 3], 1)

    found = hessian(cubic, torch.tensor([1.0, 2.0], dtype=torch.float64))
    torch.testing.assert_close(
        found, torch.tensor([[12.0, 3.0], [3.0, 0.0]], dtype=torch.float64), rtol=0, atol=1e-6
    )


@pytest.mark.parametrize("method", ["auto", "laplace", "pathfinder", "flow"])
def test_a_plateau_is_improper(method: str):
    """Data that a scale without a prior can't bound: the density tends to a constant along its logarithm."""
    target = Target(lambda p: Normal(0.0, p["t"]).log_prob(torch.tensor(1.0)), {"t": positive()})
    with pytest.raises(FitError, match=r"spreads without end along t\b"):
        fit(target, method)


def test_a_plateau_of_real_numbers_is_improper():
    """A flat prior and labels that a slope separates."""
    x = torch.tensor([-1.0, 1.0], dtype=torch.float64)
    target = Target(lambda p: torch.nn.functional.logsigmoid(x.abs() * p["w"]).sum(), {"w": real()})
    with pytest.raises(FitError, match="spreads without end along w"):
        fit(target, "pathfinder")


@pytest.mark.parametrize("shape", [0.5, 0.01])
def test_a_pole_at_the_edge_is_proper(shape: float):
    target = Target(lambda p: Gamma(shape, 1.0).log_prob(p["g"]), {"g": positive()})
    modes, _ = find_modes(target, target.starting_points(2))
    assert modes[0].definite


def test_wide_posteriors_are_proper():
    target = Target(
        lambda p: Normal(0.0, 1e5).log_prob(p["a"]) + Normal(0.0, 1e-2).log_prob(p["b"]),
        {"a": real(), "b": real()},
    )
    assert float(fit(target).evidence) == pytest.approx(0, abs=0.02)
