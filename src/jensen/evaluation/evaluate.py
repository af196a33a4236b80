"""How good a density model is, in numbers with their errors."""

from collections.abc import Callable
from math import log, prod, sqrt

from jaxtyping import Float
from torch import Tensor

from jensen.evaluation.importance import MEMORY, ImportancePass, importance_pass
from jensen.evaluation.latents import (
    active_units,
    kl_per_dimension,
    posterior_means,
    reconstruction_errors,
)
from jensen.models import Model

Numbers = dict[str, float | int | list[float] | None]


def evaluate(
    model: Model,
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
        ``elbo_test_standard_error``, ``gap_test_standard_error``, ``log_likelihood_test_standard_error``,
        ``kl_test_standard_error`` and ``reconstruction_error_test_standard_error`` (over data, too; they include
        what the draws add, and are None for a single datum);
        ``gap`` (what importance sampling finds of the gap of the ELBO: a lower bound on it in expectation);
        ``log_likelihood`` and ``kl`` (the ELBO's two terms); ``nats_per_dim``; ``bits_per_dim``; ``samples``;
        ``n``; ``active_units``; ``kl_per_dimension`` (None where there is no closed form);
        ``reconstruction_error`` (mean squared error a cell).

    Raises:
        BoundError: If a density doesn't exist.
        ConfigError: If samples is less than one.
    """
    result = importance_pass(model, x, samples, seed=seed, memory=memory, on_data=on_data)
    return summarise(model, x, result)


def summarise(model: Model, x: Float[Tensor, "n *event"], result: ImportancePass) -> Numbers:
    """The numbers of ``evaluate``, from a pass that was made already.

    Args:
        model: The model of the pass.
        x: Its data, (n, *event).
        result: What the pass gave for each datum.

    Returns:
        See ``evaluate``.
    """
    n, cells = len(x), prod(x.shape[1:])
    nll = -float(result.evidence.mean())
    elbo = float(result.elbo.mean())
    log_likelihood = float(result.log_likelihood.mean())
    kl = kl_per_dimension(model, x)
    errors = reconstruction_errors(model, x)
    return {
        "elbo": elbo,
        "elbo_test_standard_error": _standard_error(result.elbo),
        "nll": nll,
        "nll_standard_error": sqrt(float(result.standard_error.square().sum())) / n,
        "nll_test_standard_error": _standard_error(result.evidence),
        "gap": -nll - elbo,
        "gap_test_standard_error": _standard_error(result.evidence - result.elbo),
        "log_likelihood": log_likelihood,
        "log_likelihood_test_standard_error": _standard_error(result.log_likelihood),
        "kl": log_likelihood - elbo,
        "kl_test_standard_error": _standard_error(result.log_likelihood - result.elbo),
        "nats_per_dim": nll / cells,
        "bits_per_dim": nll / cells / log(2),
        "samples": result.samples,
        "n": n,
        "active_units": active_units(posterior_means(model, x)),
        "kl_per_dimension": None if kl is None else [float(value) for value in kl],
        "reconstruction_error": float(errors.mean()),
        "reconstruction_error_test_standard_error": _standard_error(errors),
    }


def _standard_error(values: Tensor) -> float | None:
    """That of the mean of independent values; None for one value."""
    return float(values.std()) / sqrt(len(values)) if len(values) > 1 else None
