"""The importance-weighted bound against the number of draws."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jensen.bounds import Draw
from jensen.errors import ConfigError, ShapeError
from jensen.evaluation.annealing import OnPart
from jensen.evaluation.estimate import log_mean, mean
from jensen.evaluation.importance import in_chunks
from jensen.evaluation.memory import MEMORY, part, row_bytes
from jensen.flushing import flushed
from jensen.models import Model
from jensen.seeding import seeded

COUNTS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Numbers of draws K."""

_DATA_AT_ONCE = 8


@dataclass(frozen=True)
class BoundCurve:
    """The importance-weighted bound for several numbers of draws; at one draw it is the ELBO.

    Attributes:
        samples: The numbers of draws K.
        value: Estimates of the bound in nats, (K, n), float64.
        standard_error: Their Monte Carlo errors, (K, n).
    """

    samples: tuple[int, ...]
    value: Float[Tensor, "counts n"]
    standard_error: Float[Tensor, "counts n"]


def bound_curve(
    model: Model,
    x: Float[Tensor, "n *event"],
    counts: Sequence[int] = COUNTS,
    *,
    context: Float[Tensor, "n *context"] | None = None,
    observed: Bool[Tensor, "n *event"] | None = None,
    seed: int | None = 0,
    memory: int = MEMORY,
    on_part: OnPart | None = None,
) -> BoundCurve:
    r"""How the importance-weighted bound grows with the number of draws.

    .. math::
        \mathcal{L}_K = E\left[\log \tfrac1K \sum_{k=1}^K w_k\right], \qquad
        \mathcal{L}_1 \le \mathcal{L}_2 \le \dots \le \log p(x)

    As many weights are drawn as the largest K has; a smaller K takes the average over as many groups as there are,
    which has the bound as its expectation and an error from their spread. With one group alone the error is that
    of the delta method.

    Args:
        model: With densities of prior and posterior.
        x: Data in the model's dtype; cells that weren't observed may hold anything.
        counts: The numbers of draws K.
        context: What the model is conditioned on.
        observed: True where a cell was observed.
        seed: Of the draws; None goes on with torch's generators.
        memory: Bytes of intermediate results at once.
        on_part: Called with the share of the work done.

    Returns:
        The bound for each K and datum.

    Raises:
        BoundError: If a density doesn't exist or latents are shared.
        ConfigError: If there are no counts, or one is less than one.
        ShapeError: If there are no data.

    Source: Importance weighted autoencoders, 2015, https://arxiv.org/abs/1509.00519.
    """
    if not counts or min(counts) < 1:
        raise ConfigError(f"a curve needs numbers of draws of at least 1, got {tuple(counts)}")
    if len(x) == 0:
        raise ShapeError("there are no data to evaluate; got an array of length 0")
    most = max(counts)
    draw = Draw(closed_form=False)
    values: list[Tensor] = []
    errors: list[Tensor] = []
    with seeded(seed), flushed(), torch.inference_mode():
        at_once = max(1, memory // (row_bytes(model, x, context, observed) * _DATA_AT_ONCE))
        for first in range(0, len(x), _DATA_AT_ONCE):
            few = slice(first, first + _DATA_AT_ONCE)
            some, c, o = x[few], part(context, few), part(observed, few)
            q = model.encode(some, c, o)
            passes = in_chunks(model, some, c, o, q, most, at_once, draw)
            log_weights = torch.cat([terms.log_ratio().double() for terms in passes])
            each = [_bound(log_weights, count) for count in counts]
            values.append(torch.stack([value for value, _ in each]))
            errors.append(torch.stack([error for _, error in each]))
            if on_part is not None:
                on_part(len(some) / len(x))
    return BoundCurve(tuple(counts), torch.cat(values, 1), torch.cat(errors, 1))


def _bound(log_weights: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """The bound with so many draws, and its error, from weights (S, B)."""
    groups = len(log_weights) // count
    grouped = log_weights[: groups * count].unflatten(0, (groups, count))
    if groups == 1:
        only = log_mean(grouped[0])
        return only.value, only.standard_error
    found = mean(grouped.logsumexp(1) - log(count))
    return found.value, found.standard_error
