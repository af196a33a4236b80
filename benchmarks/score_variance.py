"""Variance of the score-function gradient with its control variates, beside REINFORCE and the path-wise gradient.

A Bayesian logistic regression with 1,000 data and 50 coefficients with standard normal priors, under a mean field and
a normal with any covariance, each at the first posterior, N(0, 1), and at the one that stochastic ascent converges to.
Variances are sums over all parameters of one estimate from the same number of draws. REINFORCE's baseline is the best
constant, from draws of its own. The learned control variate is fitted to draws of earlier estimates, as in a fit;
how many is told. Writes ``benchmarks/results/score_variance.json``.
"""

import argparse
import copy
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from common import keep
from jensen.inference import Target, real
from jensen.inference.families import Family, FullRank, MeanField
from jensen.inference.pathwise import Density, Gradient, pathwise
from jensen.inference.score import Score
from jensen.inference.stochastic import Ascending, stochastic
from jensen.seeding import seeded

ROWS, COLUMNS = 1_000, 50
TARGET = 1 / 5


def logistic_regression() -> Target:
    with seeded(0):
        x = torch.randn(ROWS, COLUMNS, dtype=torch.float64)
        w = torch.randn(COLUMNS, dtype=torch.float64) / 2
        y = torch.bernoulli(torch.sigmoid(x @ w))

    def log_joint(p: dict[str, Tensor]) -> Tensor:
        logits = x @ p["w"]
        return (y * logits - softplus(logits)).sum() - 0.5 * (p["w"] ** 2).sum()

    return Target(log_joint, {"w": real(COLUMNS)})


class Reinforce:
    """The mean of (log p - log q - baseline) grad log q."""

    def __init__(self, baseline: float) -> None:
        self.baseline = baseline

    def __call__(self, density: Density, posterior: nn.Module, samples: int) -> Gradient:
        """One estimate."""
        q = posterior(None)
        points = q.sample(torch.Size([samples]))
        log_q = q.log_prob(points)
        ratio = density(points)[0] - log_q.detach()
        return Gradient(((ratio - self.baseline) * log_q).mean(), ratio.mean(), 1.0)


def best_baseline(target: Target, family: Family, draws: int) -> float:
    """The constant with the least total variance: E[f |g|^2] / E[|g|^2] with g = grad log q, f = log p - log q."""
    names = [name for name, _ in family.named_parameters()]
    parameters = {name: parameter.detach() for name, parameter in family.named_parameters()}

    def log_q(parameters: dict[str, Tensor], point: Tensor) -> Tensor:
        return torch.func.functional_call(family, parameters, (None,)).log_prob(point)

    points = family.sample(draws)
    gradients = torch.func.vmap(torch.func.grad(log_q), (None, 0))(parameters, points)
    squares = torch.stack([gradients[name].flatten(1).square().sum(1) for name in names]).sum(0)
    ratio = target.plain_log_prob(points) - family.log_prob(points).detach()
    return float((ratio * squares).sum() / squares.sum())


def variance(
    estimator: Callable[..., Gradient], target: Target, family: Family, samples: int, estimates: int
) -> float:
    """Total over the parameters, of one estimate."""
    found = []
    for _ in range(estimates):
        family.zero_grad()
        estimator(target.value_and_gradient, family, samples).surrogate.backward()
        found.append(torch.cat([p.grad.reshape(-1) for p in family.parameters() if p.grad is not None]))
    return float(torch.stack(found).var(0).sum())


def measure(target: Target, family: Family, samples: int, estimates: int, learning: int) -> dict[str, Any]:
    score = Score()
    for _ in range(learning):
        score(target.value_and_gradient, family, samples)
    contenders: dict[str, Callable[..., Gradient]] = {
        "REINFORCE": Reinforce(0.0),
        "REINFORCE, best constant baseline": Reinforce(best_baseline(target, family, 4_000)),
        "score function, leave one out": Score(learned=False),
        "score function, learned control variate": score,
        "path-wise": pathwise,
    }
    return {
        name: variance(estimator, target, family, samples, estimates)
        for name, estimator in contenders.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=32, help="draws of one estimate")
    parser.add_argument("--estimates", type=int, default=100)
    parser.add_argument(
        "--learning", type=int, default=180, help="earlier estimates the control variate has seen"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    target = logistic_regression()
    found: dict[str, Any] = {}
    with seeded(0):
        for family_name, first in {"mean field": MeanField(COLUMNS), "full rank": FullRank(COLUMNS)}.items():
            converged = stochastic(target, first, ascending=Ascending(steps=3_000)).posterior
            for place, family in {"first": first, "converged": converged}.items():
                numbers = measure(
                    target, copy.deepcopy(family), arguments.samples, arguments.estimates, arguments.learning
                )
                best = numbers["REINFORCE, best constant baseline"]
                for name, value in numbers.items():
                    print(
                        f"{family_name:10} {place:10} {name:45} {value:12.4g} {value / best:10.4g}",
                        flush=True,
                    )
                ratio = numbers["score function, learned control variate"] / best
                found[f"{family_name}, {place} q"] = {
                    "variance": numbers,
                    "ratio": ratio,
                    "met": ratio <= TARGET,
                }
    keep("score_variance", {"settings": vars(arguments), "target": TARGET, "found": found})


if __name__ == "__main__":
    main()
