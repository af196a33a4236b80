"""The default method: fixed draws around the modes, then as much correction as the weights ask for."""

from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from jensen.distributions import TriangularNormal
from jensen.errors import FitError
from jensen.inference.adaptive import COMPONENTS, DOF, STEADY_K, Round, adapt, replaced
from jensen.inference.families import Family, MeanField
from jensen.inference.families.student_mixture import StudentMixture
from jensen.inference.fixed import Fixed, fit_fixed, linear_response
from jensen.inference.found import Found, Weighed, weigh
from jensen.inference.start import Mode, find_modes, shares
from jensen.inference.target import Target
from jensen.seeding import seeded

LARGEST_RESPONSE = 100
"""Coordinates up to which covariances are corrected, and mixtures adapted."""

HARD_K, HARD_SHARE = 0.6, 0.3
"""A mixture beyond these is adapted once more, with greater effort."""

HARD_DOF, HARD_COMPONENTS, HARD_ROUNDS, HARD_DRAWS = 5.0, 12, 14, 1500
"""Of that effort: degrees of freedom, components, rounds, draws a coordinate (at most 20,000)."""

CHECK = 2000
"""Draws that judge a step of the ladder."""


def automatic(
    target: Target,
    starts: Float[Tensor, "starts dim"],
    *,
    draws: int = 64,
    seed: int | None = 0,
    rounds: int = 8,
) -> Found:
    """Climbs a ladder of posteriors until importance weights are nearly even.

    1. Modes from all starts; coordinates whitened by the Hessian at each.
    2. Mean field in these coordinates, the ELBO averaged over fixed draws.
    3. Linear-response covariances.
    4. A mixture of Student-t distributions from these on, adapted by importance sampling; where that is hard, once
       more with more components, heavier tails and more draws.

    Args:
        target: A differentiable one.
        starts: Unconstrained points, (starts, dim).
        draws: Fixed draws, even.
        seed: Of all randomness.
        rounds: Of the adaptation, at most.

    Returns:
        The best posterior of the ladder.
    """
    modes, notes = around(target, starts, draws, seed)
    fits = [fit_fixed(target, MeanField.around(m.point, m.scale_tril), draws=draws, seed=seed) for m in modes]
    history = tuple(value for fit in fits for value in fit.history)
    with seeded(seed):
        if len(modes) == 1:
            first = _judged(target, fits[0].family)
            if _even(first[1]) or target.dim > LARGEST_RESPONSE:
                return Found(first[0], None, history, tuple(notes), tuple(modes))
        else:
            notes.append(_several(modes))
        normals = [_responded(target, fit) for fit in fits]
        best: tuple[Distribution, Weighed] | None = None
        if len(normals) == 1:
            best = _judged(target, normals[0])
            if _even(best[1]):
                return Found(best[0], None, history, tuple(notes), tuple(modes))
        done = adapt(target, _mixture(normals, modes), rounds=rounds, components=max(COMPONENTS, len(modes)))
        adapted = max(done, key=_rank)
        if adapted.pareto_k > HARD_K or adapted.share < HARD_SHARE:
            again = replaced(adapted.mixture, HARD_DOF)
            effort = min(20_000, HARD_DRAWS * target.dim)
            done += adapt(target, again, rounds=HARD_ROUNDS, draws=effort, components=HARD_COMPONENTS)
            adapted = max(done, key=_rank)
    if best is not None and _rank(adapted) < (best[1].pareto_k < STEADY_K, best[1].share):
        return Found(best[0], None, history, tuple(notes), tuple(modes))
    return Found(adapted.mixture, None, history, tuple(notes), tuple(modes))


def around(
    target: Target, starts: Float[Tensor, "starts dim"], draws: int = 64, seed: int | None = 0
) -> tuple[list[Mode], list[str]]:
    """Places to fit at: modes, or, where the density has none to be found, normals that maximise the ELBO.

    Args:
        target: A differentiable one.
        starts: (starts, dim).
        draws: Fixed draws, even.
        seed: Of the draws.

    Returns:
        At least one place, and what the user should know of it.
    """
    modes, trouble = find_modes(target, starts)
    if modes:
        notes = [] if modes[0].definite else [_flat(target, modes[0])]
        return modes, notes
    best = max(
        (
            fit_fixed(target, MeanField.around(start, torch.full_like(start, 0.1)), draws=draws, seed=seed)
            for start in starts
        ),
        key=lambda fit: fit.bound,
    )
    normal = _responded(target, best)
    place = Mode(normal.loc, normal.scale_tril, best.bound, definite=True)
    return [place], [f"{trouble}; started from the best normal instead"]


def _responded(target: Target, fit: Fixed) -> TriangularNormal:
    if target.dim <= LARGEST_RESPONSE:
        with suppress(FitError):
            return linear_response(target, fit).forward(None)
    posterior = fit.family(None)
    if isinstance(posterior, TriangularNormal):
        return posterior
    scale_tril = torch.diag(posterior.stddev.detach())
    return TriangularNormal(posterior.mean.detach(), scale_tril)


def _judged(target: Target, posterior: Family | Distribution) -> tuple[Distribution, Weighed]:
    if isinstance(posterior, Family):
        posterior = posterior(None)
    return posterior, weigh(target, posterior, CHECK)


def _even(weighed: Weighed) -> bool:
    return weighed.pareto_k < 0.45 and weighed.share > 0.8


def _rank(done: Round) -> tuple[bool, float]:
    return done.rank


def _mixture(normals: list[TriangularNormal], modes: list[Mode]) -> StudentMixture:
    masses = shares(modes)
    # The share of a mode that is known by Laplace's approximation alone isn't taken for certain.
    weights = 0.9 * masses + 0.1 / len(masses)
    return StudentMixture(
        weights,
        torch.stack([normal.loc.detach() for normal in normals]),
        torch.stack([normal.scale_tril.detach() for normal in normals]),
        DOF,
    )


def _several(modes: list[Mode]) -> str:
    parts = ", ".join(f"{float(share):.2g}" for share in shares(modes))
    return f"the posterior has {len(modes)} modes that were found, with shares of about {parts}"


def _flat(target: Target, mode: Mode) -> str:
    widest = int(mode.scale_tril.square().sum(1).argmax())
    return (
        f"the density is flat or rises in some direction at its maximum, most of all along "
        f"{target.coordinates[widest]}: parameters may not be identified, or the posterior improper"
    )
