"""A factorised posterior for a log-joint with discrete parameters that have too many configurations to sum over."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jensen.errors import ConfigError, unknown
from jensen.inference.blockwise import Blockwise
from jensen.inference.factorised_start import Place, find_places
from jensen.inference.families import Categoricals, Factorised, Flow, FullRank, LowRank, MeanField, Mixture
from jensen.inference.found import Found
from jensen.inference.local_expectations import LocalExpectations, Neighbours
from jensen.inference.minibatches import check_batch, rows_in
from jensen.inference.pathwise import pathwise
from jensen.inference.score import Score
from jensen.inference.stochastic import Ascending, Estimator, stochastic
from jensen.inference.stochastic_methods import FRAME_ROWS, checked
from jensen.inference.target import Target
from jensen.seeding import seeded

FAMILIES = {
    "mean-field": lambda place, **_: MeanField.around(place.point, place.independent_scale),
    "full-rank": lambda place, **_: FullRank.around(place.point, _matrix(place)),
    "low-rank": lambda place, rank, seed, **_: LowRank.around(
        place.point, place.independent_scale, rank, seed
    ),
    "flow": lambda place, layers, hidden, seed, **_: Flow.around(
        place.point, _matrix(place), layers, hidden, seed
    ),
}
"""Families of the continuous part, by name, from where they start."""

FULL_DIM = 15
"""The continuous part of "auto" is a normal with any covariance up to so many dimensions, else the mean field."""

NEIGHBOURS = 8192
"""Other states of all sites together, beyond which the sites' gradient is the score's."""

IMPOSSIBLE_NATS = 50.0
"""How far below the lowest finite log-joint of the first draws a configuration counts that has none."""

BURN_IN = 0.5
"""Of a stage: components of a mixture, say, may part only after a while."""

RARE = 1e-3
"""A state that is ruled out with all draws of the rest, and less probable than this, gets a probability of zero."""

CHECKED = 256
"""Draws that this is judged by."""


def factorised(
    target: Target,
    starts: Float[Tensor, "starts dim"],
    *,
    family: str | nn.Module = "auto",
    gradient: str | None = None,
    samples: int = 16,
    steps: int = 20_000,
    step_size: float | None = None,
    tolerance: float = 5e-4,
    rank: int = 2,
    layers: int = 4,
    hidden: int = 16,
    neighbours: int = NEIGHBOURS,
    batch_size: int | None = None,
    seed: int | None = 0,
) -> Found:
    r"""Fits q(u) prod_s q_s(z_s): a family over the coordinates times a categorical of each site.

    The sites' gradient takes each site's expectation exactly, given draws of the rest (``LocalExpectations``). Where
    that would need more than ``neighbours`` evaluations for a single draw, it is the score-function gradient with
    learned control variates (``Score``), as it is for the coordinates if the log-joint isn't differentiable, and for
    the sites with minibatches, whose rows differ from call to call.

    Args:
        target: A log-joint with sites.
        starts: Coordinates and states to start from, (starts, dim); the best one is taken.
        family: Of the coordinates: a name in ``FAMILIES``, "auto", or a posterior of one's own over them, which starts
            where it is.
        gradient: Of the coordinates: "pathwise" or "score"; None: path-wise if the log-joint is differentiable.
        samples: Draws of a step.
        steps: At most so many.
        step_size: Of the first stage.
        tolerance: Nats for each coordinate and site.
        rank: Of the low-rank family.
        layers: Of the flow.
        hidden: Of the flow.
        neighbours: Other states of all sites together, for which the log-joint is evaluated at every step.
        batch_size: Rows of a minibatch; None takes all data at every step.
        seed: Of all randomness.

    Returns:
        A posterior over coordinates and states.

    Raises:
        ConfigError: If the family or the gradient is unknown, or a number isn't above zero.
    """
    assert target.sites is not None
    if neighbours < 0:
        raise ConfigError(f"neighbours is {neighbours}; it is a number of evaluations, at least 0")
    notes: list[str] = []
    kind = _gradient(target, gradient, notes)
    near = Neighbours(target.sites.states, target.continuous, neighbours)
    part = target if batch_size is None else _some_rows(target, batch_size, seed)
    places = find_places(_floored(part, starts), starts, near, gradient=kind == "pathwise", seed=seed)
    place = places[0]
    shares = torch.tensor([place.bound for place in places], dtype=torch.float64).softmax(0)
    if len(places) > 1:
        notes.append(_several(shares))
    if not place.definite:
        notes.append(
            "the density is flat or rises in some direction where the fit started: parameters may not be identified, "
            "or the posterior improper"
        )
    continuous = _continuous(target, family, place, rank=rank, layers=layers, hidden=hidden, seed=seed)
    posterior = Factorised(continuous, Categoricals(target.sites.possible, place.logits))
    with seeded(seed):
        finite = _floored(target, posterior.sample(CHECKED))
    found = stochastic(
        finite,
        posterior,
        estimator=_estimator(finite, near, kind, exact=batch_size is None),
        batch_size=batch_size,
        ascending=Ascending(samples, step_size, steps, tolerance, BURN_IN),
        seed=seed,
    )
    if not found.converged:
        notes.append(f"the stochastic ascent hasn't converged: {found.reason}")
    fitted = found.posterior
    assert isinstance(fitted, Factorised)
    fitted.requires_grad_(False)
    with seeded(seed):
        _rule_out(part, fitted, near)
        notes += _impossible(target, fitted)
    missed = float(1 - shares[0])
    return Found(fitted(None), None, tuple(found.history.tolist()), tuple(notes), left_out=missed)


def _gradient(target: Target, gradient: str | None, notes: list[str]) -> str:
    if gradient not in (None, "pathwise", "score"):
        raise ConfigError(
            unknown("gradient of a target with discrete sites", gradient, ("pathwise", "score"))
        )
    if gradient is None and target.continuous and not target.differentiable:
        notes.append(
            "the log-joint has no gradient with respect to the continuous parameters, so theirs is the score's"
        )
        return "score"
    return gradient or "pathwise"


def _continuous(target: Target, family: str | nn.Module, place: Place, **shape: Any) -> nn.Module | None:
    if target.continuous == 0:
        return None
    if isinstance(family, nn.Module):
        if isinstance(family, Mixture):
            raise ConfigError("a mixture beside discrete sites isn't available; take a flow or a normal")
        return checked(family, target.continuous)
    if family == "auto":
        family = "full-rank" if target.continuous <= FULL_DIM else "mean-field"
    if family not in FAMILIES:
        raise ConfigError(unknown("family beside discrete sites", family, FAMILIES))
    return FAMILIES[family](place, **shape)


def _matrix(place: Place) -> Tensor:
    return place.scale if place.scale.ndim == 2 else place.scale.diag()


def _some_rows(target: Target, batch_size: int, seed: int | None) -> Target:
    """The target of as many rows as place the first posterior."""
    size = min(max(check_batch(target, batch_size), FRAME_ROWS), rows_in(target))
    with seeded(seed):
        return target.subsample(torch.randperm(rows_in(target))[:size])


def _estimator(target: Target, near: Neighbours, kind: str, *, exact: bool) -> Estimator:
    if near.affordable and exact:
        rest = pathwise if kind == "pathwise" else Score()
        return LocalExpectations(target.plain_log_prob, near, rest if target.continuous else None)
    return Blockwise(pathwise, Score()) if target.continuous and kind == "pathwise" else Score()


def _several(shares: Float[Tensor, " places"]) -> str:
    return (
        f"{len(shares)} modes were found, with shares of about {', '.join(f'{s:.2g}' for s in shares.tolist())}, and q "
        "lies at the first one: what the log-joint says of the others is not in it, nor in its weights"
    )


def _floored(target: Target, points: Tensor) -> Target:
    """The target with a finite log-density far below what it is at these points where they have one."""
    values = target.plain_log_prob(points)
    finite = values[torch.isfinite(values)]
    return target.floored((float(finite.min()) if len(finite) else 0.0) - IMPOSSIBLE_NATS)


def _rule_out(target: Target, posterior: Factorised, near: Neighbours) -> None:
    """Takes the little probability away that is left of states which the log-joint rules out."""
    if not near.affordable:
        return
    q = posterior.forward(None)
    points = q.sample((CHECKED,))
    here = target.plain_log_prob(points)
    points, here = points[torch.isfinite(here)], here[torch.isfinite(here)]
    if len(points) == 0:
        return
    rise, looked = near.rises(target.plain_log_prob, points, here)
    drawn = nn.functional.one_hot(points[:, target.continuous :].long(), rise.shape[2]).bool()
    possible = (drawn | (looked & torch.isfinite(rise))).any(0)
    posterior.sites.ruled_out(looked.any(0) & ~possible & (q.probs < RARE))


def _impossible(target: Target, posterior: Factorised) -> list[str]:
    points = posterior.sample(CHECKED)
    share = float((~torch.isfinite(target.plain_log_prob(points))).double().mean())
    if share == 0:
        return []
    return [
        f"{share:.2%} of the draws of q have no finite log-joint, which makes the bound -inf: independent sites can't "
        "follow constraints between them; write these into the parameters, or use mcmc.metropolis_within_gibbs"
    ]
