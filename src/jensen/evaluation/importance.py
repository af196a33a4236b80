"""log p(x) by importance sampling: each datum is encoded once and decoded for many draws in bounded memory."""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from math import log
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.bounds import Draw
from jensen.distributions import select
from jensen.errors import ConfigError, ShapeError
from jensen.information import Estimate
from jensen.models import Model
from jensen.seeding import seeded

MEMORY = 16 * 2**20
"""Bytes of intermediate results at once. Small enough to stay in a processor's cache, large enough for its
matrix products; on a GPU give more."""

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


def evidence(
    model: Model,
    x: Float[Tensor, "n *event"],
    samples: int = 5000,
    *,
    context: Float[Tensor, "n *context"] | None = None,
    observed: Bool[Tensor, "n *event"] | None = None,
    seed: int | None = 0,
    common_noise: bool = False,
    memory: int = MEMORY,
) -> Estimate:
    r"""Estimates log p(x) by importance sampling with the model's posterior as the proposal.

    .. math::
        \log \hat p(x) = \log \tfrac1K \sum_{k=1}^K \frac{p(x, z_k)}{q(z_k|x)}, \quad z_k \sim q(z|x)

    In expectation it lies below log p(x) (it is the importance-weighted bound); the standard error is that of
    the delta method, sqrt(sum w^2 / (sum w)^2 - 1/K), and says nothing of weights that were never drawn.

    Args:
        model: With densities of prior and posterior.
        x: Data in the model's dtype; cells that weren't observed may hold anything.
        samples: Draws K for each datum, exactly.
        context: What the model is conditioned on.
        observed: True where a cell was observed.
        seed: Of the draws; None goes on with torch's generators.
        common_noise: Whether all data share their noise, so that a datum's estimate doesn't depend on the
            other data; the errors are then not independent over data.
        memory: Bytes of intermediate results at once.

    Returns:
        Estimates for each datum, float64 (n,).

    Raises:
        BoundError: If a density doesn't exist.
        ConfigError: If samples is less than one.

    Source: Importance weighted autoencoders, 2015, https://arxiv.org/abs/1509.00519.
    """
    result = importance_pass(
        model,
        x,
        samples,
        context=context,
        observed=observed,
        seed=seed,
        common_noise=common_noise,
        memory=memory,
    )
    return Estimate(result.evidence, result.standard_error, samples)


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
        model: See ``evidence``, as for the other arguments.
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
        ConfigError: If samples is less than one.
        ShapeError: If there are no data.
    """
    if samples < 1:
        raise ConfigError(
            f"importance sampling needs at least one draw for each datum, got samples={samples}"
        )
    if len(x) == 0:
        raise ShapeError("there are no data to evaluate; got an array of length 0")
    draw = Draw(closed_form=False, common_noise=common_noise)
    parts: list[Tensor] = []
    with seeded(seed), torch.inference_mode():
        at_once = _samples_at_once(model, x, context, observed, memory)
        state = torch.get_rng_state()
        for start in range(0, len(x), _ENCODED_AT_ONCE):
            rows = slice(start, start + _ENCODED_AT_ONCE)
            some, c, o = x[rows], _part(context, rows), _part(observed, rows)
            q = model.encode(some, c, o)
            for first in range(0, len(some), _DATA_AT_ONCE):
                few = slice(first, first + _DATA_AT_ONCE)
                if common_noise:
                    torch.set_rng_state(state)
                parts.append(
                    _weigh(
                        model, some[few], _part(c, few), _part(o, few), select(q, few), samples, at_once, draw
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
    left = samples
    while left > 0:
        terms = model.terms(x, context, observed, min(at_once, left), draw=draw, encoded=q)
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
        left -= at_once
    return result


def _part(values: Tensor | None, rows: slice) -> Tensor | None:
    return None if values is None else values[rows]


def _samples_at_once(
    model: Model, x: Tensor, context: Tensor | None, observed: Tensor | None, memory: int
) -> int:
    """How many draws of a few data fit into the memory; it doesn't depend on how many data there are."""
    one = slice(0, 1)
    with _counted_outputs() as count:
        model.terms(x[one], _part(context, one), _part(observed, one), samples=1)
    # The likelihood makes about four more arrays of the size of a datum.
    row = count[0] + 4 * x[0].numel() * x.element_size()
    return max(1, memory // (row * _DATA_AT_ONCE))


@contextmanager
def _counted_outputs() -> Generator[list[int]]:
    """Counts the bytes that modules return within the block."""
    count = [0]

    def add(module: nn.Module, inputs: Any, output: Any) -> None:
        if isinstance(output, Tensor) and not list(module.children()):
            count[0] += output.numel() * output.element_size()

    handle = torch.nn.modules.module.register_module_forward_hook(add)
    try:
        yield count
    finally:
        handle.remove()
