"""Random-walk Metropolis with a proposal that is learnt in the warm-up, all chains in one batch."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, ShapeError
from jensen.inference.mcmc.draws import Draws
from jensen.inference.mcmc.options import check_counts, check_real
from jensen.inference.mcmc.starting import check_finite, given_points
from jensen.inference.mcmc.watching import OnDraws, Watch
from jensen.inference.target import Target
from jensen.seeding import seeded


@dataclass(frozen=True)
class Proposal:
    """A normal step: ``scale * factor @ noise``.

    Attributes:
        factor: Lower triangular (dim, dim).
        scale: What it is multiplied by.
    """

    factor: Tensor
    scale: float

    def step(self, chains: int) -> Tensor:
        """Of each chain, (chains, dim)."""
        return self.scale * torch.randn(chains, len(self.factor), dtype=self.factor.dtype) @ self.factor.T


def best_acceptance(dim: int) -> float:
    """The acceptance at which a random walk in so many dimensions forgets fastest: .44 in one, towards .234 in many."""
    return 0.234 + 0.206 / dim


def step(
    target: Target, points: Float[Tensor, "chains dim"], value: Float[Tensor, " chains"], move: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Proposes points + move and accepts by the ratio of densities.

    Args:
        target: Of the chains.
        points: Where they are.
        value: Log-densities there.
        move: (chains, dim), drawn from a distribution that is symmetric about zero.

    Returns:
        Points, log-densities, probabilities of acceptance and whether each was accepted.
    """
    proposed = points + move
    new = target.plain_log_prob(proposed).nan_to_num(nan=-torch.inf, posinf=-torch.inf)
    probability = (new - value).clamp(max=0).exp()
    accepted = torch.rand_like(probability) < probability
    return (
        torch.where(accepted[:, None], proposed, points),
        torch.where(accepted, new, value),
        probability,
        accepted,
    )


def starting(
    target: Target, chains: int, init: Mapping[str, Any] | Tensor | None
) -> Float[Tensor, "chains dim"]:
    """Where chains begin that need no gradient: at scattered points or where the user says.

    Raises:
        DataError: If the log-joint isn't finite there.
    """
    if init is None:
        return target.starting_points(chains, int(torch.randint(2**31, ())))
    points = given_points(target, init, chains)
    check_finite(target, points)
    return torch.from_numpy(points)


def metropolis(
    target: Target,
    draws: int = 1000,
    chains: int = 16,
    *,
    warmup: int = 1000,
    thin: int = 1,
    covariance: Tensor | None = None,
    init: Mapping[str, Any] | Tensor | None = None,
    seed: int | None = 0,
    on_draws: OnDraws | None = None,
    progress: bool | None = None,
) -> Draws:
    r"""Draws from a log-joint's posterior by a random walk that needs no gradient.

    A step :math:`u' = u + s L \epsilon` is accepted with probability min(1, p(u')/p(u)). In the warm-up the covariance
    L L^T is that of all chains' draws so far and the scale s is moved until a quarter of the steps is accepted; then
    both are kept, so that the kept draws' chain is exact.

    Args:
        target: The log-joint; it needn't be differentiable.
        draws: Kept draws of each chain.
        chains: How many, in one batch.
        warmup: Steps of each chain before, in which the proposal is learnt.
        thin: Steps from one kept draw to the next.
        covariance: Of the proposal, (dim, dim), up to its scale; None learns it.
        init: As in ``nuts``.
        seed: Of all draws; None goes on with torch's generator.
        on_draws: Called now and then with the number of draws made and wanted.
        progress: Whether to show a bar; None: on a terminal, after a second.

    Returns:
        The draws with their diagnosis.

    Raises:
        ConfigError: If an option has a value that it can't take, or the target keeps discrete parameters.
        DataError: If the log-joint isn't finite where a chain has to begin.
        ShapeError: If init or covariance has another shape.

    Example:
        >>> from jensen.inference import Target, real
        >>> target = Target(lambda p: -p["x"].abs(), {"x": real()})
        >>> bool(abs(metropolis(target, draws=500, chains=8)["x"].mean()) < 0.3)
        True

    Source: An adaptive Metropolis algorithm, 2001, https://doi.org/10.2307/3318737; Weak convergence and optimal
    scaling of random walk Metropolis algorithms, 1997, https://doi.org/10.1214/aoap/1034625254.
    """
    check_counts(draws, chains, warmup, thin)
    check_real(target, "a random walk")
    with seeded(seed), Watch("metropolis", draws * chains, on_draws, progress) as watch:
        points = starting(target, chains, init)
        value = target.plain_log_prob(points)
        points, value, proposal = _learn(target, points, value, warmup, covariance, watch)
        kept = torch.empty(chains, draws, target.dim, dtype=torch.float64)
        stats = {name: torch.empty(chains, draws, dtype=torch.float64) for name in ("log_prob", "acceptance")}
        for i in range(draws):
            share = torch.zeros(chains, dtype=torch.float64)
            for _ in range(thin):
                points, value, probability, _ = step(target, points, value, proposal.step(chains))
                share += probability / thin
            kept[:, i], stats["log_prob"][:, i], stats["acceptance"][:, i] = points, value, share
            watch.done((i + 1) * chains)
    return Draws(target, kept, "metropolis", stats, {"scale": proposal.scale, "thin": thin})


def _given(covariance: Tensor, dim: int) -> Tensor:
    if tuple(covariance.shape) != (dim, dim):
        raise ShapeError(
            f"covariance has shape {tuple(covariance.shape)}; for this target it is ({dim}, {dim})"
        )
    factor, failed = torch.linalg.cholesky_ex(covariance.double())
    if int(failed):
        raise ConfigError(
            "covariance isn't positive definite; give one that is, or leave it out to have it learnt"
        )
    return factor


def _learn(
    target: Target,
    points: Tensor,
    value: Tensor,
    warmup: int,
    covariance: Tensor | None,
    watch: Watch,
) -> tuple[Tensor, Tensor, Proposal]:
    """Where the chains are after the warm-up, and the proposal learnt."""
    chains, dim = points.shape
    factor = torch.eye(dim, dtype=torch.float64) if covariance is None else _given(covariance, dim)
    proposal = Proposal(factor, 2.38 / dim**0.5)
    seen: list[Tensor] = []
    since = 0
    for i in range(warmup):
        points, value, probability, _ = step(target, points, value, proposal.step(chains))
        since += 1
        # Steps of the logarithm that shrink, but slowly enough to get anywhere.
        moved = float(probability.mean() - best_acceptance(dim)) * since**-0.6
        proposal = Proposal(proposal.factor, proposal.scale * exp(moved))
        if covariance is None:
            seen.append(points)
            # The covariance is learnt anew from the second half of the steps so far, at ever longer intervals.
            if (i + 1) in _marks(warmup) and len(seen) * chains > 4 * dim:
                proposal, since = _from(torch.cat(seen[len(seen) // 2 :])) or proposal, 0
        watch.warming((i + 1) / warmup)
    return points, value, proposal


def _marks(warmup: int) -> tuple[int, ...]:
    return tuple(int(share * warmup) for share in (0.1, 0.2, 0.4, 0.7))


def _from(positions: Tensor) -> Proposal | None:
    """A proposal of the draws' covariance; None where they haven't spread in all directions."""
    centred = positions - positions.mean(0)
    n, dim = centred.shape
    covariance = centred.T @ centred / n
    covariance += 1e-6 * covariance.diagonal().diag()
    factor, failed = torch.linalg.cholesky_ex(covariance)
    return None if int(failed) else Proposal(factor, 2.38 / dim**0.5)
