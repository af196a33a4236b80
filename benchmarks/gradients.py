"""Bias and variance of the gradient estimators, against exact gradients.

Run with ``python benchmarks/gradients.py``; it writes ``benchmarks/results/gradients.json`` and prints a table in
Markdown. Two models of one datum: linear-Gaussian with one latent, at a posterior that is far from the exact one
and at one that is near it, and three binary latents. For each the expected bound is known to rounding for any
number of samples, and its gradient by automatic differentiation. Both posteriors of the first are wider than the
exact one: importance weights have no variance under one that is too narrow.
"""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import jensen
from jensen.bounds import (
    Draw,
    Estimate,
    GradientEstimator,
    HasTerms,
    Samples,
    doubly_reparameterised,
    elbo,
    iwae,
    pathwise,
    score_function,
    sticking_the_landing,
)
from jensen.training import Batch
from testbed import (
    BinaryBed,
    LinearGaussianBed,
    binary_latents,
    expected_iwae,
    gradient_draws,
    gradients,
    linear_gaussian,
)

RESULT = Path(__file__).parent / "results" / "gradients.json"
SEED = 0
COPIES = 4_000
CHUNKS = 15

POINTS = {"far": {"shift": 0.5, "log_stretch": 0.7}, "near": {"shift": 0.02, "log_stretch": 0.05}}
BOUNDS = {"ELBO, 5 samples": (elbo, 5), "IWAE, 5 samples": (iwae, 5), "IWAE, 50 samples": (iwae, 50)}


def without_control_variate(model: HasTerms, batch: Batch, bound: Callable, samples: Samples = 8) -> Estimate:
    """The score-function gradient as it comes from its definition."""
    terms = model.terms(
        batch.x, batch.context, batch.observed, samples, draw=Draw(reparameterised=False, closed_form=False)
    )
    value = bound(terms)
    return Estimate(value + value.detach() * terms.log_posterior["z"].sum(0), terms)


CONTINUOUS: dict[str, GradientEstimator] = {
    "path-wise": pathwise,
    "sticking the landing": sticking_the_landing,
    "doubly reparameterised": doubly_reparameterised,
    "score function": score_function,
}
DISCRETE: dict[str, GradientEstimator] = {
    "score function": score_function,
    "score function without control variate": without_control_variate,
}


def measure(
    bed: LinearGaussianBed | BinaryBed, estimator: GradientEstimator, bound: Callable, samples: int
) -> dict:
    """Bias and variance of one estimator, apart for the parameters of q (the posterior) and of p (the model)."""
    exact = gradients(expected_iwae(bed, 1 if bound is elbo else samples), bed.model)
    chunks = [
        gradient_draws(bed.model, bed.batch, estimator, bound, samples, COPIES, seed=SEED + chunk)
        for chunk in range(CHUNKS)
    ]
    result: dict = {}
    for part in ("q", "p"):
        names = [name for name in exact if name.startswith("posterior.") == (part == "q")]
        draws = torch.cat([flat(chunk, names, COPIES) for chunk in chunks])
        target = flat(exact, names, 1)[0]
        variance = draws.var(0).sum()
        result[part] = {
            "gradient_norm": float(target.norm()),
            "bias_norm": float((draws.mean(0) - target).norm()),
            # The root mean square of that norm if there is no bias.
            "standard_error": float((variance / len(draws)).sqrt()),
            "total_variance": float(variance),
        }
    return result


def flat(parts: dict[str, Tensor], names: list[str], copies: int) -> Tensor:
    return torch.cat([parts[name].reshape(copies, -1) for name in names], 1)


def rows() -> list[dict]:
    cases = [
        (f"linear-Gaussian, {point}", linear_gaussian(latent_dim=1, data_dim=3, n=1, **wrong), CONTINUOUS)
        for point, wrong in POINTS.items()
    ]
    cases.append(("binary latents", binary_latents(), DISCRETE))
    found = []
    for model, bed, estimators in cases:
        for bound_name, (bound, samples) in BOUNDS.items():
            for name, estimator in estimators.items():
                if estimator is doubly_reparameterised and bound is not iwae:
                    continue
                row = {"model": model, "bound": bound_name, "estimator": name}
                found.append(row | measure(bed, estimator, bound, samples))
    return found


def table(found: list[dict]) -> str:
    lines = [
        "| model | bound | estimator | gradient of q | bias of q | variance of q "
        "| gradient of p | bias of p | variance of p |",
        "|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in found:
        cells = [row["model"], row["bound"], row["estimator"]]
        for part in ("q", "p"):
            numbers = row[part]
            cells += [
                f"{numbers['gradient_norm']:.3g}",
                f"{numbers['bias_norm']:.2g} ± {numbers['standard_error']:.2g}",
                f"{numbers['total_variance']:.3g}",
            ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    torch.set_num_threads(1)
    start = time.perf_counter()
    found = rows()
    report = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {
            "platform": platform.platform(),
            "architecture": platform.machine(),
            "cpus": os.cpu_count(),
        },
        "versions": {
            "python": platform.python_version(),
            "torch": version("torch"),
            "jensen": jensen.__version__,
        },
        "settings": {
            "estimates": COPIES * CHUNKS,
            "seed": SEED,
            "threads": 1,
            "dtype": "float64",
            "points": POINTS,
            "bias_norm": "norm of the mean estimate minus the exact gradient",
            "standard_error": "root mean square of bias_norm for an estimator without bias",
            "total_variance": "sum over the components of the variance of one estimate",
        },
        "seconds": time.perf_counter() - start,
        "rows": found,
    }
    RESULT.parent.mkdir(exist_ok=True)
    RESULT.write_text(json.dumps(report, indent=2) + "\n")
    print(table(found))


if __name__ == "__main__":
    main()
