"""A table of a fitted posterior and a plain statement of how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jensen.diagnostics import RELIABLE_K, psis
from jensen.inference.adaptive import finite

if TYPE_CHECKING:
    from jensen.inference.fitted import Fit

QUANTILES = (0.05, 0.5, 0.95)
COLUMNS = ("mean", "sd", "5%", "50%", "95%")

MOST_STATES = 10
"""Discrete numbers with more are described by mean and quantiles, like others."""

NARROW = 0.1
"""A standard deviation that is off by this share is spoken of."""

COARSE = 0.2
"""Error of a mean, in standard deviations, beyond which it isn't trusted."""

GAP_NATS = 0.1
"""A bound that is this far below the evidence says that the posterior has another shape than q."""

LEFT_OUT = 0.01
"""Share of the posterior in modes that q isn't at, beyond which q isn't trusted as a whole."""


@dataclass(frozen=True, repr=False)
class Summary:
    """What ``Fit.summary`` prints.

    Attributes:
        names: Of the numbers, such as ``theta[3]``.
        columns: Name of a column to its values, one for each number.
        probabilities: Of the states of each discrete number, by its name, where there are at most ten.
        heading: Method, bound, evidence and k-hat, in a line or two.
        words: How far to trust it, and why.
    """

    names: tuple[str, ...]
    columns: dict[str, tuple[float, ...]]
    heading: str
    words: tuple[str, ...]
    probabilities: dict[str, tuple[float, ...]] = field(default_factory=dict)

    def __str__(self) -> str:
        """The table, the probabilities of discrete numbers, and the words below."""
        width = max(10, *(len(name) for name in self.names))
        lines = [self.heading]
        others = [row for row, name in enumerate(self.names) if name not in self.probabilities]
        if others:
            lines += ["", " " * width + "".join(f"{column:>11}" for column in self.columns)]
        for row in others:
            cells = "".join(f"{column[row]:>11.4g}" for column in self.columns.values())
            lines.append(f"{self.names[row]:<{width}}{cells}")
        if self.probabilities:
            most = max(map(len, self.probabilities.values()))
            lines += ["", f"{'P(state)':<{width}}" + "".join(f"{state:>9}" for state in range(most))]
        for name, found in self.probabilities.items():
            lines.append(f"{name:<{width}}" + "".join(f"{share:>9.4f}" for share in found))
        return "\n".join([*lines, "", *self.words])

    def __repr__(self) -> str:
        """One line: the table itself was printed."""
        return f"Summary({len(self.names)} numbers)"


def describe(fit: Fit, values: dict[str, Tensor]) -> Summary:
    """The summary of a fit from draws of its parameters.

    Args:
        fit: The posterior.
        values: Its draws, each (draws, *shape).

    Returns:
        Table and words.
    """
    flat = torch.cat([value.reshape(len(value), -1).double() for value in values.values()], 1)
    quantiles = torch.quantile(flat, torch.tensor(QUANTILES, dtype=flat.dtype), 0)
    numbers = [flat.mean(0), flat.std(0), *quantiles]
    columns = {name: tuple(column.tolist()) for name, column in zip(COLUMNS, numbers, strict=True)}
    names = tuple(fit.target.names)
    counts = [p.states for p in fit.target.parameters.values() for _ in range(prod(p.shape))]
    probabilities = {
        name: tuple((flat[:, place, None] == torch.arange(count)).double().mean(0).tolist())
        for place, (name, count) in enumerate(zip(names, counts, strict=True))
        if 0 < count <= MOST_STATES
    }
    return Summary(names, columns, _heading(fit), tuple(words(fit)), probabilities)


def _heading(fit: Fit) -> str:
    how = "draws resampled by importance weights" if fit.weighted else "draws of q itself"
    if fit.posterior is None:
        return f"{fit.method}: particles, without a density"
    return (
        f"{fit.method}: {how}; bound {fit.elbo:.3f} ± {fit.elbo_standard_error:.2g} nats, log evidence "
        f"{float(fit.evidence):.3f} ± {float(fit.evidence.standard_error):.2g} nats, k-hat {fit.pareto_k:.2f}, "
        f"effective draws {100 * fit.effective:.0f} %"
    )


def words(fit: Fit) -> list[str]:
    """How far to trust a fit, with the reasons.

    Args:
        fit: The posterior.

    Returns:
        Sentences, the verdict first.
    """
    return [_verdict(fit), *(f"Note: {note}." for note in fit.notes)]


def _verdict(fit: Fit) -> str:
    if fit.pool is None:
        return (
            "Particles have no density, so nothing here says how far they are from the posterior; compare with "
            "method='auto' or mcmc.nuts."
        )
    if fit.found.left_out > LEFT_OUT:
        return _one_mode(fit)
    if fit.pareto_k >= RELIABLE_K and not fit.even:
        return (
            f"Don't trust it: k-hat is {fit.pareto_k:.2f}, above {RELIABLE_K}, so q misses part of the posterior and "
            "no weighting repairs that; means may be near, spreads and tails aren't known. "
            f"{_elsewhere(fit)}"
        )
    if not fit.peaked:
        return (
            f"Don't trust it, whatever k-hat says ({fit.pareto_k:.2f}): the density doesn't fall off in all directions "
            "where q was fitted, as in a funnel, so there may be mass that q never comes to. Write scaled parameters "
            f"as a scale times standard ones. {_elsewhere(fit)}"
        )
    if not fit.weighted and fit.elbo == -inf:
        outside = float((~torch.isfinite(fit.pool.log_weights)).double().mean())
        return (
            f"Don't trust it: {100 * outside:.2g} % of the draws lie where the log-joint isn't finite, which makes the "
            "bound -inf. weighted=True leaves them out; better, give the parameters their supports."
        )
    if not fit.reliable:
        wrong = None if fit.weighted else _wrong(fit)
        if wrong is not None:
            return wrong
        count = fit.effective * len(fit.pool.points)
        few = f"only {100 * fit.effective:.1f} % of the draws are effective, {count:.0f} of {len(fit.pool.points)}"
        error = count**-0.5
        if error > COARSE:
            return f"Don't trust it: {few}. {_elsewhere(fit)}"
        return f"Trust the means, to about {error:.2f} sd, not the spreads or tails: {few}. {_elsewhere(fit)}"
    if fit.weighted and not fit.even and (heavy := _heavy(fit)) is not None:
        return (
            f"Trust means and 90 % intervals, not the spreads: {_sound(fit)} and {100 * fit.effective:.0f} % of the "
            f"draws are effective, but the spread of {heavy[0]} rests on few of them (k-hat of weights times squared "
            f"deviations {heavy[1]:.2f}, above {RELIABLE_K}). {_elsewhere(fit)}"
        )
    if fit.weighted:
        return (
            f"Trust means, spreads and 90 % intervals: {_sound(fit)} and "
            f"{100 * fit.effective:.0f} % of the draws are effective, so the weights correct what q misses."
        )
    return _unweighted(fit)


def _sound(fit: Fit) -> str:
    """Why weights can be relied on."""
    if fit.pareto_k >= RELIABLE_K:
        return f"the weights are all but even (k-hat, {fit.pareto_k:.2f}, says nothing then)"
    return f"k-hat is {fit.pareto_k:.2f}"


def _elsewhere(fit: Fit) -> str:
    """What to try."""
    if fit.target.sites is not None:
        return "Sum out what can be summed in the log-joint, or try mcmc.metropolis_within_gibbs."
    return "Try method='flow', or mcmc.nuts."


def _one_mode(fit: Fit) -> str:
    better = (
        "Use method='auto'."
        if fit.target.sites is None
        else "Start elsewhere (init), or sum out what can be."
    )
    return (
        f"Don't trust it as a whole: modes that were found and that q isn't at hold about "
        f"{100 * fit.found.left_out:.2g} % of the posterior, which weights don't see. {better}"
    )


def _unweighted(fit: Fit) -> str:
    """How q differs from its own weighted draws, which are reliable here."""
    return _wrong(fit) or _agreeing(fit, float(fit.evidence) - fit.elbo)


def _wrong(fit: Fit) -> str | None:
    """What is off in q by its weighted draws, if anything."""
    pool = fit.pool
    assert pool is not None
    weights = pool.smoothed.exp()
    return _misplaced(fit, pool.points, weights) or _miscounted(
        fit, pool.points[:, fit.target.continuous :], weights
    )


def _continuous(fit: Fit, points: Tensor) -> tuple[list[str], Tensor]:
    """Names (k,) and values (n, k), at points (n, dim), of all numbers that vary and aren't discrete."""
    values = fit.target.constrain(points)
    parts = [
        values[name].reshape(len(points), -1)
        for name, parameter in fit.target.parameters.items()
        if not parameter.states
    ]
    counts = [p.states for p in fit.target.parameters.values() for _ in range(prod(p.shape))]
    names = [name for name, count in zip(fit.target.names, counts, strict=True) if not count]
    if not parts:
        return [], points[:, :0]
    flat = torch.cat(parts, 1)
    # Up to rounding, the zeros of a triangle and its first one are always the same.
    varying = (~(flat.std(0) <= 1e-12 * (1 + flat.mean(0).abs()))).nonzero()[:, 0].tolist()
    return [names[place] for place in varying], flat[:, varying]


def _heavy(fit: Fit) -> tuple[str, float] | None:
    """The number whose spread is known least by weighted draws, with the k-hat of weights times squared deviations."""
    pool = fit.pool
    assert pool is not None
    names, flat = _continuous(fit, pool.points)
    squares = (flat - pool.smoothed.exp() @ flat).square()
    if not names:
        return None
    _, k = psis(finite(pool.log_weights[:, None] + squares.log()))
    worst = int(k.argmax())
    return (names[worst], float(k[worst])) if float(k[worst]) >= RELIABLE_K else None


def _misplaced(fit: Fit, points: Tensor, weights: Tensor) -> str | None:
    """What is off in the parameters' values at points (n, dim), if anything."""
    names, flat = _continuous(fit, points)
    if not names:
        return None
    mean, sd = flat.mean(0), flat.std(0)
    true_mean = weights @ flat
    true_sd = (weights @ (flat - true_mean).square()).sqrt()
    shift = ((mean - true_mean) / true_sd).abs().nan_to_num(nan=inf)
    ratio = (sd / true_sd).nan_to_num(nan=inf)
    moved, off = int(shift.argmax()), int(ratio.log().abs().argmax())
    better = "'full-rank'" if fit.target.sites is not None else "'full-rank' or 'auto'"
    if float(shift[moved]) > NARROW:
        return (
            f"Trust neither means nor spreads: by its importance weights the mean of {names[moved]} is "
            f"{float(shift[moved]):.2f} sd off. Use "
            + ("weighted=True." if fit.target.sites is not None else "method='auto', which weighs its draws.")
        )
    if abs(float(ratio[off]) - 1) > NARROW:
        kind = "narrow" if ratio[off] < 1 else "wide"
        return (
            f"Trust the means, not the spreads: by its importance weights q is too {kind} in {names[off]}, "
            f"{float(ratio[off]):.2f} times the sd. Use method={better}."
        )
    return None


def _miscounted(fit: Fit, states: Tensor, weights: Tensor) -> str | None:
    """What is off in the states of sites (n, sites), if anything."""
    if fit.target.sites is None:
        return None
    worst, text = NARROW, None
    for place, (name, count) in enumerate(
        zip(fit.target.sites.names, fit.target.sites.states.tolist(), strict=True)
    ):
        drawn = (states[:, place, None] == torch.arange(count)).double()
        claimed, found = drawn.mean(0), weights @ drawn
        off = (claimed - found).abs()
        if float(off.max()) > worst:
            worst, state = float(off.max()), int(off.argmax())
            text = (
                f"Trust neither means nor spreads: by its importance weights the probability of {name} = {state} is "
                f"{float(found[state]):.2f}, and q's is {float(claimed[state]):.2f}. Use weighted=True, or "
                "mcmc.metropolis_within_gibbs."
            )
    return text


def _agreeing(fit: Fit, gap: float) -> str:
    if gap > GAP_NATS:
        better = "method='flow' or 'auto'" if fit.target.sites is None else "weighted=True"
        return (
            f"Trust means and spreads, not the tails: the bound is {gap:.2f} nats below the evidence, so the posterior "
            f"has another shape than q; try {better}."
        )
    return (
        f"Trust means, spreads and 90 % intervals: {_sound(fit)}, and the bound is within {max(gap, 0):.2f} nats of "
        "the evidence."
    )
