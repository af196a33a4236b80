from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from jensen.errors import ConfigError, ShapeError
from jensen.inference.families import Family, Flow, Frame, FullRank, LowRank, MeanField, Mixture
from jensen.seeding import seeded

LOCATION = torch.tensor([1.0, -2.0], dtype=torch.float64)
TRIANGLE = torch.tensor([[0.7, 0.0], [0.4, 1.3]], dtype=torch.float64)
AROUND: dict[str, Callable[[Tensor, Tensor], Family]] = {
    "mean field, whitened": MeanField.around,
    "mean field": lambda location, triangle: MeanField.around(location, triangle.diagonal()),
    "full rank": FullRank.around,
    "full rank, scaled": lambda location, triangle: FullRank.around(location, triangle.diagonal()),
    "low rank": LowRank.around,
    "low rank, scaled": lambda location, triangle: LowRank.around(location, triangle.diagonal()),
    "mixture": lambda location, triangle: Mixture.around(location, triangle, components=3),
    "flow": Flow.around,
}


def moved(name: str, size: float = 0.2) -> Family:
    family = AROUND[name](LOCATION, TRIANGLE)
    with seeded(3), torch.no_grad():
        for parameter in family.parameters():
            parameter += size * torch.randn_like(parameter)
    return family


def noise_for(family: Family, n: int, seed: int = 0) -> Tensor:
    with seeded(seed):
        return torch.randn(n, family.noise_dim, dtype=torch.float64)


@pytest.mark.parametrize("name", ["mean field, whitened", "full rank", "flow"])
def test_starts_at_the_whitening(name: str) -> None:
    family = AROUND[name](LOCATION, TRIANGLE)
    points = noise_for(family, 5)
    expected = MultivariateNormal(LOCATION, scale_tril=TRIANGLE).log_prob(points)
    torch.testing.assert_close(family.log_prob(points).detach(), expected)


@pytest.mark.parametrize("name", AROUND)
def test_density_of_a_draw_is_the_density_of_its_point(name: str) -> None:
    family = moved(name)
    draws = family.draw(noise_for(family, 9))
    torch.testing.assert_close(draws.log_prob, family.log_prob(draws.points))
    torch.testing.assert_close(draws.weights.sum().detach(), torch.ones((), dtype=torch.float64))


@pytest.mark.parametrize("name", AROUND)
def test_density_integrates_to_one(name: str) -> None:
    family = moved(name)
    # A grid in whitened coordinates, wide enough for the flow's tails, dense near the middle.
    side = torch.sinh(torch.linspace(-7, 7, 901, dtype=torch.float64))
    weight = torch.cosh(torch.linspace(-7, 7, 901, dtype=torch.float64)) * (14 / 900)
    grid = torch.cartesian_prod(side, side)
    with torch.no_grad():
        density = family.log_prob(LOCATION + grid @ TRIANGLE.T).exp() * TRIANGLE.diagonal().prod()
    total = (density * torch.outer(weight, weight).reshape(-1)).sum()
    torch.testing.assert_close(total, torch.ones((), dtype=torch.float64), rtol=0, atol=2e-4)


@pytest.mark.parametrize("name", AROUND)
def test_samples_and_weighted_draws_have_the_same_moments(name: str) -> None:
    family = moved(name)
    n = 60_000
    with torch.no_grad():
        draws = family.draw(noise_for(family, n, seed=1))
    with seeded(2):
        samples = family.sample(n)
    # Bounded functions, so that a heavy tail doesn't swamp the error.
    of_draws, of_samples = torch.tanh(draws.points - LOCATION), torch.tanh(samples - LOCATION)
    difference = (draws.weights[:, None] * of_draws).sum(0) - of_samples.mean(0)
    standard_error = of_samples.std(0) * (2 / n) ** 0.5
    assert (difference.abs() < 4.5 * standard_error).all()


@pytest.mark.parametrize("name", AROUND)
def test_draws_carry_gradients_to_every_parameter(name: str) -> None:
    family = moved(name)
    draws = family.draw(noise_for(family, 12))
    ((draws.weights * (draws.points.sin().sum(-1) + draws.log_prob)).sum()).backward()
    for parameter_name, parameter in family.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().sum() > 0, parameter_name


def test_weights_of_a_mixture_get_the_exact_gradient() -> None:
    family = moved("mixture")
    assert isinstance(family, Mixture)
    # Of the expectation of a constant on each component: E = sum_k w_k c_k, dE/dlogit_k = w_k (c_k - E).
    values = torch.tensor([1.0, 2.0, 5.0], dtype=torch.float64)
    draws = family.draw(noise_for(family, 30))
    (draws.weights * values[torch.arange(30) % 3]).sum().backward()
    weights = torch.softmax(family.logits.detach(), 0)
    torch.testing.assert_close(family.logits.grad, weights * (values - (weights * values).sum()))


def test_low_rank_covariance() -> None:
    family = moved("low rank, scaled")
    assert isinstance(family, LowRank)
    inner = family.log_scale.detach().mul(2).exp().diag() + family.factor.detach() @ family.factor.detach().T
    scale = TRIANGLE.diagonal().diag()
    expected = MultivariateNormal(family(None).mean.detach(), scale @ inner @ scale)
    points = noise_for(family, 5)[:, :2]
    torch.testing.assert_close(family.log_prob(points).detach(), expected.log_prob(points))


@pytest.mark.parametrize("name", AROUND)
def test_one_dimension(name: str) -> None:
    family = AROUND[name](LOCATION[:1], TRIANGLE[:1, :1])
    draws = family.draw(noise_for(family, 6))
    assert draws.points.shape == (6, 1)
    assert family.sample(3).shape == (3, 1)


def test_bad_input() -> None:
    with pytest.raises(ShapeError, match=r"location \(dim,\)"):
        Frame(LOCATION, torch.ones(3))
    with pytest.raises(ConfigError, match="rank of at least 1"):
        LowRank(3, rank=0)
    with pytest.raises(ConfigError, match="at least one component"):
        Mixture.around(LOCATION, TRIANGLE, components=0)
    with pytest.raises(ConfigError, match="a draw of each"):
        Mixture.around(LOCATION, TRIANGLE, components=3).draw(torch.zeros(2, 2, dtype=torch.float64))
    with pytest.raises(ShapeError, match="scale_trils"):
        Mixture(torch.zeros(2, 1), torch.ones(1, 1, 1))
    with pytest.raises(ConfigError, match="layers and hidden"):
        Flow(2, layers=0)
