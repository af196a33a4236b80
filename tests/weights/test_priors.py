from math import sqrt

import pytest
import torch
from torch.distributions import Laplace, Normal

from jensen.errors import ConfigError
from jensen.weights.network import flat
from jensen.weights.priors import NormalPrior, TrainedPrior, prior, restored

LIKE = {"0.weight": torch.zeros(2, 3, dtype=torch.float64), "0.bias": torch.zeros(2, dtype=torch.float64)}
TORCH = torch.Generator().manual_seed(0)
VALUES = {n: torch.randn(4, *v.shape, generator=TORCH, dtype=torch.float64) for n, v in LIKE.items()}


def test_the_scale_is_a_standard_deviation_and_the_density_a_sum() -> None:
    expected = sum(Normal(0.0, 3.0).log_prob(v).flatten(1).sum(1) for v in VALUES.values())
    torch.testing.assert_close(prior("normal", LIKE, 3.0).log_prob(VALUES), expected)
    expected = sum(Laplace(0.0, 3.0).log_prob(v).flatten(1).sum(1) for v in VALUES.values())
    torch.testing.assert_close(prior("laplace", LIKE, 3.0).log_prob(VALUES), expected)


def test_the_mixture_is_that_of_two_normals() -> None:
    found = prior("scale-mixture", LIKE, 2.0, mixture_weight=0.25, ratio=0.1).log_prob(VALUES)
    density = [
        0.25 * Normal(0, 2.0).log_prob(v).exp() + 0.75 * Normal(0, 0.2).log_prob(v).exp()
        for v in VALUES.values()
    ]
    torch.testing.assert_close(found, sum(d.log().flatten(1).sum(1) for d in density))


@pytest.mark.parametrize("name", ["normal", "laplace"])
def test_kl_is_the_integral(name: str) -> None:
    found = prior(name, {"w": torch.zeros(3, dtype=torch.float64)}, 0.7)
    loc = torch.tensor([0.0, 0.4, -2.0], dtype=torch.float64)
    log_scale = torch.tensor([0.3, 1.0, 0.05], dtype=torch.float64).log()
    if name == "normal":
        found = NormalPrior(found.scales, loc={"w": torch.tensor([0.1, 0.0, -1.0], dtype=torch.float64)})
    q = Normal(loc, log_scale.exp())
    grid = torch.linspace(-1, 1, 400_001, dtype=torch.float64)[:, None] * 12 * q.scale + loc
    difference = q.log_prob(grid) - found.cells("w", grid, found.scales["w"])
    integral = torch.trapezoid(q.log_prob(grid).exp() * difference, grid, dim=0)
    torch.testing.assert_close(
        found.kl("w", loc, log_scale, found.scales["w"].log()), integral, atol=1e-8, rtol=1e-6
    )


def test_scales_by_layer() -> None:
    found = prior("normal", LIKE, {"0": 2.0, "0.bias": 5.0})
    assert {name: float(scale) for name, scale in found.scales.items()} == {"0.weight": 2.0, "0.bias": 5.0}
    with pytest.raises(ConfigError, match=r"says nothing of '0\.bias'"):
        prior("normal", LIKE, {"0.weight": 2.0})
    with pytest.raises(ConfigError, match="names '7'"):
        prior("normal", LIKE, {"0": 2.0, "7": 1.0})
    with pytest.raises(ConfigError, match="above 0"):
        prior("normal", LIKE, -1.0)
    with pytest.raises(ConfigError, match="only prior='scale-mixture'"):
        prior("normal", LIKE, 1.0, mixture_weight=0.5)


def test_state_and_back() -> None:
    for found in (
        NormalPrior({"w": torch.tensor(2.0)}, loc={"w": torch.ones(3)}),
        prior("scale-mixture", {"w": torch.zeros(3)}, sqrt(2), mixture_weight=0.3),
    ):
        again = restored(*found.state())
        values = {"w": torch.randn(2, 3)}
        assert type(again) is type(found)
        assert torch.equal(again.log_prob(values), found.log_prob(values))


def test_trained_values_have_the_density_of_the_prior_and_its_slope() -> None:
    for found in (prior("normal", LIKE, {"0.weight": 2.0, "0.bias": 0.3}), prior("laplace", LIKE, 0.7)):
        values = {name: value.clone().requires_grad_() for name, value in VALUES.items()}
        trained = TrainedPrior(found, LIKE)
        torch.testing.assert_close(trained.log_prob(values), found.log_prob(values))
        torch.testing.assert_close(trained.log_prob({"": flat(values, LIKE)}), found.log_prob(values))
        slopes = torch.autograd.grad(trained.log_prob(values).sum(), list(values.values()))
        expected = torch.autograd.grad(found.log_prob(values).sum(), list(values.values()))
        for slope, other in zip(slopes, expected, strict=True):
            torch.testing.assert_close(slope, other)


@pytest.mark.parametrize("name", ["normal", "scale-mixture", "laplace"])
def test_a_single_number_has_a_density_too(name: str) -> None:
    values = torch.tensor([0.5, -1.0])
    found = prior(name, {"w": values[0]}, 2.0).log_prob({"w": values})
    torch.testing.assert_close(found, prior(name, {"w": values[:1]}, 2.0).log_prob({"w": values[:, None]}))
