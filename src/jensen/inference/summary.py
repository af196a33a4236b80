"""A table of a fitted posterior and a plain statement of how far to trust it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from jensen.diagnostics import RELIABLE_K

if TYPE_CHECKING:
    from jensen.inference.fitted import Fit

QUANTILES = (0.05, 0.5, 0.95)
COLUMNS = ("mean", "sd", "5%", "50%", "95%")

NARROW = 0.1
"""A standard deviation that is off by this share is spoken of."""

COARSE = 0.2
"""Error of a mean, in standard deviations, beyond which it isn't trusted."""

GAP_NATS = 0.1
"""A bound that is this far below the evidence says that the posterior has another shape than q."""


@dataclass(frozen=True, repr=False)
class Summary:
    """What ``Fit.summary`` prints.

    Attributes:
        names: Of the numbers, such as ``theta[3]``.
        columns: Name of a column to its values, one for each number.
        heading: Method, bound, evidence and k-hat, in a line or two.
        words: How far to trust it, and why.
    """

    names: tuple[str, ...]
    columns: dict[str, tuple[float, ...]]
    heading: str
    words: tuple[str, ...]

    def __str__(self) -> str:
        """The table with the words below it."""
        width = max(10, *(len(name) for name in self.names))
        lines = [self.heading, "", " " * width + "".join(f"{column:>11}" for column in self.columns)]
        for row, name in enumerate(self.names):
            cells = "".join(f"{column[row]:>11.4g}" for column in self.columns.values())
            lines.append(f"{name:<{width}}{cells}")
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
    flat = torch.cat([value.reshape(len(value), -1) for value in values.values()], 1)
    quantiles = torch.quantile(flat, torch.tensor(QUANTILES, dtype=flat.dtype), 0)
    numbers = [flat.mean(0), flat.std(0), *quantiles]
    columns = {name: tuple(column.tolist()) for name, column in zip(COLUMNS, numbers, strict=True)}
    return Summary(tuple(fit.target.names), columns, _heading(fit), tuple(words(fit)))


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
    if fit.pareto_k >= RELIABLE_K:
        return (
            f"Don't trust it: k-hat is {fit.pareto_k:.2f}, above {RELIABLE_K}, so q misses part of the posterior and "
            "no weighting repairs that; means may be near, spreads and tails aren't known. Try method='flow', or "
            "mcmc.nuts."
        )
    if not fit.reliable:
        count = fit.effective * len(fit.pool.points)
        few = f"only {100 * fit.effective:.1f} % of the draws are effective, {count:.0f} of {len(fit.pool.points)}"
        error = count**-0.5
        if error > COARSE:
            return f"Don't trust it: {few}. Try method='flow', or mcmc.nuts."
        return (
            f"Trust the means, to about {error:.2f} sd, not the spreads or tails: {few}. "
            "Try method='flow', or mcmc.nuts."
        )
    if fit.weighted:
        return (
            f"Trust means, spreads and 90 % intervals: k-hat is {fit.pareto_k:.2f} and "
            f"{100 * fit.effective:.0f} % of the draws are effective, so the weights correct what q misses."
        )
    return _unweighted(fit)


def _unweighted(fit: Fit) -> str:
    """How q differs from its own weighted draws, which are reliable here."""
    pool = fit.pool
    assert pool is not None
    weights = pool.smoothed.exp()
    mean, sd = pool.points.mean(0), pool.points.std(0)
    true_mean = weights @ pool.points
    true_sd = (weights @ (pool.points - true_mean).square()).sqrt()
    shift, ratio = ((mean - true_mean) / true_sd).abs(), sd / true_sd
    moved, off = int(shift.argmax()), int(ratio.log().abs().argmax())
    names = fit.target.coordinates
    gap = float(fit.evidence) - fit.elbo
    if float(shift[moved]) > NARROW:
        return (
            f"Trust neither means nor spreads: by its importance weights the mean of {names[moved]} is "
            f"{float(shift[moved]):.2f} sd off. Use method='auto', which weighs its draws."
        )
    if abs(float(ratio[off]) - 1) > NARROW:
        kind = "narrow" if ratio[off] < 1 else "wide"
        return (
            f"Trust the means, not the spreads: by its importance weights q is too {kind} in {names[off]}, "
            f"{float(ratio[off]):.2f} times the sd. Use method='full-rank' or 'auto'."
        )
    if gap > GAP_NATS:
        return (
            f"Trust means and spreads, not the tails: the bound is {gap:.2f} nats below the evidence, so the posterior "
            "has another shape than q; try method='flow' or 'auto'."
        )
    return (
        f"Trust means, spreads and tails: k-hat is {fit.pareto_k:.2f}, and the bound is within {max(gap, 0):.2f} nats "
        "of the evidence."
    )
