"""What a family of posteriors over a log-joint's parameters can do."""

from abc import abstractmethod
from math import log, pi
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from jensen.distributions import Conditional

LOG_TWO_PI = log(2 * pi)


class Draws(NamedTuple):
    """Points of a posterior, as a function of noise and of its parameters.

    Attributes:
        points: (n, dim), with a path to the parameters.
        log_prob: Their log-densities, nats, (n,).
        weights: They sum to one, (n,); expectations are weighted sums. Those of a mixture depend on its parameters.
    """

    points: Tensor
    log_prob: Tensor
    weights: Tensor


class Family(Conditional):
    """Posteriors over unconstrained coordinates (dim,), all in float64; the context is None.

    Attributes:
        noise_dim: Standard normals that one draw is made of.
        step_size: What stochastic ascent begins with; parameters are in posterior standard deviations or in logs.
    """

    noise_dim: int
    step_size: float = 0.1

    @abstractmethod
    def forward(self, context: Tensor | None = None) -> Distribution:
        """The posterior that the parameters give now."""

    @abstractmethod
    def draw(self, noise: Float[Tensor, "n noise"]) -> Draws:
        """Points made of given standard normals, with their densities.

        Args:
            noise: (n, noise_dim).
        """

    def log_prob(self, points: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """Log-density of points, nats, (n,)."""
        return self(None).log_prob(points)

    def sample(self, n: int) -> Float[Tensor, "n dim"]:
        """Draws without a path to the parameters, from torch's generator."""
        with torch.no_grad():
            return self(None).sample(torch.Size([n]))


def equal_weights(points: Tensor) -> Tensor:
    """1/n for each of n points."""
    return points.new_full((len(points),), 1 / len(points))


def log_normal(noise: Float[Tensor, "n noise"]) -> Float[Tensor, " n"]:
    """Log-density of standard normals, nats, (n,)."""
    return -0.5 * (noise.square().sum(-1) + LOG_TWO_PI * noise.shape[-1])
