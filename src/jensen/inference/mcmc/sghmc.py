"""Stochastic gradient Hamiltonian Monte Carlo: Langevin steps with inertia, never rejected."""

from collections.abc import Mapping
from math import exp
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.inference.mcmc.draws import Draws
from jensen.inference.mcmc.options import check_counts
from jensen.inference.mcmc.sgld import run, step_sizes
from jensen.inference.mcmc.stochastic import EXCESS, Surroundings, curved, prepare, too_wide, warm_up
from jensen.inference.mcmc.watching import OnDraws, Watch
from jensen.inference.target import Target
from jensen.seeding import seeded


def inertial_step(
    position: Float[Tensor, "*batch"],
    velocity: Float[Tensor, "*batch"],
    gradient: Float[Tensor, "*batch"],
    step_size: float,
    friction: float,
    scale: float | Tensor = 1.0,
) -> tuple[Float[Tensor, "*batch"], Float[Tensor, "*batch"]]:
    r"""One step, of any tensors.

    .. math::
        v' = c v + \tfrac{1 + c}{2} \epsilon s g + \sqrt{1 - c^2} \xi, \quad x' = x + \epsilon s v', \quad
        c = e^{-C \epsilon}, \quad \xi \sim N(0, 1)

    Half of the gradient's push comes before the friction and half after it. So for a normal distribution of precision
    lambda and a gradient without noise the stationary variance is
    :math:`1 / (\lambda (1 - \epsilon^2 s^2 \lambda / 4))`, whatever the friction.

    Args:
        position: x.
        velocity: v, whose stationary distribution is nearly standard normal.
        gradient: g, of the log-density at x, or an unbiased estimate of it.
        step_size: epsilon, a time.
        friction: C, one over the time after which a velocity is forgotten.
        scale: s, the square root of a preconditioner that doesn't depend on the position; broadcasts.

    Returns:
        x' and v', drawn by torch's generator.

    Example:
        >>> x, v = inertial_step(torch.zeros(2), torch.ones(2), torch.zeros(2), 0.5, 0.0)
        >>> x.tolist(), v.tolist()
        ([0.5, 0.5], [1.0, 1.0])

    Source: Stochastic gradient Hamiltonian Monte Carlo, 2014, https://arxiv.org/abs/1402.4102.
    """
    kept = exp(-friction * step_size)
    noise = (1 - kept**2) ** 0.5 * torch.randn_like(velocity)
    velocity = kept * velocity + 0.5 * (1 + kept) * step_size * scale * gradient + noise
    return position + step_size * scale * velocity, velocity


def sghmc(
    target: Target,
    draws: int = 1000,
    chains: int = 16,
    *,
    step_size: float | None = None,
    friction: float = 1.0,
    batch_size: int | None = None,
    preconditioner: str = "curvature",
    warmup: int = 1000,
    thin: int = 10,
    init: Mapping[str, Any] | Tensor | None = None,
    seed: int | None = 0,
    on_draws: OnDraws | None = None,
    progress: bool | None = None,
) -> Draws:
    """Draws from near a log-joint's posterior by steps with inertia on gradients of minibatches.

    As ``sgld``, but velocities last for a time 1 / friction, so that chains go farther in as many steps.

    Args:
        target: The log-joint; for minibatches with ``log_likelihood`` and ``data``.
        draws: Kept draws of each chain.
        chains: How many, in one batch.
        step_size: A time, in the coordinates of the preconditioner; None chooses it so that the variance is too large
            by about 5 % in the worst direction.
        friction: One over the time after which a velocity is forgotten; also takes up the gradients' noise.
        batch_size: Rows of each gradient; None uses all.
        preconditioner: As in ``sgld``.
        warmup: Steps before, which aren't kept.
        thin: Steps for each kept draw.
        init: As in ``nuts``.
        seed: Of all draws; None goes on with torch's generator.
        on_draws: Called now and then with the number of draws made and wanted.
        progress: Whether to show a bar; None: on a terminal, after a second.

    Returns:
        The draws with their diagnosis.

    Raises:
        ConfigError: If an option has a value that it can't take, or the target has no data for minibatches.
        DataError: If the log-joint isn't finite where a chain has to begin.
        FitError: If a chain leaves the numbers, because steps are too large.

    Source: Stochastic gradient Hamiltonian Monte Carlo, 2014, https://arxiv.org/abs/1402.4102.
    """
    check_counts(draws, chains, warmup, thin)
    for name, value in {"friction": friction, "step_size": step_size}.items():
        if value is not None and not value > 0:
            raise ConfigError(f"{name} is {value}; it has to be above 0")

    def move(around: Surroundings, state: Tensor, size: float) -> Tensor:
        x, v = state.chunk(2, 1)
        return torch.cat(inertial_step(x, v, around.gradient(x), size, friction, around.scale), 1)

    def choose(around: Surroundings) -> float:
        if step_size is not None:
            return step_size
        fine = (4 * EXCESS / curved(around)) ** 0.5
        return min(fine, 2 * friction * EXCESS / max(around.noise, 1e-300))

    with seeded(seed), Watch("sghmc", draws * chains, on_draws, progress) as watch:
        noisy = batch_size is not None
        around = prepare(target, chains, batch_size, preconditioner, init)
        state = torch.cat([around.points, torch.randn_like(around.points)], 1)
        around, state, size = warm_up(around, move, state, choose, warmup, preconditioner, noisy, watch)
        kept = run(around, move, state, step_sizes(size, draws * thin, "constant", 1.0), draws, watch)
    coarse = 0.25 * size**2 * around.stiffness
    note = too_wide("SGHMC", size, coarse / max(1 - coarse, 1e-300), 0.5 * size * around.noise / friction)
    settings = {"step_size": size, "friction": friction, "batch_size": batch_size, "thin": thin}
    return Draws(target, around.outward(kept), "sghmc", {}, settings, (note,))
