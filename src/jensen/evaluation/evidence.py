"""log p(x) with its error, by the method that is asked for."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jensen.errors import ConfigError, unknown
from jensen.evaluation.annealing import CHAINS, Annealing, OnPart, annealing_pass, in_dtype
from jensen.evaluation.importance import importance_pass
from jensen.evaluation.memory import MEMORY
from jensen.information import Estimate
from jensen.models import Model

SAMPLES = 5000
"""Importance samples for each datum where nobody says how many."""


def evidence(
    model: Model,
    x: Float[Tensor, "n *event"],
    samples: int | None = None,
    *,
    method: str = "is",
    annealing: Annealing | None = None,
    context: Float[Tensor, "n *context"] | None = None,
    observed: Bool[Tensor, "n *event"] | None = None,
    seed: int | None = 0,
    common_noise: bool = False,
    memory: int = MEMORY,
    dtype: torch.dtype | None = None,
    on_part: OnPart | None = None,
) -> Estimate:
    r"""Estimates log p(x): in expectation from below, whatever the method.

    By importance sampling with the model's posterior as the proposal ("is"),

    .. math::
        \log \hat p(x) = \log \tfrac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)

    or by annealing ("ais"), where K chains are led from q(z|x) to p(x, z) and their weights averaged; see
    ``annealing_pass``. The average is unbiased for p(x), so its logarithm lies below log p(x) in expectation. The
    standard error is that of the delta method, sqrt(sum w^2 / (sum w)^2 - 1/K), and says nothing of weights that
    were never drawn.

    Args:
        model: With densities of prior and posterior.
        x: Data in the model's dtype; cells that weren't observed may hold anything.
        samples: Draws, or chains, K for each datum, exactly; None takes 5000 draws or 16 chains.
        method: "is" or "ais". A chain costs hundreds of draws and is worth more than they where the posterior is
            a bad proposal.
        annealing: How, for "ais".
        context: What the model is conditioned on.
        observed: True where a cell was observed.
        seed: Of the draws; None goes on with torch's generators.
        common_noise: Whether all data share their noise, so that a datum's estimate doesn't depend on the
            other data; the errors are then not independent over data. Only for "is".
        memory: Bytes of intermediate results at once.
        dtype: Computes in this precision on a copy of the model; None in the model's own.
        on_part: Called with the share of the work done.

    Returns:
        Estimates for each datum, float64 (n,).

    Raises:
        BoundError: If a density doesn't exist, or the latents can't be annealed.
        ConfigError: If samples is less than one, or an option doesn't go with the method.

    Source: Importance weighted autoencoders, 2015, https://arxiv.org/abs/1509.00519; Annealed importance sampling,
    1998, https://arxiv.org/abs/physics/9803008.
    """
    if method == "ais":
        if common_noise:
            raise ConfigError("chains share no noise: common_noise goes with method='is' only")
        return annealing_pass(
            model,
            x,
            CHAINS if samples is None else samples,
            annealing,
            context=context,
            observed=observed,
            seed=seed,
            memory=memory,
            dtype=dtype,
            on_part=on_part,
        ).lower
    if method != "is":
        raise ConfigError(unknown("method", method, ("is", "ais")))
    if annealing is not None:
        raise ConfigError("importance sampling anneals nothing: annealing goes with method='ais' only")
    if dtype is not None:
        model, cast = in_dtype(model, dtype)
        x, context = cast(x), None if context is None else cast(context)
    samples = SAMPLES if samples is None else samples
    result = importance_pass(
        model,
        x,
        samples,
        context=context,
        observed=observed,
        seed=seed,
        common_noise=common_noise,
        memory=memory,
        on_data=None if on_part is None else lambda data: on_part(data / len(x)),
    )
    return Estimate(result.evidence, result.standard_error, samples)
