"""What samplers on noisy gradients share: where they begin, in which coordinates, how large a step may be."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jensen.errors import ConfigError, FitError
from jensen.inference.mcmc.minibatches import Minibatches
from jensen.inference.mcmc.options import FEWEST_ROWS, check_real
from jensen.inference.mcmc.starting import check_finite, find_start, given_points, is_dense
from jensen.inference.mcmc.watching import Watch
from jensen.inference.target import Target

EXCESS = 0.05
"""The share by which discretisation and noise may each widen the variance in the worst direction."""

_MEMORY = 0.99
_SEEN_AT_ONCE = 64
_FLATTEST = 1e-12
"""Curvature in the coordinates of the preconditioner below which a density is flat: a spread of a million."""

Gradient = Callable[[Tensor], Tensor]
"""From points (chains, dim) to estimates of the log-density's gradients there."""


@dataclass(frozen=True)
class Surroundings:
    """A noisy gradient and the coordinates that steps are taken in.

    Attributes:
        gradient: In these coordinates.
        outward: From these coordinates (..., dim) to the target's unconstrained ones.
        points: Where the chains are, (chains, dim).
        scale: Square root of the diagonal preconditioner in these coordinates, (dim,).
        stiffness: The largest curvature, in units of the preconditioner.
        noise: The largest variance of a gradient's estimate, likewise.
    """

    gradient: Gradient
    outward: Callable[[Tensor], Tensor]
    points: Tensor
    scale: Tensor
    stiffness: float
    noise: float


def _stiffness(gradient: Gradient, point: Tensor, scale: Tensor) -> float:
    """The largest curvature at a point (1, dim) in units of the preconditioner, by power iteration on differences."""
    direction = torch.randn_like(point)
    value = 0.0
    for _ in range(30):
        shift = 1e-4 * scale * direction / direction.norm()
        state = torch.get_rng_state()
        above = gradient(point + shift)
        # The same rows on both sides, so that their noise cancels.
        torch.set_rng_state(state)
        direction = scale * (gradient(point - shift) - above) / 2e-4
        value = float(direction.norm())
        if value == 0 or not isfinite(value):
            break
    return value


def _measured(around: Surroundings, noisy: bool) -> Surroundings:
    """With stiffness and noise as they are in the middle of the chains."""
    point = around.points.median(0).values[None]
    stiffness = _stiffness(around.gradient, point, around.scale)
    noise = 0.0
    if noisy:
        estimates = around.gradient(point.expand(_SEEN_AT_ONCE, -1))
        noise = float((estimates.var(0) * around.scale**2).max())
    return replace(around, stiffness=stiffness, noise=noise)


def _coordinates(
    target: Target,
    chains: int,
    batch_size: int | None,
    kind: str,
    init: Mapping[str, Any] | Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Unconstrained starting points, and centre and factor (dim, dim) of the coordinates to move in."""
    part = target
    if batch_size is not None and target.rows is not None:
        part = target.subsample(torch.randperm(target.rows)[: max(10 * batch_size, 1000)])
    generator = np.random.default_rng(int(torch.randint(2**62, ())))
    given = None if init is None else given_points(target, init, chains)
    if given is not None:
        check_finite(part, given)
    centre, factor = np.zeros(target.dim), np.eye(target.dim)
    if given is not None and kind != "curvature":
        return torch.from_numpy(given), torch.from_numpy(centre), torch.from_numpy(factor)
    start = find_start(part, max(chains, FEWEST_ROWS), is_dense("auto", target.dim), generator)
    if kind == "curvature" and start.curved:
        centre, factor = start.metric.centre, start.metric.factor
        factor = factor if start.metric.dense else np.diag(factor)
    points = start.points[:chains] if given is None else given
    return torch.from_numpy(points), torch.from_numpy(centre), torch.from_numpy(factor)


def prepare(
    target: Target,
    chains: int,
    batch_size: int | None,
    kind: str,
    init: Mapping[str, Any] | Tensor | None,
) -> Surroundings:
    """Finds starting points, coordinates, a preconditioner and how stiff and how noisy the gradient is in them.

    Args:
        target: Of the chains.
        chains: How many.
        batch_size: Rows of a gradient; None uses all.
        kind: Of the preconditioner.
        init: As in ``nuts``.

    Returns:
        What steps need.

    Raises:
        ConfigError: If there is no such preconditioner, the target has no data for minibatches, or it keeps discrete
            parameters.
        DataError: If the log-joint isn't finite where a chain has to begin.
    """
    check_real(target, "stochastic gradient Langevin or Hamiltonian dynamics")
    if kind not in ("curvature", "rms", "none"):
        raise ConfigError(f"unknown preconditioner '{kind}'; there are: curvature, rms, none")
    whole = None if batch_size is None else Minibatches(target, batch_size)
    points, centre, factor = _coordinates(target, chains, batch_size, kind, init)

    def outward(z: Tensor) -> Tensor:
        return centre + z @ factor.T

    def gradient(z: Tensor) -> Tensor:
        u = outward(z)
        return (target.value_and_gradient(u)[1] if whole is None else whole(u)) @ factor

    z = torch.linalg.solve_triangular(factor, (points - centre).T, upper=False).T
    scale = torch.ones(target.dim, dtype=torch.float64)
    around = Surroundings(gradient, outward, z, scale, 0.0, 0.0)
    if kind == "rms":
        around = replace(around, scale=_inverse_root(gradient(z).square().mean(0)))
    return _measured(around, batch_size is not None)


def _inverse_root(second_moment: Tensor) -> Tensor:
    """The square root of the preconditioner 1 / sqrt(V), kept away from 1 / 0."""
    return (second_moment + 1e-8 * second_moment.max().clamp(min=1e-300)) ** -0.25


def warm_up(
    around: Surroundings,
    move: Callable[[Surroundings, Tensor, float], Tensor],
    state: Tensor,
    choose: Callable[[Surroundings], float],
    warmup: int,
    kind: str,
    noisy: bool,
    watch: Watch,
) -> tuple[Surroundings, Tensor, float]:
    """Steps that aren't kept, in which the "rms" preconditioner is learnt and then fixed.

    Args:
        around: As ``prepare`` gives it.
        move: From surroundings, a state whose first columns are the points, and a step size to the next state.
        state: Of the chains.
        choose: From surroundings to a step size.
        warmup: How many.
        kind: Of the preconditioner.
        noisy: Whether gradients are estimates.
        watch: Is told the progress.

    Returns:
        The surroundings that stay, the state, and the step size.
    """
    dim = len(around.scale)
    size = choose(around)
    moment = around.scale**-4.0
    for i in range(warmup):
        state = move(around, state, size)
        if kind == "rms":
            moment = _MEMORY * moment + (1 - _MEMORY) * around.gradient(state[:, :dim]).square().mean(0)
            if (i + 1) % 100 == 0:
                around = replace(around, scale=_inverse_root(moment))
        watch.warming((i + 1) / warmup)
    if warmup:
        around = replace(around, points=state[:, :dim])
        around = _measured(around, noisy)
        size = choose(around)
    return around, state, size


def curved(around: Surroundings) -> float:
    """The largest curvature, of which a step size is made.

    Raises:
        FitError: If there is none: the density is flat, or not finite, where chains are.
    """
    if not _FLATTEST < around.stiffness < float("inf"):
        raise FitError(
            f"no step size can be chosen: the largest curvature where the chains are is {around.stiffness:.3g}. The "
            "posterior is probably improper (a flat prior that the data don't bound); give proper priors, or a "
            "step_size"
        )
    return around.stiffness


def too_wide(name: str, step: float, coarse: float, noisy: float) -> str:
    """By how much a sampler's variance is too large, in words."""
    return (
        f"{name} isn't exact: with a mean step size of {step:.2g} the variance in the worst direction is too large "
        f"by about {coarse:.1%} by discretisation and {noisy:.1%} by the gradients' noise."
    )
