"""Stochastic gradient Langevin dynamics: a step up a noisy gradient plus normal noise, never rejected."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, FitError
from jensen.inference.mcmc.draws import Draws
from jensen.inference.mcmc.options import check_counts
from jensen.inference.mcmc.stochastic import EXCESS, Surroundings, curved, prepare, too_wide, warm_up
from jensen.inference.mcmc.watching import OnDraws, Watch
from jensen.inference.target import Target
from jensen.seeding import seeded


def langevin_step(
    position: Float[Tensor, "*batch"],
    gradient: Float[Tensor, "*batch"],
    step_size: float | Tensor,
    scale: float | Tensor = 1.0,
) -> Float[Tensor, "*batch"]:
    r"""One step, of any tensor.

    .. math::
        x' = x + \frac\epsilon2 s^2 g + \sqrt\epsilon s \xi, \quad \xi \sim N(0, 1)

    For a normal distribution of precision lambda and a gradient without noise the stationary variance is
    :math:`1 / (\lambda (1 - \epsilon s^2 \lambda / 4))`.

    Args:
        position: x.
        gradient: g, of the log-density, or an unbiased estimate of it.
        step_size: epsilon.
        scale: s, the square root of a preconditioner that doesn't depend on the position; broadcasts.

    Returns:
        x', drawn by torch's generator.

    Example:
        >>> langevin_step(torch.zeros(3), torch.ones(3), 0.0)
        tensor([0., 0., 0.])

    Source: Bayesian learning via stochastic gradient Langevin dynamics, 2011,
    https://www.stats.ox.ac.uk/~teh/research/compstats/WelTeh2011a.pdf.
    """
    step = torch.as_tensor(step_size, dtype=position.dtype)
    return position + 0.5 * step * scale**2 * gradient + step.sqrt() * scale * torch.randn_like(position)


def step_sizes(first: float, steps: int, schedule: str, decay: float) -> Float[Tensor, " steps"]:
    r"""Of all steps: constant, or :math:`\epsilon_t = \epsilon_0 (1 + 10 t / T)^{-\gamma}`.

    Args:
        first: epsilon_0.
        steps: T.
        schedule: Which one.
        decay: gamma, above 1/2 and at most 1 for draws that become exact.

    Returns:
        Float64 (steps,).
    """
    t = torch.arange(steps, dtype=torch.float64)
    return (
        torch.full_like(t, first)
        if schedule == "constant"
        else first * (1 + 10 * t / max(steps, 1)) ** -decay
    )


def kept_steps(sizes: Float[Tensor, " steps"], draws: int) -> list[int]:
    """After which steps a draw is kept: at equal distances in the time that the step sizes add up to.

    So draws count alike, also where later steps are smaller.

    Args:
        sizes: Of all steps.
        draws: How many are kept.

    Returns:
        Indices, ascending.

    Example:
        >>> kept_steps(torch.tensor([1.0, 1.0, 0.5, 0.5, 0.5, 0.5]), 4)
        [0, 1, 3, 5]
    """
    time = sizes.double().cumsum(0)
    wanted = time[-1] * torch.arange(1, draws + 1, dtype=torch.float64) / draws
    return torch.searchsorted(time, wanted - 1e-9 * time[-1]).clamp(max=len(sizes) - 1).tolist()


def sgld(
    target: Target,
    draws: int = 1000,
    chains: int = 16,
    *,
    step_size: float | None = None,
    schedule: str = "constant",
    decay: float = 0.55,
    batch_size: int | None = None,
    preconditioner: str = "curvature",
    warmup: int = 1000,
    thin: int = 10,
    init: Mapping[str, Any] | Tensor | None = None,
    seed: int | None = 0,
    on_draws: OnDraws | None = None,
    progress: bool | None = None,
) -> Draws:
    """Draws from near a log-joint's posterior by Langevin steps on gradients of minibatches.

    The draws are those of a distribution near the posterior, the nearer the smaller the steps: discretisation and the
    noise of gradients widen it. By how much is estimated at the start and said in the summary.

    Args:
        target: The log-joint; for minibatches with ``log_likelihood`` and ``data``.
        draws: Kept draws of each chain.
        chains: How many, in one batch.
        step_size: epsilon, in the coordinates of the preconditioner; None chooses it so that the variance is too large
            by about 5 % in the worst direction.
        schedule: "constant", or "decreasing", where draws are kept at equal distances in time.
        decay: With which power the step sizes decrease.
        batch_size: Rows of each gradient; None uses all.
        preconditioner: "curvature" at the mode that climbs find (of a part of the data where there are minibatches),
            "rms" of the gradients in the warm-up, or "none"; it is fixed when draws are kept.
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

    Example:
        >>> from jensen.inference import Target, real
        >>> target = Target(lambda p: -0.5 * (p["x"] - 3).square(), {"x": real()})
        >>> bool(abs(sgld(target, draws=500, chains=8)["x"].mean() - 3) < 0.2)
        True

    Source: Bayesian learning via stochastic gradient Langevin dynamics, 2011,
    https://www.stats.ox.ac.uk/~teh/research/compstats/WelTeh2011a.pdf; Preconditioned stochastic gradient Langevin
    dynamics for deep neural networks, 2016, https://arxiv.org/abs/1512.07666 (without its step that depends on the
    position).
    """
    check_counts(draws, chains, warmup, thin)
    if schedule not in ("constant", "decreasing"):
        raise ConfigError(f"unknown schedule '{schedule}'; there are: constant, decreasing")
    if not 0 < decay <= 1:
        raise ConfigError(f"decay is {decay}; it has to be above 0 and at most 1")
    if step_size is not None and not step_size > 0:
        raise ConfigError(f"step_size is {step_size}; it has to be above 0")

    def move(around: Surroundings, points: Tensor, size: float) -> Tensor:
        return langevin_step(points, around.gradient(points), size, around.scale)

    def choose(around: Surroundings) -> float:
        if step_size is not None:
            return step_size
        return 4 * EXCESS / max(curved(around), around.noise)

    with seeded(seed), Watch("sgld", draws * chains, on_draws, progress) as watch:
        noisy = batch_size is not None
        around = prepare(target, chains, batch_size, preconditioner, init)
        around, points, first = warm_up(
            around, move, around.points, choose, warmup, preconditioner, noisy, watch
        )
        sizes = step_sizes(first, draws * thin, schedule, decay)
        kept = run(around, move, points, sizes, draws, watch)
    mean = float(sizes.mean())
    coarse = 0.25 * mean * around.stiffness
    note = too_wide("SGLD", mean, coarse / max(1 - coarse, 1e-300), 0.25 * mean * around.noise)
    settings = {"step_size": first, "schedule": schedule, "batch_size": batch_size, "thin": thin}
    return Draws(target, around.outward(kept), "sgld", {}, settings, (note,))


def run(
    around: Surroundings,
    move: Callable[[Surroundings, Tensor, float], Tensor],
    state: Tensor,
    sizes: Tensor,
    draws: int,
    watch: Watch,
) -> Float[Tensor, "chains draws dim"]:
    """Takes all steps and keeps some draws, in the preconditioner's coordinates.

    Args:
        around: Gradient and coordinates.
        move: As in ``warm_up``.
        state: Of the chains, points first.
        sizes: Of all steps.
        draws: Kept ones of each chain.
        watch: Is told the progress.

    Raises:
        FitError: If a chain leaves the numbers.
    """
    chains, dim = len(state), len(around.scale)
    kept = torch.empty(chains, draws, dim, dtype=torch.float64)
    places = kept_steps(sizes, draws)
    at = 0
    for i, size in enumerate(sizes.tolist()):
        state = move(around, state, size)
        if places[at] > i:
            continue
        if not bool(state.isfinite().all()):
            raise FitError(
                f"a chain has left the numbers within {i + 1} steps of size {size:.3g}: the steps are too large, or "
                "nothing bounds a parameter; give a smaller step_size, or proper priors"
            )
        while at < draws and places[at] == i:
            kept[:, at] = state[:, :dim]
            at += 1
        watch.done(at * chains)
        if at == draws:
            break
    return kept
