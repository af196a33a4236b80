"""A table of a posterior's draws and what it is worth, in words."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.diagnostics import e_bfmi, ess_bulk, ess_tail, mcse_mean, r_hat
from jensen.inference.mcmc.drift import strayed
from jensen.inference.target import Target

GOOD_R_HAT = 1.01
ENOUGH = 400
"""Effective draws that means and quantiles need."""

_QUANTILES = (0.05, 0.5, 0.95)
_STORM = 0.1
"""Share of divergent transitions above which nothing is to be trusted."""


@dataclass(frozen=True)
class Summary:
    """What ``Draws.summary`` prints.

    Attributes:
        names: Of the numbers, such as ``theta[3]``.
        columns: By heading, one figure for each number: ``mean``, ``sd``, ``5%``, ``50%``, ``95%``, ``mcse`` (the
            standard error of the mean), ``ess bulk``, ``ess tail``, ``R-hat``.
        divergences: How many transitions diverged.
        reliable: Whether nothing speaks against the draws.
        words: How far to trust them, and why.
    """

    names: list[str]
    columns: Mapping[str, Tensor]
    divergences: int
    reliable: bool
    words: tuple[str, ...]

    def __str__(self) -> str:
        """The table and the sentences."""
        width = max(map(len, self.names))
        head = " " * width + "".join(f"{title:>10}" for title in self.columns)
        rows = [
            f"{name:<{width}}"
            + "".join(f"{_figure(title, float(column[i])):>10}" for title, column in self.columns.items())
            for i, name in enumerate(self.names)
        ]
        return "\n".join([head, *rows, "", *self.words])

    def __repr__(self) -> str:
        """One line: the table itself was printed."""
        return f"Summary({len(self.names)} numbers)"


def _figure(title: str, value: float) -> str:
    if title.startswith("ess"):
        return f"{value:,.0f}"
    return f"{value:.3f}" if title == "R-hat" else f"{value:.4g}"


def summarise(
    target: Target,
    positions: Tensor,
    values: Mapping[str, Tensor],
    stats: Mapping[str, Tensor],
    notes: tuple[str, ...] = (),
) -> Summary:
    """Figures of all numbers of all parameters, and a diagnosis.

    Args:
        target: What was drawn from.
        positions: Unconstrained draws (chains, draws, dim).
        values: Of each parameter (chains, draws, *shape).
        stats: By draw, as in ``Draws``.
        notes: Sentences that stand in any case.

    Returns:
        The summary.
    """
    chains, draws = positions.shape[:2]
    flat = torch.cat([value.reshape(chains, draws, -1).double() for value in values.values()], -1)
    ordered = flat.flatten(0, 1)
    columns = {
        "mean": ordered.mean(0),
        "sd": ordered.std(0) if len(ordered) > 1 else torch.zeros_like(ordered[0]),
    }
    columns |= {f"{p:.0%}": ordered.quantile(p, 0) if len(ordered) else ordered[0] for p in _QUANTILES}
    known = draws >= 4 and bool(flat.isfinite().all())
    nothing = torch.full_like(columns["mean"], torch.nan)
    columns |= {
        "mcse": mcse_mean(flat) if known else nothing,
        "ess bulk": ess_bulk(flat) if known else nothing,
        "ess tail": ess_tail(flat) if known else nothing,
        "R-hat": r_hat(flat) if known else nothing,
    }
    divergences = int(stats["divergent"].sum()) if "divergent" in stats else 0
    against = _objections(target, positions, stats, columns, divergences)
    sentences = against if against else [_praise(columns, divergences, "divergent" in stats)]
    remarks = (f"Note: {remark}." for remark in target.remarks)
    return Summary(target.names, columns, divergences, not against, (*sentences, *notes, *remarks))


def _objections(
    target: Target,
    positions: Tensor,
    stats: Mapping[str, Tensor],
    columns: Mapping[str, Tensor],
    divergences: int,
) -> list[str]:
    """What speaks against the draws, gravest first, two at most."""
    chains, draws = positions.shape[:2]
    found: list[str] = []
    if (name := strayed(target, positions.numpy(force=True))) is not None:
        found.append(
            f"Trust nothing: the chains drift off along '{name}'; the posterior is probably improper (a flat prior "
            "that the data don't bound): give it a proper prior."
        )
    stuck = _stuck(positions)
    if stuck:
        which = ", ".join(map(str, stuck[:5])) + (", ..." if len(stuck) > 5 else "")
        found.append(
            f"Trust nothing: {len(stuck)} of {chains} chains ({which}, counted from 0) are stuck where they began or "
            "got caught; begin elsewhere, take smaller steps or a longer warm-up."
        )
    share = divergences / (chains * draws)
    if share > _STORM:
        found.append(
            f"Trust nothing: {share:.0%} of the transitions diverged; the density bends too sharply for the step size. "
            "Reparameterise (as with a funnel, by its non-centred form), or raise acceptance."
        )
    ratios = columns["R-hat"].nan_to_num(nan=0.0)
    worst = int(ratios.argmax())
    if float(ratios[worst]) > GOOD_R_HAT and not found:
        found.append(_disagreement(target.names[worst], float(ratios[worst]), positions, chains))
    if 0 < share <= _STORM:
        found.append(
            f"Trust the means more than the tails: {divergences:,} of {chains * draws:,} transitions diverged, so that "
            "a sharply bent region may be missing; raise acceptance, or reparameterise."
        )
    sizes = torch.minimum(columns["ess bulk"], columns["ess tail"]).nan_to_num(nan=torch.inf)
    least = int(sizes.argmin())
    if draws < 4:
        found.append(f"Nothing can be said of chains of {draws} draws; take at least 4, better 1,000.")
    elif float(sizes[least]) < ENOUGH:
        found.append(
            f"Too few draws for quantiles: '{target.names[least]}' has {float(sizes[least]):,.0f} effective ones of "
            f"{chains * draws:,}; {ENOUGH} or more make means and tails reliable."
        )
    if "energy" in stats and draws >= 4 and not found and float(e_bfmi(stats["energy"]).median()) < 0.3:
        found.append(
            f"Trust the means, not the tails: the energy moves slowly (E-BFMI "
            f"{float(e_bfmi(stats['energy']).median()):.2f}, below 0.3), as with heavy tails; reparameterise."
        )
    return found[:2]


def _disagreement(name: str, ratio: float, positions: Tensor, chains: int) -> str:
    """Why the chains disagree: each for itself at rest in another place, or all still on their way."""
    apart = chains > 1 and positions.shape[1] >= 8 and ratio > 1.1 and _separate(positions)
    if apart:
        return (
            f"Trust nothing: the chains rest in different places ('{name}', R-hat {ratio:.2f}): the posterior has "
            "several modes, and how much mass each has can't be read off the chains."
        )
    return (
        f"Don't trust '{name}' yet: its chains disagree (R-hat {ratio:.3f}, above {GOOD_R_HAT}) because they are "
        "short or move slowly; take more draws or a longer warm-up."
    )


def _separate(positions: Tensor) -> bool:
    """Whether the middle nine tenths of two chains don't meet in a coordinate, though each is at rest."""
    low, high = (torch.quantile(positions, p, dim=1) for p in (0.05, 0.95))
    alone = torch.stack([r_hat(chain[None]) for chain in positions]).nan_to_num(nan=1.0).median(0).values
    return bool(((low.amax(0) > high.amin(0)) & (alone < 1.1)).any())


def _stuck(positions: Tensor) -> list[int]:
    """Chains that hardly ever move."""
    if positions.shape[1] < 4:
        return []
    moved = (positions.diff(dim=1) != 0).any(-1).double().mean(1)
    return [int(chain) for chain in torch.nonzero(moved < 0.005)[:, 0]]


def _praise(columns: Mapping[str, Tensor], divergences: int, counted: bool) -> str:
    sizes = torch.minimum(columns["ess bulk"], columns["ess tail"])
    error = (columns["mcse"] / columns["sd"]).nan_to_num(nan=0.0).max()
    ratio = float(columns["R-hat"].nan_to_num(nan=1.0).max())
    none = ", no transition diverged" if counted and divergences == 0 else ""
    return (
        f"Trust means and quantiles: the chains agree (R-hat at most {ratio:.3f}), at least "
        f"{float(sizes.nan_to_num(nan=torch.inf).min()):,.0f} effective draws{none}; means are known to "
        f"{float(error):.1g} posterior standard deviations."
    )
