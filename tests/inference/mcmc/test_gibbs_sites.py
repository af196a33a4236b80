from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from inference.mcmc.targets import agrees
from jensen.errors import ConfigError, DataError
from jensen.inference import Target, discrete, real
from jensen.inference.mcmc import gibbs, hmc, metropolis, metropolis_within_gibbs, nuts, sghmc, sgld

LEVELS = torch.tensor([[0.0, 1.0], [0.5, -0.5], [-1.0, 0.2]], dtype=torch.float64)


def log_joint(p: dict[str, Tensor]) -> Tensor:
    """x is a normal around the states' sum; with x summed out, LEVELS are the states' log-probabilities."""
    centre = p["a"] * 1.0 + p["b"][0]
    return LEVELS[p["a"], p["b"][0]] - 0.5 * (p["x"] - centre).square() + 0 * p["b"].sum()


def kept() -> Target:
    parameters = {"x": real(), "a": discrete(3), "b": discrete(2, 1), "one": discrete(1)}
    return Target(log_joint, parameters, largest_sum=0)


def state_given_rest(p: dict[str, Tensor]) -> Tensor:
    states = torch.arange(2)
    logits = LEVELS[p["a"]] - 0.5 * (p["x"][:, None] - (p["a"][:, None] + states)).square()
    return torch.multinomial(logits.softmax(1), 1)


@pytest.mark.parametrize("conditionals", [{}, {"b": state_given_rest}])
def test_sites_are_drawn_from_their_probabilities(conditionals: dict[str, Callable]) -> None:
    draws = gibbs(kept(), conditionals, 500, 16, warmup=100)
    assert draws["a"].dtype == torch.long
    joint = LEVELS.flatten().softmax(0).reshape(3, 2)
    for state in range(3):
        assert agrees((draws["a"] == state).double(), joint[state].sum())
    assert agrees(((draws["a"] == 2) & (draws["b"][..., 0] == 1)).double(), joint[2, 1])
    assert agrees(draws["x"], (joint * (torch.arange(3.0)[:, None] + torch.arange(2))).sum())
    assert not draws["one"].any()


def test_states_alone_need_no_random_walk() -> None:
    target = Target(lambda p: LEVELS[p["a"], p["b"]], {"a": discrete(3), "b": discrete(2)})
    draws = metropolis_within_gibbs(target, 500, 16, warmup=50)
    assert draws.method == "gibbs"
    assert agrees((draws["b"] == 1).double(), LEVELS.flatten().softmax(0).reshape(3, 2)[:, 1].sum())


def test_what_is_ruled_out_is_never_drawn() -> None:
    levels = torch.tensor([0.0, -torch.inf, 1.0], dtype=torch.float64)
    target = Target(lambda p: levels[p["a"]].sum(), {"a": discrete(3, 2)})
    draws = metropolis_within_gibbs(target, 200, 8, warmup=10)
    assert not (draws["a"] == 1).any()
    assert agrees((draws["a"] == 2).double(), torch.tensor(1.0).sigmoid())


def test_a_target_that_sums_over_them_draws_them_in_the_end() -> None:
    target = Target(log_joint, {"x": real(), "a": discrete(3), "b": discrete(2, 1)})
    draws = metropolis_within_gibbs(target, 500, 16, warmup=200)
    assert agrees((draws["a"] == 1).double(), LEVELS.flatten().softmax(0).reshape(3, 2)[1].sum())
    with pytest.raises(ConfigError, match="sums over 'b'"):
        gibbs(target, {"b": state_given_rest}, 10, 4)


def test_conditionals_that_draw_no_states_are_refused() -> None:
    with pytest.raises(DataError, match="not whole"):
        gibbs(kept(), {"a": lambda p: p["x"]}, 10, 4, warmup=0)
    with pytest.raises(DataError, match="'a' is a whole number from 0 to 2"):
        gibbs(kept(), {"a": lambda p: 0 * p["a"] + 3}, 10, 4, warmup=0)


@pytest.mark.parametrize("sampler", [nuts, hmc, metropolis, sgld, sghmc])
def test_samplers_along_real_coordinates_say_what_to_do(sampler: Callable) -> None:
    with pytest.raises(
        ConfigError, match=r"keeps the discrete 'a', 'b', 'one' with 6 configurations.*within_gibbs"
    ):
        sampler(kept())
