"""One loop for EM, CAVI, coordinate gradient ascent and stochastic VI; what varies is injected."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import DataError
from jensen.models.families import Completes, Family, WeightFamily, scored
from jensen.models.mixture import Mixture
from jensen.models.progress import Iteration
from jensen.models.rows import Columns, Rows, columns, covariance, split_missing
from jensen.models.starting import centres, nearest_centre

SMALLEST_CHUNK = 64
CELLS = 2**19
"""Entries of features and responsibilities at once; small enough to stay in a processor's cache."""


@dataclass(frozen=True)
class Settings:
    """How the bound is climbed.

    Attributes:
        method: "coordinate" replaces q(theta) and q(pi) by their optimum (CAVI; EM where there is no prior);
            "gradient" takes a step of ``step`` along their natural gradient; "stochastic" takes such steps on
            minibatches, of sizes (t + delay)^-forgetting.
        iterations: Passes over the data at most.
        tolerance: Stops where a pass adds less than this, in nats a datum.
        restarts: Starts that are climbed at once; the best is kept.
        step: From 0 to 1.
        batch_size: Of stochastic steps.
        delay: From 0.
        forgetting: Above 0.5, at most 1.
    """

    method: Literal["coordinate", "gradient", "stochastic"] = "coordinate"
    iterations: int = 500
    tolerance: float = 1e-5
    restarts: int = 1
    step: float = 0.5
    batch_size: int = 256
    delay: float = 10.0
    forgetting: float = 0.7


def bound_and_statistics(
    components: Family, weights: WeightFamily, statistics: Float[Tensor, "r k f"], rows: Rows | list[Tensor]
) -> tuple[Float[Tensor, " r"], Float[Tensor, "r k f"]]:
    r"""One pass over the data with q(theta), q(pi) given by ``statistics`` and the optimal q(z).

    .. math::
        L = \sum_n \log \sum_k \exp(E \log \pi_k + E \log p(x_n|\theta_k)) - KL(q(\theta)\|p) - KL(q(\pi)\|p)

    Args:
        components: Family of the components.
        weights: Family of the weights.
        statistics: Of R starts.
        rows: Data.

    Returns:
        The bound on the log evidence of all data in nats with all constants, (R,) (without priors the
        log-likelihood), and the new expected statistics.
    """
    r, k, f = statistics.shape
    coefficients = components.coefficients(statistics)
    coefficients[..., -1] += weights.expected_log(statistics[..., -1])
    flat = coefficients.reshape(r * k, f)
    total = statistics.new_zeros(r)
    new = torch.zeros(r * k, f, dtype=statistics.dtype)
    for x, observed in _small(rows, f + 2 * r * k, r * k if isinstance(components, Completes) else 0):
        given = scored(components, flat, x, observed)
        logits = given.logits.reshape(r, k, -1)
        # Written out: logsumexp and softmax share their exponentials.
        top = logits.amax(1, keepdim=True)
        shares = logits.sub_(top).exp_()
        sums = shares.sum(1, keepdim=True)
        total += (sums.log() + top).sum((1, 2))
        shares /= sums
        new += given.statistics(shares.reshape(r * k, -1))
    prior = components.negative_kl(statistics) + weights.negative_kl(statistics[..., -1])
    return total + prior, new.reshape(r, k, f)


def climb(
    mixture: Mixture, rows: Rows, settings: Settings, generator: torch.Generator
) -> Iterator[Iteration]:
    """Fits a mixture.

    The bound never decreases with the methods "coordinate" and "gradient": the components' and weights' q are set, or
    moved along the straight line of natural parameters to, their optimum given q(z), on which the divergence from the
    optimum falls.

    Args:
        mixture: What is fitted, in place; after each iteration it has the best start so far.
        rows: Data; NaN where a cell is missing, if the family can leave cells out.
        settings: How.
        generator: Of starts and shuffles.

    Yields:
        A record for each pass over the data, of the best start.

    Raises:
        DataError: If a column has no observed cell, or the data are too far from all components.
    """
    components, weights = mixture.components, mixture.weight_family
    spread = columns(rows)
    components.prepare(spread, covariance(rows, spread) if components.needs_covariance else None)
    statistics = _start(mixture, rows, spread, settings.restarts, generator)
    previous = torch.full((settings.restarts,), -torch.inf, dtype=torch.float64)
    best = -torch.inf
    for number in range(1, settings.iterations + 1):
        bounds, new = bound_and_statistics(components, weights, statistics, rows)
        if not bool(torch.isfinite(bounds).any()):
            raise DataError("the bound isn't finite: the data are too far from all components; rescale them")
        leader = int(bounds.nan_to_num(-torch.inf).argmax())
        if float(bounds[leader]) > best:
            best = float(bounds[leader])
            mixture.statistics.data = statistics[leader].clone()
        gained = bounds - previous
        done = number > 1 and bool((gained < settings.tolerance * len(rows)).all())
        yield Iteration(number, float(bounds[leader]) / len(rows), done)
        if done:
            return
        previous = bounds
        if settings.method == "coordinate":
            statistics = new
        elif settings.method == "gradient":
            statistics = statistics + settings.step * (new - statistics)
        else:
            statistics = _stochastic_pass(mixture, statistics, rows, settings, number - 1, generator)


def _stochastic_pass(
    mixture: Mixture,
    statistics: Tensor,
    rows: Rows,
    settings: Settings,
    epoch: int,
    generator: torch.Generator,
) -> Tensor:
    """One shuffled pass of natural-gradient steps on minibatches."""
    n = len(rows)
    order = torch.randperm(n, generator=generator).numpy()
    size = min(settings.batch_size, n)
    steps = -(-n // size)
    for step in range(steps):
        some: np.ndarray = np.sort(order[step * size : (step + 1) * size])
        _, new = bound_and_statistics(mixture.components, mixture.weight_family, statistics, [rows[some]])
        rate = (1 + epoch * steps + step + settings.delay) ** -settings.forgetting
        statistics = statistics + rate * (new * (n / len(some)) - statistics)
    return statistics


def _start(
    mixture: Mixture, rows: Rows, spread: Columns, restarts: int, generator: torch.Generator
) -> Tensor:
    """Statistics of a hard assignment to the nearest of centres found by k-means++, (R, K, F)."""
    found = centres(rows, spread, mixture.count, restarts, generator)
    f = mixture.components.feature_count
    total = torch.zeros(restarts * mixture.count, f, dtype=torch.float64)
    for x, observed in _small(rows, f + 2 * restarts * mixture.count):
        member = nearest_centre(x, observed, spread, found).reshape(restarts * mixture.count, -1)
        total.addmm_(member, mixture.components.features(x, observed).T)
    return total.reshape(restarts, mixture.count, f)


def _small(
    rows: Rows | list[Tensor], width: int, completed: int = 0
) -> Iterator[tuple[Tensor, Tensor | None]]:
    """Chunks of the data, and masks of what was observed, whose intermediate results stay small.

    Args:
        rows: Data.
        width: Entries of intermediate results a datum.
        completed: Components that expect missing cells given the others, which takes some D x D matrices each.
    """
    for chunk in rows:
        x, observed = split_missing(chunk)
        more = 0 if observed is None else 3 * completed * x.shape[1] ** 2
        step = max(SMALLEST_CHUNK, CELLS // (width + more))
        for start in range(0, len(x), step):
            some = slice(start, start + step)
            yield x[some], None if observed is None else observed[some]
