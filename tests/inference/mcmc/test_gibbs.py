import pytest
import torch
from torch import Tensor
from torch.distributions import Gamma, Normal

from inference.mcmc.targets import agrees
from jensen.errors import ConfigError, DataError, ShapeError
from jensen.inference import Target, interval, positive, real
from jensen.inference.mcmc import gibbs, metropolis_within_gibbs
from jensen.models.conjugate import NormalMeanPrecision

X = torch.tensor([1.2, -0.3, 2.5, 0.7, 1.9, 1.1], dtype=torch.float64)
PRIOR = NormalMeanPrecision(0.5, strength=2.0, shape=3.0, rate=1.5)
POSTERIOR = PRIOR.update(X)


def conjugate() -> Target:
    """A mean and a precision under a normal-gamma prior, whose posterior is known."""

    def log_joint(p: dict[str, Tensor]) -> Tensor:
        prior = Gamma(PRIOR.shape, PRIOR.rate).log_prob(p["precision"])
        prior = prior + Normal(PRIOR.mean, (PRIOR.strength * p["precision"]).rsqrt()).log_prob(p["mu"])
        return prior + Normal(p["mu"], p["precision"].rsqrt()).log_prob(X).sum()

    return Target(log_joint, {"mu": real(), "precision": positive()})


def mean_given_precision(p: dict[str, Tensor]) -> Tensor:
    scale = (POSTERIOR.strength * p["precision"]).rsqrt()
    return POSTERIOR.mean + scale * torch.randn_like(scale)


def precision_given_mean(p: dict[str, Tensor]) -> Tensor:
    spread = (X - p["mu"][:, None]).square().sum(1) + PRIOR.strength * (p["mu"] - PRIOR.mean).square()
    return Gamma(PRIOR.shape + (len(X) + 1) / 2, PRIOR.rate + 0.5 * spread).sample()


BLOCKS = {
    "both": {"mu": mean_given_precision, "precision": precision_given_mean},
    "the mean": {"mu": mean_given_precision},
    "the precision": {"precision": precision_given_mean},
    "none": {},
}


@pytest.mark.parametrize("known", BLOCKS)
def test_a_conjugate_posterior_is_met_whichever_conditionals_are_known(known: str) -> None:
    draws = gibbs(conjugate(), BLOCKS[known], 500, 16, warmup=200)
    assert draws.method == ("gibbs" if known == "both" else "metropolis-within-gibbs")
    mean_variance = POSTERIOR.rate / ((POSTERIOR.shape - 1) * POSTERIOR.strength)
    assert agrees(draws["mu"], POSTERIOR.mean)
    assert agrees((draws["mu"] - POSTERIOR.mean) ** 2, mean_variance)
    assert agrees(draws["precision"], POSTERIOR.shape / POSTERIOR.rate)
    assert agrees(draws["precision"].log(), torch.digamma(POSTERIOR.shape) - POSTERIOR.rate.log())
    assert known != "both" or draws.summary().reliable


def test_a_bound_that_depends_on_another_block() -> None:
    """(a, b) uniform on the triangle a, b > 0, a + b < 1: both conditionals are uniform."""
    target = Target(
        lambda p: 0 * p["a"] * p["b"], {"a": interval(0.0, 1.0), "b": interval(0.0, lambda p: 1 - p["a"])}
    )
    conditionals = {
        "a": lambda p: (1 - p["b"]) * torch.rand_like(p["b"]),
        "b": lambda p: (1 - p["a"]) * torch.rand_like(p["a"]),
    }
    draws = gibbs(target, conditionals, 500, 16)
    assert agrees(torch.stack([draws["a"], draws["b"]], -1), 1 / 3)
    assert agrees(draws["a"] * draws["b"], 1 / 12)
    walked = metropolis_within_gibbs(target, 400, 16, warmup=200)
    assert agrees(walked["a"] * walked["b"], 1 / 12)


@pytest.mark.parametrize(
    ("conditional", "error", "message"),
    [
        (
            lambda p: torch.zeros(3),
            ShapeError,
            r"conditional of 'mu' returned \(3,\), wanted \(4,\).*all 4 chains at once",
        ),
        (lambda p: 1.0, ShapeError, "returned float, wanted"),
        (lambda p: p["mu"] * torch.nan, DataError, "drew numbers that are not finite"),
    ],
)
def test_bad_conditionals_are_refused(conditional, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        gibbs(conjugate(), {"mu": conditional}, 10, 4, warmup=0)


def test_a_conditional_outside_the_support_is_refused() -> None:
    with pytest.raises(DataError, match="'precision' is outside its support"):
        gibbs(conjugate(), {"precision": lambda p: -torch.ones_like(p["mu"])}, 10, 4, warmup=0)


def test_a_conditional_of_nothing_is_refused() -> None:
    with pytest.raises(ConfigError, match="unknown parameter 'mean'"):
        gibbs(conjugate(), {"mean": mean_given_precision})
