"""How good a density model is, in numbers with their errors."""

from collections.abc import Callable
from math import log, prod, sqrt
from typing import Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.evaluation.importance import MEMORY, importance_pass
from jensen.evaluation.latents import active_units, kl_per_dimension, posterior_means, reconstruction_error
from jensen.models import Model

Numbers = dict[str, float | int | list[float] | None]


@runtime_checkable
class Exact(Protocol):
    """A model whose density is known."""

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Log p(x) in nats, (n,)."""
        ...


def evaluate_exact(model: Exact, x: Float[Tensor, "n *event"], chunk: int = 100_000) -> Numbers:
    """Evaluates a model whose density is known: no sampling, no gap.

    Args:
        model: Has ``log_prob``.
        x: Data; NaN where a cell is missing, which is integrated out.
        chunk: Data at once.

    Returns:
        What ``evaluate`` returns, as far as it has a meaning here. ``elbo`` is log p(x); nats and bits per dimension
        are those per observed cell.
    """
    with torch.inference_mode():
        values = torch.cat([model.log_prob(some) for some in x.split(chunk)])
    n, cells = len(x), int((~x.isnan()).sum()) / len(x)
    nll = -float(values.mean())
    return {
        "elbo": -nll,
        "nll": nll,
        "nll_standard_error": 0.0,
        "nll_test_standard_error": float(values.std()) / sqrt(n) if n > 1 else None,
        "gap": 0.0,
        "nats_per_dim": nll / cells,
        "bits_per_dim": nll / cells / log(2),
        "samples": 0,
        "n": n,
    }


def evaluate(
    model: Model | Exact,
    x: Float[Tensor, "n *event"],
    samples: int = 5000,
    *,
    seed: int | None = 0,
    memory: int = MEMORY,
    on_data: Callable[[int], None] | None = None,
) -> Numbers:
    """Evaluates a model on data it hasn't seen.

    Args:
        model: With densities of prior and posterior.
        x: Data in the model's dtype, (n, *event).
        samples: Importance samples for each datum.
        seed: Of the draws.
        memory: Bytes of intermediate results at once.
        on_data: Called with the number of data done after each chunk.

    Returns:
        Means over the data, nats a datum unless the name says otherwise: ``elbo``; ``nll`` (minus the
        importance-sampled log p(x), in expectation an upper bound on the true value);
        ``nll_standard_error`` (of importance sampling); ``nll_test_standard_error`` (over data);
        ``gap`` (what importance sampling finds of the gap of the ELBO: a lower bound on it in expectation);
        ``log_likelihood`` and ``kl`` (the ELBO's two terms); ``nats_per_dim``; ``bits_per_dim``; ``samples``;
        ``n``; ``active_units``; ``kl_per_dimension`` (None where there is no closed form);
        ``reconstruction_error`` (mean squared error a cell).

    Raises:
        BoundError: If a density doesn't exist.
        ConfigError: If samples is less than one.
    """
    if hasattr(model, "log_prob"):
        return evaluate_exact(cast(Exact, model), x)
    model = cast(Model, model)
    result = importance_pass(model, x, samples, seed=seed, memory=memory, on_data=on_data)
    n, cells = len(x), prod(x.shape[1:])
    nll = -float(result.evidence.mean())
    elbo = float(result.elbo.mean())
    log_likelihood = float(result.log_likelihood.mean())
    kl = kl_per_dimension(model, x)
    return {
        "elbo": elbo,
        "nll": nll,
        "nll_standard_error": sqrt(float(result.standard_error.square().sum())) / n,
        "nll_test_standard_error": float(result.evidence.std()) / sqrt(n) if n > 1 else None,
        "gap": -nll - elbo,
        "log_likelihood": log_likelihood,
        "kl": log_likelihood - elbo,
        "nats_per_dim": nll / cells,
        "bits_per_dim": nll / cells / log(2),
        "samples": samples,
        "n": n,
        "active_units": active_units(posterior_means(model, x)),
        "kl_per_dimension": None if kl is None else [float(value) for value in kl],
        "reconstruction_error": reconstruction_error(model, x),
    }
