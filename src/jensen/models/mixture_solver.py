"""One loop for EM, CAVI, coordinate gradient ascent and stochastic VI; what varies is injected."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, DataError
from jensen.models.families import Completes, Family, Uniform, WeightFamily, scored
from jensen.models.mixture import Mixture
from jensen.models.plain_gradient import Free, PlainGradient
from jensen.models.progress import Iteration, floor_note
from jensen.models.rows import Columns, Rows, columns, covariance, split_missing
from jensen.models.starting import LOOSE_STEPS, centres, nearest_centre

SMALLEST_CHUNK = 64
CELLS = 2**19
"""Entries of features and responsibilities at once; small enough to stay in a processor's cache."""
SUBSET = 10_000
PART = 200
"""Data that several starts are compared on, at most; the second for each component, if that is more."""
COMPARED = 1e-4
"""Gain in nats a datum below which starts have come far enough to be compared."""
HOPE = 20
"""Gains like its last one that a start may be behind the best by, before it is given up."""
PATIENCE = 5
"""Passes without a gain after which stochastic steps end; one is enough for those that can't lower the bound."""


@dataclass(frozen=True)
class Settings:
    """How the bound is climbed.

    Attributes:
        method: "coordinate" replaces q(theta) and q(pi) by their optimum (CAVI; EM where there is no prior);
            "gradient" takes a step of ``step`` along their natural gradient; "stochastic" takes such steps on
            minibatches, of sizes (t + delay)^-forgetting; "plain-gradient" takes steps along the gradient by free
            parameters of q(theta), one block after the other, for families that have them and known weights.
        iterations: Passes over the data at most.
        tolerance: Stops where a pass adds less than this, in nats a datum.
        restarts: Starts that are climbed at once; the best is kept. Of more than ``SUBSET`` data (``PART`` for each
            component if that is more), the best on so many of them is climbed alone.
        step: From 0 to 1.
        batch_size: Of stochastic steps.
        delay: From 0.
        forgetting: Above 0.5, at most 1.
    """

    method: Literal["coordinate", "gradient", "stochastic", "plain-gradient"] = "coordinate"
    iterations: int = 500
    tolerance: float = 1e-5
    restarts: int = 1
    step: float = 0.5
    batch_size: int = 256
    delay: float = 10.0
    forgetting: float = 0.7


def bound_and_statistics(
    components: Family,
    weights: WeightFamily,
    statistics: Float[Tensor, "r k f"],
    rows: Rows | list[Tensor],
    scale: float = 1.0,
) -> tuple[Float[Tensor, " r"], Float[Tensor, "r k f"]]:
    r"""One pass over the data with q(theta), q(pi) given by ``statistics`` and the optimal q(z).

    .. math::
        L = \sum_n \log \sum_k \exp(E \log \pi_k + E \log p(x_n|\theta_k)) - KL(q(\theta)\|p) - KL(q(\pi)\|p)

    Args:
        components: Family of the components.
        weights: Family of the weights.
        statistics: Of R starts.
        rows: Data.
        scale: How many data each of them stands for.

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
    return scale * total + prior, scale * new.reshape(r, k, f)


def climb(
    mixture: Mixture, rows: Rows, settings: Settings, generator: torch.Generator
) -> Iterator[Iteration]:
    """Fits a mixture.

    The bound never decreases but with the method "stochastic": the components' and weights' q are set, or moved along
    the straight line of natural parameters to, their optimum given q(z), on which the divergence from the optimum
    falls; a plain gradient's step that would lower it isn't taken.

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
    statistics = _begin(mixture, rows, spread, settings, generator)
    n, r = len(rows), len(statistics)
    plain = None
    if settings.method == "plain-gradient":
        if not isinstance(components, Free) or not isinstance(weights, Uniform):
            raise ConfigError(
                "plain gradients are of components with known variance (covariance='unit') and known weights "
                "(weights='uniform'); choose solver='gradient', which follows natural gradients"
            )
        plain = PlainGradient(components, settings.step, n)

    def evaluate(given: Tensor) -> tuple[Tensor, Tensor]:
        return bound_and_statistics(components, weights, given, rows)

    previous = torch.full((r,), -torch.inf, dtype=torch.float64)
    best, stale = -torch.inf, 0
    for number in range(1, settings.iterations + 1):
        bounds, new = evaluate(statistics)
        if not bool(torch.isfinite(bounds).any()):
            raise DataError("the bound isn't finite: the data are too far from all components; rescale them")
        leader = int(bounds.nan_to_num(-torch.inf).argmax())
        if float(bounds[leader]) > best:
            best = float(bounds[leader])
            mixture.statistics.data = statistics[leader].clone()
        still = bool((bounds - previous < settings.tolerance * n).all())
        stale = stale + 1 if still and not (plain is not None and plain.rejected) else 0
        done = stale >= (PATIENCE if settings.method == "stochastic" else 1)
        last = done or number == settings.iterations
        note = floor_note(components.at_floor(mixture.statistics.data), "components") if last else ""
        yield Iteration(number, (best if last else float(bounds[leader])) / n, done, note)
        if done:
            return
        previous = torch.maximum(previous, bounds)
        if plain is not None:
            statistics = plain(evaluate, statistics, bounds, new)
        elif settings.method == "coordinate":
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
    size = min(settings.batch_size, n)
    for step, some in enumerate(rows.shuffled(size, generator), 1 + epoch * -(-n // size)):
        _, new = bound_and_statistics(
            mixture.components, mixture.weight_family, statistics, [some], n / len(some)
        )
        rate = (step + settings.delay) ** -settings.forgetting
        statistics = statistics + rate * (new - statistics)
    return statistics


def _begin(
    mixture: Mixture, rows: Rows, spread: Columns, settings: Settings, generator: torch.Generator
) -> Tensor:
    """Statistics of the starts, (R, K, F); of many data only of the one that goes furthest on a part of them."""
    most = max(SUBSET, PART * mixture.count)
    if settings.restarts == 1 or len(rows) <= most:
        return _start(mixture, rows, spread, settings.restarts, generator)
    some, scale = rows.some(most, generator), len(rows) / most
    statistics = scale * _start(mixture, some, spread, settings.restarts, generator)
    reached = torch.full((settings.restarts,), -torch.inf, dtype=torch.float64)
    climbing = torch.arange(settings.restarts)
    for _ in range(settings.iterations):
        bounds, new = bound_and_statistics(
            mixture.components, mixture.weight_family, statistics[climbing], some, scale
        )
        gained = bounds - reached[climbing]
        reached[climbing], statistics[climbing] = bounds, new
        behind = reached.nan_to_num(-torch.inf).max() - bounds
        climbing = climbing[(gained > COMPARED * len(rows)) & (behind < HOPE * gained)]
        if not len(climbing):
            break
    return statistics[int(reached.nan_to_num(-torch.inf).argmax())][None].clone()


def _start(
    mixture: Mixture, rows: Rows, spread: Columns, restarts: int, generator: torch.Generator
) -> Tensor:
    """Statistics of a hard assignment to the nearest of centres found by k-means++, (R, K, F)."""
    # Starts from single data find more modes; without a bound on the likelihood they end at single data, too.
    loose = 0 if mixture.components.bounded else LOOSE_STEPS
    found = centres(rows, spread, mixture.count, restarts, generator, loose)
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
