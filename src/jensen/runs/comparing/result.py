"""What a comparison found: a row for each model, and which of their differences are more than chance."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch
from torch import Tensor

from jensen.likelihoods import DENSITIES
from jensen.runs.comparing.differences import LEVEL, Difference, holm, paired_difference
from jensen.runs.comparing.fits import Outcome
from jensen.runs.comparing.plan import Plan


@dataclass(frozen=True)
class Row:
    """One model: means over its seeds of what ``evaluate`` says, on the same test data with the same draws for each.

    Attributes:
        label: How it is called.
        recipe: Its recipe.
        options: What was set for it.
        likelihood: Which was chosen; empty if no fit came through.
        density: Whether that is a density on the reals, whose nats don't compare with those of a probability.
        fits: Fits that came through.
        errors: Why the others failed.
        nll: Minus the mean of log p(x), nats a datum; None if no fit came through, as for all that follows.
        nll_seed_error: Its standard error over seeds; None with one seed.
        nll_data_error: Its standard error over the test data, of the mean over seeds.
        nll_sampling_error: Its standard error of importance sampling.
        elbo: Mean ELBO, nats a datum.
        elbo_seed_error: Its standard error over seeds.
        gap: What importance sampling finds of the gap, nats a datum.
        bits_per_dim: The NLL in bits a cell.
        active_units: Mean number of active units; None for exact models, as the next.
        reconstruction_error: Mean squared error a cell.
        parameters: Numbers that were learned.
        epochs: Mean number of epochs done.
        seconds: Mean time that the steps of a fit took.
        best: Whether it compares with others and none of them has a smaller NLL.
        behind: How much larger its NLL is than that of the best that it compares with; None for the best.
    """

    label: str
    recipe: str
    options: Mapping[str, Any]
    likelihood: str
    density: bool
    fits: int
    errors: tuple[str, ...]
    nll: float | None = None
    nll_seed_error: float | None = None
    nll_data_error: float | None = None
    nll_sampling_error: float | None = None
    elbo: float | None = None
    elbo_seed_error: float | None = None
    gap: float | None = None
    bits_per_dim: float | None = None
    active_units: float | None = None
    reconstruction_error: float | None = None
    parameters: int | None = None
    epochs: float | None = None
    seconds: float | None = None
    best: bool = False
    behind: Difference | None = None


@dataclass(frozen=True)
class Comparison:
    """Several models on the same data.

    Attributes:
        folder: Where the Runs, the table and the report are.
        data: Name, sizes and checksum of the data.
        budget: ``{"epochs": N}`` or ``{"minutes": M}`` of each fit, at most.
        seeds: Of the fits.
        samples: Importance samples for each test datum.
        seed: Of the splits and of the evaluation's draws.
        rows: The models: those that compare beside each other, the smallest NLL first, failed ones last.
        differences: Of all pairs of models that compare.
        outcomes: Every fit.
        planned_epochs: Of each model.
    """

    folder: Path
    data: Mapping[str, Any]
    budget: Mapping[str, float | int]
    seeds: tuple[int, ...]
    samples: int
    seed: int
    rows: tuple[Row, ...]
    differences: tuple[Difference, ...]
    outcomes: tuple[Outcome, ...]
    planned_epochs: Mapping[str, int]

    @property
    def comparable(self) -> bool:
        """Whether all models that came through can be compared with each other."""
        return len({row.density for row in self.rows if row.nll is not None}) <= 1

    def budget_in_words(self) -> str:
        """What each fit was given."""
        early = "a fit may stop early where its validation bound no longer improves"
        if "epochs" in self.budget:
            return f"the same {self.budget['epochs']:,} passes over the training data for each fit; {early}"
        each = ", ".join(f"{label} {epochs:,}" for label, epochs in self.planned_epochs.items())
        return (
            f"about {self.budget['minutes']:g} minutes of training for each fit: as many epochs as that buys at the "
            f"speed measured before ({each}); {early}"
        )


def put_together(folder: Path, plan: Plan, outcomes: Sequence[Outcome]) -> Comparison:
    """Makes the rows and the differences of the fits."""
    by_label = {label: [o for o in outcomes if o.label == label] for label in plan.models}
    scores = {
        label: torch.stack([o.evidence for o in found if o.evidence is not None])
        for label, found in by_label.items()
        if any(o.error is None for o in found)
    }
    rows = {label: _row(label, plan, found) for label, found in by_label.items()}
    differences = _differences(rows, scores)
    final: list[Row] = []
    for row in rows.values():
        beside = [r for r in rows.values() if r.nll is not None and r.density == row.density]
        if row.nll is None:
            final.append(row)
            continue
        best = min(beside, key=lambda r: r.nll or 0.0)
        behind = next((d for d in differences if (d.better, d.worse) == (best.label, row.label)), None)
        final.append(replace(row, best=row is best and len(beside) > 1, behind=behind))
    final.sort(key=lambda r: (r.nll is None, r.density, r.nll or 0.0))
    return Comparison(
        folder=folder,
        data=plan.data,
        budget=plan.budget,
        seeds=plan.seeds,
        samples=plan.samples,
        seed=plan.seed,
        rows=tuple(final),
        differences=tuple(differences),
        outcomes=tuple(outcomes),
        planned_epochs=plan.epochs,
    )


def _row(label: str, plan: Plan, found: Sequence[Outcome]) -> Row:
    recipe, options = plan.models[label]
    good = [o for o in found if o.error is None]
    errors = tuple(f"seed {o.seed}: {o.error}" for o in found if o.error is not None)
    if not good:
        return Row(label, recipe, options, "", False, 0, errors)

    def mean(key: str) -> float:
        return fmean(float(o.numbers[key]) for o in good)

    def mean_if_there(key: str) -> float | None:
        return mean(key) if all(o.numbers.get(key) is not None for o in good) else None

    def seed_error(key: str) -> float | None:
        return None if len(good) < 2 else stdev(float(o.numbers[key]) for o in good) / sqrt(len(good))

    evidence = torch.stack([o.evidence for o in good if o.evidence is not None]).mean(0)
    sampling = sqrt(sum(float(o.numbers["nll_standard_error"]) ** 2 for o in good)) / len(good)
    return Row(
        label=label,
        recipe=recipe,
        options=options,
        likelihood=good[0].likelihood,
        density=good[0].likelihood in DENSITIES,
        fits=len(good),
        errors=errors,
        nll=mean("nll"),
        nll_seed_error=seed_error("nll"),
        nll_data_error=float(evidence.std()) / sqrt(len(evidence)) if len(evidence) > 1 else None,
        nll_sampling_error=sampling,
        elbo=mean("elbo"),
        elbo_seed_error=seed_error("elbo"),
        gap=mean("gap"),
        bits_per_dim=mean("bits_per_dim"),
        active_units=mean_if_there("active_units"),
        reconstruction_error=mean_if_there("reconstruction_error"),
        parameters=good[0].parameters,
        epochs=fmean(o.epochs for o in good),
        seconds=fmean(o.seconds for o in good),
    )


def _differences(rows: Mapping[str, Row], scores: Mapping[str, Tensor]) -> list[Difference]:
    """Of all pairs that compare, adjusted for how many they are."""
    pairs = [(a, b) for a, b in combinations(scores, 2) if rows[a].density == rows[b].density]
    single = [paired_difference(scores[a], scores[b], (a, b)) for a, b in pairs]
    adjusted = holm([d.p_value for d in single])
    return [replace(d, p_value=p, significant=p < LEVEL) for d, p in zip(single, adjusted, strict=True)]
