"""log p(x) by importance sampling: each datum is encoded once and decoded for many draws in bounded memory."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from numbers import Integral
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from jensen.bounds import Draw, Terms
from jensen.distributions import select
from jensen.errors import ConfigError, ShapeError
from jensen.evaluation.memory import MEMORY, part, row_bytes
from jensen.flushing import flushed
from jensen.models import Model
from jensen.seeding import seeded

_DATA_AT_ONCE = 8
_ENCODED_AT_ONCE = 512


@dataclass(frozen=True)
class ImportancePass:
    """What one pass of importance sampling gives for each datum, in nats, float64, (n,) each.

    Attributes:
        evidence: Estimate of log p(x); a lower bound in expectation.
        standard_error: Of that estimate.
        elbo: Average of the log-weights over the same draws.
        log_likelihood: Average of log p(x|z) over the same draws.
        samples: Draws for each datum.
    """

    evidence: Float[Tensor, " n"]
    standard_error: Float[Tensor, " n"]
    elbo: Float[Tensor, " n"]
    log_likelihood: Float[Tensor, " n"]
    samples: int


def importance_pass(
    model: Model,
    x: Float[Tensor, "n *event"],
    samples: int,
    *,
    context: Float[Tensor, "n *context"] | None = None,
    observed: Bool[Tensor, "n *event"] | None = None,
    seed: int | None = 0,
    common_noise: bool = False,
    memory: int = MEMORY,
    on_data: Any = None,
) -> ImportancePass:
    """What ``evidence`` estimates, with the ELBO and the log-likelihood from the same draws.

    Args:
        model: With densities of prior and posterior; for all arguments see ``evidence``.
        x: Data.
        samples: Draws for each datum.
        context: Context.
        observed: Mask.
        seed: Seed.
        common_noise: Whether all data share their noise.
        memory: Bytes at once.
        on_data: Called with the number of data done after each chunk, as a progress bar wants.

    Returns:
        The estimates.

    Raises:
        BoundError: If a density doesn't exist.
        ConfigError: If samples is no whole number above 0.
        ShapeError: If there are no data.
    """
    if not isinstance(samples, Integral) or samples < 1:
        raise ConfigError(
            f"importance sampling needs at least one draw for each datum, a whole number; got samples={samples}"
        )
    if len(x) == 0:
        raise ShapeError("there are no data to evaluate; got an array of length 0")
    draw = Draw(closed_form=False, common_noise=common_noise)
    parts: list[Tensor] = []
    with seeded(seed), flushed(), torch.inference_mode():
        at_once = max(1, memory // (row_bytes(model, x, context, observed) * _DATA_AT_ONCE))
        state = torch.get_rng_state()
        for start in range(0, len(x), _ENCODED_AT_ONCE):
            rows = slice(start, start + _ENCODED_AT_ONCE)
            some, c, o = x[rows], part(context, rows), part(observed, rows)
            q = model.encode(some, c, o)
            for first in range(0, len(some), _DATA_AT_ONCE):
                few = slice(first, first + _DATA_AT_ONCE)
                if common_noise:
                    torch.set_rng_state(state)
                parts.append(
                    _weigh(
                        model, some[few], part(c, few), part(o, few), select(q, few), samples, at_once, draw
                    )
                )
                if on_data is not None:
                    on_data(len(some[few]))
    total, squares, log_weights, log_likelihood = torch.cat(parts, 1)
    variance = (squares - 2 * total).exp() - 1 / samples
    return ImportancePass(
        evidence=total - log(samples),
        standard_error=variance.clamp(min=0).sqrt(),
        elbo=log_weights / samples,
        log_likelihood=log_likelihood / samples,
        samples=samples,
    )


def _weigh(
    model: Model,
    x: Tensor,
    context: Tensor | None,
    observed: Tensor | None,
    q: Distribution,
    samples: int,
    at_once: int,
    draw: Draw,
) -> Tensor:
    """For each datum log sum w, log sum w^2, sum log w and sum log p(x|z): (4, batch), float64."""
    result = torch.zeros(4, len(x), dtype=torch.float64, device=x.device)
    result[:2] = -torch.inf
    for terms in in_chunks(model, x, context, observed, q, samples, at_once, draw):
        log_ratio = terms.log_ratio().double()
        sums = torch.stack(
            [
                log_ratio.logsumexp(0),
                (2 * log_ratio).logsumexp(0),
                log_ratio.sum(0),
                terms.log_likelihood.double().sum(0),
            ]
        )
        result[:2] = torch.logaddexp(result[:2], sums[:2])
        result[2:] += sums[2:]
    return result


def in_chunks(
    model: Model,
    x: Tensor,
    context: Tensor | None,
    observed: Tensor | None,
    q: Distribution,
    samples: int,
    at_once: int,
    draw: Draw,
) -> Iterator[Terms]:
    """Passes over the model that add up to so many draws for each datum, each of at most ``at_once``."""
    for left in range(samples, 0, -at_once):
        yield model.terms(x, context, observed, min(at_once, left), draw=draw, encoded=q)
