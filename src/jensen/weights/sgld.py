"""Stochastic gradient Langevin dynamics over weights, with or without inertia, in cycles of step sizes."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import pi
from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from jensen.errors import FitError
from jensen.inference.mcmc import inertial_step, kept_steps, langevin_step
from jensen.weights.curvature import STRUCTURES, CurvatureProblem
from jensen.weights.curvature.outputs import unit_noise
from jensen.weights.laplace.joint import noise_of
from jensen.weights.likelihoods import NOISE
from jensen.weights.map import most_probable
from jensen.weights.members import MembersPosterior
from jensen.weights.network import Values, flat, quiet, unflat
from jensen.weights.options import TrainingOptions
from jensen.weights.problem import Problem

EXCESS = 0.05
"""The share by which discretisation and gradients' noise may each widen the variance in the worst direction."""

_SEEN = 1000
"""Data that curvature is estimated on."""

_ESTIMATES = 32
"""Gradients that their noise is estimated by."""

_ASTRAY = 5.0
"""Nats a datum by which draws may say less than a model that knows nothing."""

_TRIES = 5
"""Step sizes that are tried, each a quarter of the last."""


class SgldOptions(TrainingOptions):
    """Options of methods "sgld" and "sghmc": training finds the start, then chains of draws set out from it."""

    steps: int = Field(4000, gt=0, description="steps of each chain")
    chains: int = Field(4, gt=0, description="chains, gone along in one batch")
    draws: int = Field(100, gt=0, description="draws that are kept of all chains together")
    schedule: Literal["cyclical", "constant"] = Field(
        "cyclical",
        description="step sizes that fall along a cosine and start again, or stay the same",
    )
    cycles: int = Field(4, gt=0, description="of a cyclical schedule")
    exploration: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="first part of each cycle (of all steps, if constant) that nothing is kept of",
    )
    step_size: float | None = Field(
        None,
        gt=0,
        description="largest step size, in units of the preconditioner; None: by curvature and noise at the start, "
        "and a quarter of it where chains then go astray",
    )
    minibatch: int | None = Field(
        None, gt=0, description="data in a gradient while drawing; None: all up to 1,000, else batch_size"
    )


class SghmcOptions(SgldOptions):
    """Options of method "sghmc"."""

    friction: float = Field(1.0, gt=0, description="one over the time after which a velocity is forgotten")


def cycle_sizes(largest: float, steps: int, cycles: int) -> Float[Tensor, " steps"]:
    r"""Step sizes :math:`\frac{\epsilon}{2} [\cos(\pi t / T) + 1]` over the T steps of each cycle.

    Args:
        largest: epsilon.
        steps: Of all cycles.
        cycles: How many.

    Source: Cyclical stochastic gradient MCMC for Bayesian deep learning, 2020, https://arxiv.org/abs/1902.03932.

    Example:
        >>> [round(size, 3) for size in cycle_sizes(1.0, 6, 2).tolist()]
        [1.0, 0.75, 0.25, 1.0, 0.75, 0.25]
    """
    length = max(1, steps // cycles)
    place = (torch.arange(steps, dtype=torch.float64) % length) / length
    return largest * 0.5 * (torch.cos(pi * place) + 1)


@dataclass(frozen=True)
class _Chains:
    """The joint density's gradient for chains of all unknowns as vectors.

    Attributes:
        problem: Network, data, likelihood and prior.
        like: Unknowns by name, one set.
        batch_size: Data of each chain's gradient.
    """

    problem: Problem
    like: Values
    batch_size: int

    def gradient(self, points: Float[Tensor, "s p"]) -> Float[Tensor, "s p"]:
        """Unbiased estimates, each by data of its own."""
        problem, n = self.problem, len(self.problem)
        with torch.enable_grad():
            leaves = points.detach().requires_grad_()
            values = unflat(leaves, self.like)
            weights = {name: values[name] for name in problem.network.weights}
            if self.batch_size >= n:
                outputs, y = problem.network(weights, problem.x), problem.y
            else:
                rows = torch.rand(len(points), n, device=points.device).topk(self.batch_size).indices
                outputs, y = problem.network(weights, problem.x[rows], each=True), problem.y[rows]
            likelihood = problem.likelihood.log_prob(outputs, y, values)
            total = likelihood.sum(-1) * (n / min(self.batch_size, n)) + problem.prior.log_prob(weights)
            return torch.autograd.grad(total.sum(), leaves)[0]

    def stiffness(self, point: Float[Tensor, " p"], scale: Float[Tensor, " p"]) -> float:
        """The largest curvature in the preconditioner's units, by power iteration on differences of gradients."""
        part = _part(self.problem)
        whole = _Chains(part, self.like, len(part))
        direction = torch.randn_like(point)
        value = 0.0
        for _ in range(20):
            shift = 1e-2 * scale * direction / direction.norm()
            both = whole.gradient(torch.stack([point - shift, point + shift]))
            direction = scale * (both[0] - both[1]) / 2e-2
            value = float(direction.norm())
            if value == 0:
                break
        # A part of the data curves as many times less; the prior doesn't, so that this is rather too much.
        return value * len(self.problem) / len(part)

    def noise(self, point: Float[Tensor, " p"], scale: Float[Tensor, " p"]) -> float:
        """The largest variance of a gradient's estimate in the preconditioner's units."""
        if self.batch_size >= len(self.problem):
            return 0.0
        estimates = self.gradient(point.expand(_ESTIMATES, -1))
        return float((estimates.var(0) * scale.square()).max())


def _part(problem: Problem) -> Problem:
    """Some of the data, at random."""
    rows = torch.randperm(len(problem), device=problem.x.device)[:_SEEN]
    return replace(problem, x=problem.x[rows], y=problem.y[rows])


def preconditioner(problem: Problem, values: Values) -> Values:
    """Standard deviations of a diagonal normal around the most probable values, by name.

    Args:
        problem: Network, data, likelihood and prior.
        values: The most probable ones, one set.
    """
    part = _part(problem)
    times = len(problem) / len(part)
    weights = {name: values[name] for name in problem.network.weights}
    with torch.no_grad():
        outputs = problem.network.outputs({name: value[None] for name, value in weights.items()}, part.x)
    if outputs.shape[-1] == 1:
        curved = CurvatureProblem(part.network, weights, part.x, part.y, part.likelihood)
    else:
        # Squared gradients at targets that the network draws have the Gauss-Newton matrix as their mean, at a
        # price that doesn't grow with the outputs.
        drawn = unit_noise(part.likelihood).cells(outputs, {}).sample()[0].to(part.y.dtype)
        curved = CurvatureProblem(part.network, weights, part.x, drawn, part.likelihood, "empirical")
    log_noise = noise_of(problem, values)
    scale = 1.0 if log_noise is None else float((-2 * log_noise).exp())
    found: Values = {}
    if NOISE in values:
        cells = problem.y.numel()
        found[NOISE] = values[NOISE].new_tensor((2 * cells) ** -0.5)
    for block in STRUCTURES["diagonal"](curved).blocks:
        for name, precision in block.packing.unpack(block.matrix.product_values).items():
            prior = problem.prior.scales[name].double() ** -2
            found[name] = (precision * times * scale + prior).rsqrt().to(values[name].dtype)
    return {name: found[name].expand(value.shape) for name, value in values.items()}


def fit_sgld(problem: Problem, options: SgldOptions) -> MembersPosterior:
    r"""Draws weights by noisy gradient steps from the most probable ones.

    A step is :math:`w' = w + \frac{\epsilon}{2} s^2 g + \sqrt{\epsilon} s \xi` with the gradient g of the joint density
    (N / B times that of a minibatch), standard normal noise and the preconditioner s^2, the variance of a diagonal
    normal at the start, which stays. In each cycle the first part of the steps explores without noise, and draws of
    the rest are kept at equal distances in time. The scale of the noise of normal targets is drawn with the weights.

    The draws are near the posterior, the nearer the smaller the steps; by default the steps are so small that
    discretisation and gradients' noise each widen the variance by about 5 % in the worst direction. That is of the
    curvature at the start, which isn't that of everywhere: draws that say less of the targets than a model that knows
    nothing are no draws of the posterior, and the chains set out again with smaller steps, or are refused.

    Args:
        problem: Network, data, likelihood and prior.
        options: Training, chains and steps.

    Returns:
        The draws as members, chain after chain; ``history["step_size"]`` holds the largest step size.

    Raises:
        FitError: If training can't go on, or a chain leaves the numbers or goes astray.

    Source: Bayesian learning via stochastic gradient Langevin dynamics, 2011,
    https://www.stats.ox.ac.uk/~teh/research/compstats/WelTeh2011a.pdf; Stochastic gradient Hamiltonian Monte Carlo,
    2014, https://arxiv.org/abs/1402.4102.
    """
    found, values, history = most_probable(problem, options)
    friction = options.friction if isinstance(options, SghmcOptions) else None
    batch = options.minibatch or (len(found) if len(found) <= 1000 else options.batch_size)
    chains = _Chains(found, values, batch)
    scale = flat(preconditioner(found, values), values)
    start = flat(values, values)
    # Slopes of what the network was named for.
    with quiet():
        first = options.step_size or _step_size(chains, start, scale, options, friction)
        kept, first = _steady(
            lambda size: _run(chains, start, scale, size, options, friction),
            lambda kept, size: _refuse_astray(chains, start, kept, size),
            first,
            1 if options.step_size else _TRIES,
        )
    members = unflat(kept.flatten(0, 1), values)
    return MembersPosterior(
        members,
        found.network,
        found.likelihood,
        found.prior,
        "sgld" if friction is None else "sghmc",
        options.model_dump(),
        {**history, "step_size": [first]},
    )


def _step_size(
    chains: _Chains, start: Tensor, scale: Tensor, options: SgldOptions, friction: float | None
) -> float:
    """The largest step size for which draws are at most ``EXCESS`` too wide where they are kept."""
    stiffness = max(chains.stiffness(start, scale), 1e-30)
    noise = max(chains.noise(start, scale), 1e-30)
    if friction is None:
        size = 4 * EXCESS / max(stiffness, noise)
    else:
        size = min((4 * EXCESS / stiffness) ** 0.5, 2 * friction * EXCESS / noise)
    if options.schedule == "constant":
        return size
    # Draws are kept after the exploration, when step sizes have fallen to this part.
    return size / float(cycle_sizes(1.0, 1000, 1)[int(1000 * options.exploration)].clamp(min=0.1))


def _plan(first: float, options: SgldOptions) -> tuple[list[float], list[bool], list[int]]:
    """Step sizes, whether each step has noise, and after which steps draws are kept."""
    steps, each = options.steps, max(1, options.draws // options.chains)
    if options.schedule == "constant":
        sizes = torch.full((steps,), first, dtype=torch.float64)
        begin = int(options.exploration * steps)
        return sizes.tolist(), [True] * steps, [begin + i for i in kept_steps(sizes[begin:], each)]
    cycles = min(options.cycles, steps)
    sizes = cycle_sizes(first, steps, cycles)
    length = steps // cycles
    begin = int(options.exploration * length)
    noisy = [step % length >= begin for step in range(steps)]
    quiet = torch.where(torch.tensor(noisy), sizes, torch.zeros_like(sizes))
    return sizes.tolist(), noisy, kept_steps(quiet, each)


def _steady(
    run: Callable[[float], Tensor], refuse_astray: Callable[[Tensor, float], None], first: float, tries: int
) -> tuple[Float[Tensor, "chains draws p"], float]:
    """Draws, by steps a quarter as large at each further try, until no chain goes astray, and the step size."""
    for left in reversed(range(tries)):
        try:
            kept = run(first)
            refuse_astray(kept, first)
        except FitError:
            if not left:
                raise
            first /= 4
        else:
            return kept, first
    raise AssertionError("the last try returns or raises")


@torch.no_grad()
def _refuse_astray(
    chains: _Chains, start: Tensor, kept: Float[Tensor, "chains draws p"], first: float
) -> None:
    """Refuses draws that say less of the targets than the start, and than outputs of zero.

    Raises:
        FitError: If there are such.
    """
    problem = chains.problem
    rows = torch.linspace(0, len(problem) - 1, min(_SEEN, len(problem)), device=problem.x.device).long()
    x, y = problem.x[rows], problem.y[rows]

    def outputs(values: Values) -> Float[Tensor, "s m outputs"]:
        return problem.network.outputs({name: values[name] for name in problem.network.weights}, x)

    def said(values: Values) -> Float[Tensor, " s"]:
        return problem.likelihood.log_prob(outputs(values), y, values).mean(-1)

    begun = unflat(start[None], chains.like)
    spread = y.double().square().mean().sqrt().clamp(min=1e-12).log().to(start)
    unknowing = problem.likelihood.log_prob(torch.zeros_like(outputs(begun)), y, {NOISE: spread[None]}).mean()
    least = min(float(said(begun)), float(unknowing)) - _ASTRAY
    found = said(unflat(kept.flatten(0, 1).to(start), chains.like))
    if not bool((found >= least).all()):
        raise FitError(
            f"{int((~(found >= least)).sum())} of {len(found)} draws say less of the targets than a model that knows "
            f"nothing, since chains have left the posterior: the steps are too large; give a smaller step_size than "
            f"{first:.3g}"
        )


@torch.no_grad()
def _run(
    chains: _Chains,
    start: Tensor,
    scale: Tensor,
    first: float,
    options: SgldOptions,
    friction: float | None,
) -> Float[Tensor, "chains draws p"]:
    points = start.expand(options.chains, -1).clone()
    velocity = torch.zeros_like(points)
    move: Callable[[float, bool], None]

    def langevin(size: float, noisy: bool) -> None:
        nonlocal points
        slope = chains.gradient(points)
        points = (
            langevin_step(points, slope, size, scale) if noisy else points + 0.5 * size * scale**2 * slope
        )

    def inertial(size: float, noisy: bool) -> None:
        nonlocal points, velocity
        assert friction is not None
        slope = chains.gradient(points)
        if noisy:
            points, velocity = inertial_step(points, velocity, slope, size, friction, scale)
        else:
            velocity = (1 + friction * size) ** -1 * (velocity + size * scale * slope)
            points = points + size * scale * velocity

    move = langevin if friction is None else inertial
    sizes, noisy, places = _plan(first, options)
    kept: list[Tensor] = []
    for step, (size, with_noise) in enumerate(zip(sizes, noisy, strict=True)):
        move(size, with_noise)
        for _ in range(places.count(step)):
            if not bool(points.isfinite().all()):
                raise FitError(
                    f"a chain has left the numbers within {step + 1} steps of size up to {first:.3g}: the steps are "
                    f"too large; give a smaller step_size than {first:.3g}"
                )
            kept.append(points.cpu().clone())
        if chains.problem.on_epoch is not None and (step + 1) % max(1, len(sizes) // 100) == 0:
            chains.problem.on_epoch(step + 1, len(sizes))
    return torch.stack(kept, 1)
