"""Hamiltonian Monte Carlo with paths of a fixed length, all chains in one batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, pi
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jensen.errors import ConfigError
from jensen.inference.mcmc.density import Array, Density, Metric
from jensen.inference.mcmc.draws import Draws
from jensen.inference.mcmc.drift import check_drift
from jensen.inference.mcmc.leapfrog import Evaluate, energy, leapfrog
from jensen.inference.mcmc.nuts import begin, guess_step
from jensen.inference.mcmc.options import check_counts, check_share
from jensen.inference.mcmc.starting import is_dense
from jensen.inference.mcmc.trees import DIVERGENCE_NATS
from jensen.inference.mcmc.warm_up import WarmUp
from jensen.inference.mcmc.watching import OnDraws, Watch
from jensen.inference.target import Target
from jensen.seeding import seeded

_JITTER = 0.2
"""By which part step sizes vary from path to path, so that none is a whole turn for good."""


@dataclass(frozen=True)
class State:
    """Where the chains are, in coordinates whose masses are one.

    Attributes:
        z: (chains, dim).
        value: Log-densities, (chains,).
        slope: Gradients, (chains, dim).
    """

    z: Array
    value: Array
    slope: Array


@dataclass(frozen=True)
class Info:
    """What a transition tells beside the draw, each (chains,).

    Attributes:
        acceptance: With which probability the path's end was accepted.
        moved: Whether it was.
        divergent: Whether the energy rose too far.
        energy: At the start of the path.
    """

    acceptance: Array
    moved: np.ndarray
    divergent: np.ndarray
    energy: Array


def transition(
    density: Evaluate, state: State, step: float, leaps: int, generator: np.random.Generator
) -> tuple[State, Info]:
    """One transition of all chains: fresh momenta, a path of so many steps, accept or stay.

    Args:
        density: Values and gradients.
        state: Where the chains are.
        step: Step size, varied a little for each chain.
        leaps: Leapfrog steps.
        generator: Of the draws.

    Returns:
        Where the chains are then.
    """
    n = len(state.z)
    steps = step * (1 + _JITTER * (2 * generator.random((n, 1)) - 1))
    z, value, slope = state.z, state.value, state.slope
    momentum = generator.standard_normal(z.shape)
    before = energy(value, momentum)
    for _ in range(leaps):
        z, momentum, value, slope = leapfrog(density, z, momentum, slope, steps)
    gain = np.nan_to_num(before - energy(value, momentum), nan=-np.inf)
    acceptance = np.exp(np.minimum(gain, 0.0))
    moved = generator.random(n) < acceptance
    new = State(
        np.where(moved[:, None], z, state.z),
        np.where(moved, value, state.value),
        np.where(moved[:, None], slope, state.slope),
    )
    return new, Info(acceptance, moved, gain < -DIVERGENCE_NATS, before)


def hmc(
    target: Target,
    draws: int = 1000,
    chains: int = 16,
    *,
    warmup: int = 200,
    path_length: float = pi / 2,
    init: Mapping[str, Any] | Tensor | None = None,
    metric: str = "auto",
    acceptance: float = 0.8,
    max_leapfrogs: int = 256,
    seed: int | None = 0,
    on_draws: OnDraws | None = None,
    progress: bool | None = None,
) -> Draws:
    r"""Draws from a log-joint's posterior by Hamiltonian Monte Carlo with paths of a fixed length.

    Starting points, step size and masses are found as by ``nuts``, which also chooses the length of each path and is
    the better choice unless all directions turn alike.

    Args:
        target: The log-joint.
        draws: Kept draws of each chain.
        chains: How many, in one batch.
        warmup: Transitions of each chain before, which aren't kept.
        path_length: Time along a path where the posterior's standard deviations are one; a normal distribution
            forgets its start after a quarter turn, pi/2.
        init: As in ``nuts``.
        metric: As in ``nuts``.
        acceptance: The average acceptance that the step size is chosen for.
        max_leapfrogs: Steps of a path at most.
        seed: Of all draws; None goes on with torch's generator.
        on_draws: Called now and then with the number of draws made and wanted.
        progress: Whether to show a bar; None: on a terminal, after a second.

    Returns:
        The draws with their diagnosis.

    Raises:
        ConfigError: If an option has a value that it can't take.
        DataError: If the log-joint isn't finite where a chain has to begin.
        ShapeError: If init has another shape.
        FitError: If the log-joint isn't differentiable, or the chains drift off without end.

    Example:
        >>> from jensen.inference import Target, real
        >>> target = Target(lambda p: -0.5 * (p["x"] - 3).square(), {"x": real()})
        >>> bool(abs(hmc(target, draws=200, chains=4)["x"].mean() - 3) < 0.2)
        True

    Source: MCMC using Hamiltonian dynamics, 2012, https://arxiv.org/abs/1206.1901.
    """
    check_counts(draws, chains, warmup)
    check_share("acceptance", acceptance)
    if not path_length > 0 or max_leapfrogs < 1:
        raise ConfigError(
            f"path_length is {path_length} and max_leapfrogs {max_leapfrogs}; they have to be above 0 and at least 1"
        )

    def leaps(step: float) -> int:
        return min(max(1, ceil(path_length / step)), max_leapfrogs)

    with seeded(seed), Watch("hmc", draws * chains, on_draws, progress) as watch, np.errstate(all="ignore"):
        generator = np.random.default_rng(int(torch.randint(2**62, ())))
        start = begin(target, chains, warmup, init, metric, generator)
        points = start.points
        warm = WarmUp(
            start.metric,
            is_dense(metric, target.dim),
            acceptance,
            len(points),
            warmup,
            lambda found: guess_step(target, found, points, generator),
        )
        while warm.share < 1:
            density, state = _state(target, warm.metric, points)
            changed = False
            while not changed and warm.share < 1:
                step = warm.steps.current
                # A quarter of a path at most, so that a step size that is still far too small costs little.
                state, info = transition(density, state, step, min(leaps(step), 64), generator)
                points = warm.metric.outward(state.z)
                capped = np.full(len(points), leaps(step) > 64) & info.moved
                changed = warm.take(info.acceptance, points, capped)
                watch.warming(warm.share)
            if changed:
                check_drift(target, warm, points)
        step = warm.steps.average
        density, state = _state(target, warm.metric, points[:chains])
        return _sample(target, density, state, step, leaps(step), draws, generator, watch)


def _state(target: Target, metric: Metric, points: Array) -> tuple[Density, State]:
    density = Density(target, metric)
    z = metric.inward(points)
    return density, State(z, *density(z))


def _sample(
    target: Target,
    density: Density,
    state: State,
    step: float,
    leaps: int,
    draws: int,
    generator: np.random.Generator,
    watch: Watch,
) -> Draws:
    chains = len(state.z)
    z = np.empty((chains, draws, target.dim))
    stats = {name: np.empty((chains, draws)) for name in ("log_prob", "acceptance", "energy")}
    divergent = np.empty((chains, draws), dtype=bool)
    for i in range(draws):
        state, info = transition(density, state, step, leaps, generator)
        z[:, i], stats["log_prob"][:, i] = state.z, state.value
        stats["acceptance"][:, i], stats["energy"][:, i] = info.acceptance, info.energy
        divergent[:, i] = info.divergent
        watch.done((i + 1) * chains)
    recorded = {**stats, "divergent": divergent, "leapfrogs": np.full((chains, draws), leaps)}
    metric = density.metric
    return Draws(
        target,
        torch.from_numpy(metric.outward(z)),
        "hmc",
        {name: torch.from_numpy(value) for name, value in recorded.items()},
        {"step_size": step, "leapfrogs": leaps, "metric": "dense" if metric.dense else "diagonal"},
    )
