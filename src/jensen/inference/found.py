"""What a method of inference hands over: a density, or particles, and how it came to it."""

from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from jensen.diagnostics import kish_size, psis
from jensen.errors import FitError
from jensen.inference.adaptive import finite
from jensen.inference.start import Mode
from jensen.inference.target import Target


@dataclass(frozen=True)
class Found:
    """The outcome of a method, before it is judged.

    Attributes:
        posterior: A distribution over unconstrained coordinates, or None.
        particles: Draws (n, dim) of a method that has no density.
        history: Of the bound that was climbed, nats.
        notes: What the user should know, in words.
        modes: That were found on the way, the heaviest first.
        left_out: Share of the mass, about, of modes that were found and that q isn't at.
    """

    posterior: Distribution | None
    particles: Float[Tensor, "n dim"] | None = None
    history: tuple[float, ...] = ()
    notes: tuple[str, ...] = ()
    modes: tuple[Mode, ...] = field(default=(), repr=False)
    left_out: float = 0.0


@dataclass(frozen=True)
class Weighed:
    """Draws of a density and their importance weights.

    Attributes:
        points: Unconstrained, (n, dim).
        log_weights: log p - log q, nats, (n,).
        smoothed: Normalised, their tail smoothed, nats, (n,).
        pareto_k: Shape of their tail.
        share: Effective draws, as a share of all.
        undefined: Share of the draws at which the target's log-density isn't a number.
    """

    points: Float[Tensor, "n dim"]
    log_weights: Float[Tensor, " n"]
    smoothed: Float[Tensor, " n"]
    pareto_k: float
    share: float
    undefined: float = 0.0


def weigh(target: Target, posterior: Distribution, n: int) -> Weighed:
    """Draws from a density and weighs the draws; from torch's generator.

    Args:
        target: What the weights lead to.
        posterior: Over unconstrained coordinates.
        n: Draws.

    Returns:
        Draws and weights.

    Raises:
        FitError: If the target's density is zero, or not a number, at all draws.
    """
    with torch.no_grad():
        points = posterior.sample(torch.Size([n]))
        values = target.plain_log_prob(points)
        log_weights = finite(values - posterior.log_prob(points))
    if bool(log_weights.isneginf().all()):
        raise FitError(
            "the log-joint isn't finite at any draw of the fitted posterior; look for a wrong support"
        )
    smoothed, k = psis(log_weights)
    undefined = float(torch.isnan(values).double().mean())
    return Weighed(points, log_weights, smoothed, float(k), float(kish_size(smoothed)) / n, undefined)
