"""The no-U-turn sampler, all chains in one batch."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jensen.errors import ConfigError
from jensen.inference.mcmc.density import Array, Density, Metric
from jensen.inference.mcmc.draws import Draws
from jensen.inference.mcmc.drift import check_drift
from jensen.inference.mcmc.leapfrog import energy, leapfrog
from jensen.inference.mcmc.options import FEWEST_ROWS, check_counts, check_real, check_share
from jensen.inference.mcmc.starting import Start, check_finite, find_start, given_points, is_dense
from jensen.inference.mcmc.step_size import first_guess
from jensen.inference.mcmc.trace import Trace, worth_more
from jensen.inference.mcmc.trees import Trees
from jensen.inference.mcmc.warm_up import WarmUp
from jensen.inference.mcmc.watching import OnDraws, Watch
from jensen.inference.target import Target
from jensen.seeding import seeded

DRAWS = 1000
"""Draws of each chain, and by how many more they grow, where their number is left open."""
MOST_DRAWS = 4 * DRAWS
_WARM_DEPTH = 7
"""Doublings at most while the coordinates aren't learnt yet, when long paths tell little."""


def nuts(
    target: Target,
    draws: int | None = None,
    chains: int = 16,
    *,
    warmup: int = 200,
    init: Mapping[str, Any] | Tensor | None = None,
    metric: str = "auto",
    acceptance: float = 0.8,
    max_depth: int = 10,
    seed: int | None = 0,
    on_draws: OnDraws | None = None,
    progress: bool | None = None,
) -> Draws:
    r"""Draws from a log-joint's posterior by the no-U-turn sampler.

    Hamiltonian trajectories that are doubled until they turn; the draw is one of their points with probability
    proportional to its density. All chains take their leapfrog steps in one batch, each at its own point of its own
    trajectory. Chains begin around the modes that climbs from scattered points find; step size and covariance are
    learnt from all of them together, so that a short warm-up does.

    Args:
        target: The log-joint.
        draws: Kept draws of each chain. None: 1,000, and further 1,000 up to 4,000 while the chains nearly agree but
            not well enough (R-hat above 1.01, or fewer than 400 effective draws of a coordinate).
        chains: How many; in one batch 16 cost little more than 4.
        warmup: Transitions of each chain before, which aren't kept. It is made with at least 16 chains.
        init: A value of each parameter to begin at, alike for all chains or with a leading dimension for them, or
            unconstrained points (dim,) or (chains, dim); None finds its own.
        metric: Whether the masses know correlations: "dense", "diagonal", or "auto" (dense up to 150 coordinates).
        acceptance: The average acceptance that the step size is chosen for; nearer to 1 for fewer divergences.
        max_depth: Doublings of a trajectory at most.
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
        >>> found = nuts(target, draws=200, chains=4)
        >>> found["x"].shape, bool(abs(found["x"].mean() - 3) < 0.2)
        (torch.Size([4, 200]), True)

    Source: The No-U-Turn sampler, 2014, https://arxiv.org/abs/1111.4246; A conceptual introduction to Hamiltonian Monte
    Carlo, 2017, https://arxiv.org/abs/1701.02434.
    """
    check_counts(DRAWS if draws is None else draws, chains, warmup)
    check_share("acceptance", acceptance)
    if not 1 <= max_depth <= 16:
        raise ConfigError(f"max_depth is {max_depth}; it has to be from 1 to 16")
    with (
        seeded(seed),
        Watch("nuts", (draws or DRAWS) * chains, on_draws, progress) as watch,
        np.errstate(all="ignore"),
    ):
        generator = np.random.default_rng(int(torch.randint(2**62, ())))
        start = begin(target, chains, warmup, init, metric, generator)
        points, learnt = _warm_up(
            target, start, warmup, metric, acceptance, min(max_depth, _WARM_DEPTH), generator, watch
        )
        return _sample(target, points[:chains], learnt, draws, max_depth, generator, watch)


def begin(
    target: Target,
    chains: int,
    warmup: int,
    init: Mapping[str, Any] | Tensor | None,
    metric: str,
    generator: np.random.Generator,
) -> Start:
    """Starting points of the chains and, for the warm-up, of more.

    Raises:
        ConfigError: If there is no such metric, or the target keeps discrete parameters.
        DataError: If the log-joint isn't finite where a chain has to begin.
        ShapeError: If init has another shape.
    """
    check_real(target, "a Hamiltonian sampler")
    if metric not in ("auto", "dense", "diagonal"):
        raise ConfigError(f"unknown metric '{metric}'; there are: auto, dense, diagonal")
    if init is None:
        return find_start(target, max(chains, FEWEST_ROWS), is_dense(metric, target.dim), generator)
    points = given_points(target, init, chains)
    check_finite(target, points)
    rows = max(chains, FEWEST_ROWS if warmup else 1)
    points = np.concatenate([points, points[generator.integers(0, chains, rows - chains)]])
    return Start(points, Metric(np.zeros(target.dim), np.ones(target.dim)), False)


def guess_step(target: Target, metric: Metric, points: Array, generator: np.random.Generator) -> float:
    """A step size at which a single leapfrog step from the chains' points is mostly accepted."""
    density = Density(target, metric)
    z = metric.inward(points)
    value, slope = density(z)
    momentum = generator.standard_normal(z.shape)
    before = energy(value, momentum)

    def acceptance(step: float) -> Array:
        _, after, reached, _ = leapfrog(density, z, momentum, slope, np.full((len(z), 1), step))
        return np.exp(np.minimum(np.nan_to_num(before - energy(reached, after), nan=-np.inf), 0.0))

    return first_guess(acceptance)


def _warm_up(
    target: Target,
    start: Start,
    iterations: int,
    kind: str,
    acceptance: float,
    max_depth: int,
    generator: np.random.Generator,
    watch: Watch,
) -> tuple[Array, tuple[Metric, float]]:
    """Where the chains are then, and the metric and step size learnt."""
    points = start.points

    def guess(metric: Metric) -> float:
        return guess_step(target, metric, points, generator)

    warm = WarmUp(start.metric, is_dense(kind, target.dim), acceptance, len(points), iterations, guess)
    while warm.share < 1:
        trees = Trees(Density(target, warm.metric), warm.metric.inward(points), generator, max_depth)
        trees.begin(warm.steps.current)
        changed = False
        while not changed and warm.share < 1:
            finished = trees.advance(warm.steps.current)
            if finished is not None:
                positions = warm.metric.outward(finished.z)
                points[finished.rows] = positions
                unturned = (finished.depth == max_depth) & ~finished.divergent
                changed = warm.take(finished.acceptance, positions, unturned)
                watch.warming(warm.share)
        if changed:
            check_drift(target, warm, points)
    return points, (warm.metric, warm.steps.average)


def _sample(
    target: Target,
    points: Array,
    learnt: tuple[Metric, float],
    draws: int | None,
    max_depth: int,
    generator: np.random.Generator,
    watch: Watch,
) -> Draws:
    metric, step = learnt
    trees = Trees(Density(target, metric), metric.inward(points), generator, max_depth)
    trace = Trace(len(points), target.dim)
    trees.begin(step)

    def go_on(wanted: int) -> None:
        while trace.complete < wanted:
            finished = trees.advance(step)
            if finished is not None:
                trace.keep(finished)
                watch.done(trace.kept(wanted))

    wanted = DRAWS if draws is None else draws
    go_on(wanted)
    while draws is None and wanted < MOST_DRAWS and worth_more(trace.positions(wanted)):
        wanted += DRAWS
        watch.draws = wanted * len(points)
        go_on(wanted)
    return Draws(
        target,
        torch.from_numpy(metric.outward(trace.positions(wanted))),
        "nuts",
        {name: torch.from_numpy(value) for name, value in trace.stats(wanted).items()},
        {"step_size": step, "metric": "dense" if metric.dense else "diagonal", "max_depth": max_depth},
    )
