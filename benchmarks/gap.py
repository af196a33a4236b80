"""The bracket on log p(x): where it is known, and of a fitted Run.

Without a Run only the linear-Gaussian part is measured; `gap.py RUN` adds that of the Run, keyed by the Run's name and
merged into what is there.
"""

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from common import keep, kept
from jensen import data, distributions, evaluation, likelihoods, models, priors
from jensen.data.toys import LinearGaussian
from jensen.evaluation import Annealing
from jensen.runs import Run

TARGETS = {"linear_gaussian_distance": 0.1, "run_width": 1.0}


class MeanField(distributions.Conditional):
    """The best normal with independent latents: what a perfect encoder of that family would give."""

    def __init__(self, problem: LinearGaussian) -> None:
        super().__init__()
        self.problem = problem

    def forward(self, context: Tensor | None = None) -> Independent:
        """The posterior given data."""
        exact = self.problem.posterior(context)
        scale = exact.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()
        return Independent(Normal(exact.mean, scale), 1)


class Decoder(nn.Module):
    """The matrix and the mean of the problem."""

    def __init__(self, problem: LinearGaussian) -> None:
        super().__init__()
        self.problem = problem

    def forward(self, z: Tensor) -> Tensor:
        """The mean of data given latents."""
        return (z @ self.problem.weight.mT + self.problem.mean).unsqueeze(-2)


def over_data(values: Tensor) -> dict[str, float]:
    """A mean over data with its error."""
    return {"mean": float(values.mean()), "standard_error": float(values.std()) / len(values) ** 0.5}


def linear_gaussian(n: int, chains: int, annealing: Annealing) -> dict[str, Any]:
    """Twenty latents, thirty cells: both sides against the exact log p(x)."""
    problem = data.linear_gaussian(n=1, data_dim=30, latent_dim=20, noise_scale=0.5)
    likelihood = likelihoods.Normal(Decoder(problem), (30,), scale=0.5).double()
    # The fixed scale went through float32.
    likelihood.log_scale.copy_(torch.tensor(0.5, dtype=torch.float64).log())
    prior = priors.StandardNormal(20).double()
    model = models.LatentVariableModel(prior, MeanField(problem), likelihood)
    start = time.perf_counter()
    found = evaluation.bracket(model, n, chains, annealing)
    seconds = time.perf_counter() - start
    exact = problem.log_prob(found.x)
    iwae = evaluation.evidence(model, found.x, 5000)
    return {
        "latents": 20,
        "data": n,
        "chains": chains,
        "annealing": vars(annealing),
        "seconds": seconds,
        "lower_less_exact": over_data(found.lower - exact),
        "upper_less_exact": over_data(found.upper - exact),
        "width": over_data(found.upper - found.lower),
        "iwae_5000_less_exact": over_data(iwae.value - exact),
        "acceptance": float(found.acceptance.mean()),
    }


def of_run(folder: Path, n: int, chains: int, annealing: Annealing) -> dict[str, Any]:
    """The bracket on data that a Run's model simulates, and where the importance-weighted bound lies."""
    run = Run.load(folder)
    start = time.perf_counter()
    found = evaluation.bracket(run.model, n, chains, annealing)
    seconds = time.perf_counter() - start
    iwae = evaluation.evidence(run.model, found.x, 5000)
    return {
        "data_of_fit": run.about.get("data"),
        "epochs": run.history[-1]["epoch"],
        "options": run.config.model_dump(mode="json"),
        "data": n,
        "chains": chains,
        "annealing": vars(annealing),
        "seconds": seconds,
        "lower": over_data(found.lower),
        "upper": over_data(found.upper),
        "width": over_data(found.upper - found.lower),
        "iwae_5000": over_data(iwae.value),
        "upper_less_iwae_5000": over_data(found.upper - iwae.value),
        "iwae_5000_less_lower": over_data(iwae.value - found.lower),
        "acceptance": float(found.acceptance.mean()),
    }


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", nargs="?", type=Path)
    parser.add_argument("--data", type=int, default=100)
    parser.add_argument("--chains", type=int, default=16)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--start", choices=("posterior", "prior"), default="posterior")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    annealing = Annealing(steps=arguments.steps, start=arguments.start)
    content = {name: value for name, value in kept("gap").items() if name != "machine"}
    content |= {"what": "bounds on log p(x) of simulated data, nats a datum", "targets": TARGETS}
    if arguments.run is None:
        result = linear_gaussian(arguments.data, arguments.chains, annealing)
        content["linear_gaussian"] = result
    else:
        result = of_run(arguments.run, arguments.data, arguments.chains, annealing)
        content["runs"] = {**content.get("runs", {}), arguments.run.resolve().name: result}
    path = keep("gap", content)
    for name, value in result.items():
        print(name, value)
    print(f"written to {path}")


if __name__ == "__main__":
    main()
