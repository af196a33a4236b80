"""Problems with exact answers, and point clouds for pictures."""

from dataclasses import dataclass
from math import pi

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributions import MultivariateNormal

from jensen.errors import ConfigError
from jensen.seeding import seeded


@dataclass(frozen=True)
class LinearGaussian:
    r"""Data from :math:`z \sim N(0, I)`, :math:`x \mid z \sim N(Wz + \mu, \sigma^2 I)`, with exact answers.

    Attributes:
        weight: The matrix W, (D, M) float64.
        mean: The mean of x, (D,) float64.
        noise_scale: The standard deviation sigma of the noise, in the units of x.
        x: Draws from the model, (n, D) float64.

    References:
        Probabilistic Principal Component Analysis (1999), Tipping and Bishop,
        https://doi.org/10.1111/1467-9868.00196
    """

    weight: Tensor
    mean: Tensor
    noise_scale: float
    x: Tensor

    def log_prob(self, x: Tensor) -> Tensor:
        r"""The exact evidence, :math:`\log N(x; \mu, WW^T + \sigma^2 I)`.

        Args:
            x: Data, (n, D).

        Returns:
            log p(x) of each datum, (n,), nats.
        """
        noise = self.noise_scale**2 * torch.eye(len(self.mean), dtype=self.weight.dtype)
        marginal = MultivariateNormal(self.mean, covariance_matrix=self.weight @ self.weight.mT + noise)
        return marginal.log_prob(x)

    def posterior(self, x: Tensor) -> MultivariateNormal:
        r"""The exact posterior of the latents of each datum.

        It is :math:`N(M^{-1} W^T (x - \mu), \sigma^2 M^{-1})` with :math:`M = W^T W + \sigma^2 I`.

        Args:
            x: Data, (n, D).

        Returns:
            p(z | x): batch shape (n,), event shape (M,).
        """
        variance = self.noise_scale**2
        precision = self.weight.mT @ self.weight / variance
        precision = precision + torch.eye(self.weight.shape[1], dtype=self.weight.dtype)
        mean = torch.linalg.solve(precision, ((x - self.mean) @ self.weight / variance).mT).mT
        return MultivariateNormal(mean, precision_matrix=precision.expand(len(x), -1, -1))


def linear_gaussian(
    n: int = 500, data_dim: int = 5, latent_dim: int = 2, noise_scale: float = 0.5, seed: int = 0
) -> LinearGaussian:
    """Draws a linear-Gaussian model and data from it; log p(x) and p(z | x) are known exactly.

    Args:
        n: Number of data.
        data_dim: Number of columns D of the data.
        latent_dim: Number of latents M.
        noise_scale: The standard deviation of the noise, above 0.
        seed: The seed.

    Returns:
        The model and its data.

    Raises:
        ConfigError: If a number is not above 0.

    Example:
        >>> problem = linear_gaussian(n=10, data_dim=3, latent_dim=1)
        >>> problem.log_prob(problem.x).shape, problem.posterior(problem.x).event_shape
        (torch.Size([10]), torch.Size([1]))
    """
    if min(n, data_dim, latent_dim, noise_scale) <= 0:
        raise ConfigError(
            f"got n={n}, data_dim={data_dim}, latent_dim={latent_dim}, noise_scale={noise_scale}. "
            "Give numbers above 0."
        )
    with seeded(seed):
        weight = torch.randn(data_dim, latent_dim, dtype=torch.float64)
        mean = torch.randn(data_dim, dtype=torch.float64)
        latents = torch.randn(n, latent_dim, dtype=torch.float64)
        noise = torch.randn(n, data_dim, dtype=torch.float64)
    return LinearGaussian(weight, mean, noise_scale, latents @ weight.mT + mean + noise_scale * noise)


def two_moons(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Points on two half circles that reach into each other, with noise of standard deviation 0.1.

    Args:
        n: Number of points.
        seed: The seed.

    Returns:
        The points, (n, 2).

    Example:
        >>> two_moons(4).shape
        (4, 2)
    """
    rng = np.random.default_rng(seed)
    angle, lower = rng.uniform(0, pi, n), rng.integers(0, 2, n)
    sign = 1 - 2 * lower
    points = np.stack([lower + sign * np.cos(angle), 0.5 * lower + sign * np.sin(angle)], axis=1)
    return points + 0.1 * rng.standard_normal((n, 2))


def pinwheel(n: int, seed: int = 0, arms: int = 5) -> NDArray[np.float64]:
    """Points on the bent arms of a pinwheel.

    Args:
        n: Number of points.
        seed: The seed.
        arms: Number of arms.

    Returns:
        The points, (n, 2).

    Example:
        >>> pinwheel(4).shape
        (4, 2)
    """
    rng = np.random.default_rng(seed)
    radius = 1 + 0.3 * rng.standard_normal(n)
    across = 0.1 * rng.standard_normal(n)
    # Arms bend because the angle grows with the distance from the centre.
    angle = 2 * pi * rng.integers(0, arms, n) / arms + 0.25 * np.exp(radius)
    cos, sin = np.cos(angle), np.sin(angle)
    return 2 * np.stack([radius * cos - across * sin, radius * sin + across * cos], axis=1)


def checkerboard(n: int, seed: int = 0) -> NDArray[np.float64]:
    """Points spread evenly over the black fields of a 4x4 checkerboard on [-4, 4] x [-4, 4].

    The density is 1/32 on black fields, where ``floor(x / 2) + floor(y / 2)`` is even, and 0 on white ones.

    Args:
        n: Number of points.
        seed: The seed.

    Returns:
        The points, (n, 2).

    Example:
        >>> checkerboard(4).shape
        (4, 2)
    """
    rng = np.random.default_rng(seed)
    column, half = rng.integers(-2, 2, n), rng.integers(-1, 1, n)
    row = 2 * half + column % 2
    return 2 * (np.stack([column, row], axis=1) + rng.uniform(0, 1, (n, 2)))
