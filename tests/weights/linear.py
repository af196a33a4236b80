"""Bayesian linear regression: what each method has to give is known in closed form."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import jensen as jn
from jensen.seeding import seeded

DTYPE = torch.float64


@dataclass(frozen=True)
class LinearRegression:
    """y ~ N(X w, s^2), w ~ N(0, t^2 I), without an intercept; all in float64.

    The posterior is N(m, L^-1) with L = X^T X / s^2 + I / t^2 and m = L^-1 X^T y / s^2. What methods have to give:
    MAP m; an ensemble m for every member; mean-field VI means m and variances 1 / L_ii; full and last-layer Laplace
    N(m, L^-1); diagonal Laplace means m and variances 1 / L_ii; SGLD draws of N(m, L^-1).

    Attributes:
        x: (n, d).
        y: (n,).
        noise_scale: s.
        prior_scale: t.
    """

    x: Tensor
    y: Tensor
    noise_scale: float = 0.5
    prior_scale: float = 1.5

    @property
    def precision(self) -> Tensor:
        """L, (d, d)."""
        d = self.x.shape[1]
        return self.x.T @ self.x / self.noise_scale**2 + torch.eye(d, dtype=DTYPE) / self.prior_scale**2

    @property
    def covariance(self) -> Tensor:
        """Of the weights, (d, d)."""
        return torch.linalg.inv(self.precision)

    @property
    def mean(self) -> Tensor:
        """Of the weights, (d,)."""
        return self.covariance @ self.x.T @ self.y / self.noise_scale**2

    @property
    def mean_field_variance(self) -> Tensor:
        """Of the normal with independent weights that is nearest by KL(q || p), (d,)."""
        return 1 / self.precision.diagonal()

    @property
    def log_evidence(self) -> Tensor:
        """log p(y | X), nats."""
        n = len(self.y)
        covariance = self.prior_scale**2 * self.x @ self.x.T + self.noise_scale**2 * torch.eye(n, dtype=DTYPE)
        zero = torch.zeros(n, dtype=DTYPE)
        return torch.distributions.MultivariateNormal(zero, covariance).log_prob(self.y)

    def mean_field_elbo(self) -> Tensor:
        """The largest ELBO of a normal with independent weights: log p(y | X) less its divergence, nats."""
        gap = 0.5 * (self.precision.diagonal().log().sum() - torch.logdet(self.precision))
        return self.log_evidence - gap

    def predictive(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of new targets, noise included, (n,) each."""
        return x @ self.mean, ((x @ self.covariance) * x).sum(1) + self.noise_scale**2

    def network(self) -> nn.Module:
        """The network whose weights w are, starting at zero."""
        layer = nn.Linear(self.x.shape[1], 1, bias=False, dtype=DTYPE)
        nn.init.zeros_(layer.weight)
        return layer

    def fit(self, method: str, **options: Any) -> jn.weights.Posterior:
        """A posterior by one of the methods."""
        return jn.weights.fit(
            self.network(),
            self.x,
            self.y,
            method=method,
            likelihood="normal",
            noise_scale=self.noise_scale,
            prior_scale=self.prior_scale,
            **options,
        )


def regression(n: int = 30, d: int = 3, seed: int = 0) -> LinearRegression:
    """Correlated columns, so that mean-field variances differ much from the marginal ones."""
    with seeded(seed):
        mix = torch.randn(d, d, dtype=DTYPE) * 0.5 + torch.ones(d, d, dtype=DTYPE) * 0.4
        x = torch.randn(n, d, dtype=DTYPE) @ mix
        y = x @ torch.randn(d, dtype=DTYPE) + 0.5 * torch.randn(n, dtype=DTYPE)
    return LinearRegression(x, y)
