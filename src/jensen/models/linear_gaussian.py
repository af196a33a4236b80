"""The linear-Gaussian model behind probabilistic PCA and factor analysis, with its exact answers."""

from collections.abc import Iterator
from math import prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Distribution, Independent, MultivariateNormal, Normal

from jensen.bounds import PATHWISE, Deferred, Draw, Samples, Terms
from jensen.distributions import detached, log_prob_observed
from jensen.errors import ShapeError
from jensen.linalg import LowRankPlusDiagonal
from jensen.models.latent_variable import _latents
from jensen.models.rows import patterns, split_missing

CHUNK = 2**20
"""Cells of data (and entries of inner matrices) at once."""


class LinearGaussian(nn.Module):
    r"""x = W z + mu + e with z ~ N(0, I) and e ~ N(0, diag(psi)), in float64.

    .. math::
        p(x) = N(\mu, W W^T + \Psi), \qquad
        p(z|x) = N(C^{-1} W^T \Psi^{-1} (x - \mu),\; C^{-1}), \quad C = I + W^T \Psi^{-1} W.

    With psi the same for all cells it is probabilistic PCA, where C^-1 = sigma^2 M^-1 with
    M = W^T W + sigma^2 I; with one psi for each cell it is factor analysis. Missing cells (NaN, or False in
    ``observed``) are integrated out exactly.

    Args:
        latent_dim: Number of latents M.
        event_shape: Shape of a datum, D cells together.
        shared_noise: Whether all cells have one noise variance.

    Source: Probabilistic principal component analysis, 1999, https://doi.org/10.1111/1467-9868.00196.

    Example:
        >>> model = LinearGaussian(1, (3,))
        >>> model.log_prob(torch.zeros(2, 3, dtype=torch.float64)).shape
        torch.Size([2])
    """

    def __init__(self, latent_dim: int, event_shape: tuple[int, ...], *, shared_noise: bool = True) -> None:
        super().__init__()
        cells = prod(event_shape)
        self.latent_dim = latent_dim
        self.event_shape = event_shape
        self.shared_noise = shared_noise
        noise = torch.ones(() if shared_noise else (cells,), dtype=torch.float64)
        self.factor = nn.Parameter(torch.zeros(cells, latent_dim, dtype=torch.float64), requires_grad=False)
        self.mean = nn.Parameter(torch.zeros(cells, dtype=torch.float64), requires_grad=False)
        self.noise_variance = nn.Parameter(noise, requires_grad=False)

    def set(
        self, factor: Float[Tensor, "d m"], mean: Float[Tensor, " d"], noise_variance: Float[Tensor, "*d"]
    ) -> None:
        """Takes new parameters, turned so that the columns of W are orthogonal, the longest first.

        The likelihood doesn't depend on the turn. Each column's largest entry is positive.
        """
        scale = noise_variance.expand(len(mean)).sqrt()
        u, s, _ = torch.linalg.svd(factor / scale[:, None], full_matrices=False)
        turned = u * s * scale[:, None]
        largest = turned.gather(0, turned.abs().argmax(0, keepdim=True))
        self.factor.data = torch.where(largest < 0, -turned, turned).contiguous()
        self.mean.data = mean.clone()
        self.noise_variance.data = noise_variance.clone()

    def covariance(self) -> Float[Tensor, "d d"]:
        """W W^T + diag(psi), (D, D)."""
        return LowRankPlusDiagonal(self.factor, self.noise_variance).dense()

    def log_prob(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, " n"]:
        """Log p(x) of the observed cells in nats, exact, (n,); 0 for a datum without any.

        Args:
            x: Data; NaN where a cell is missing.
            observed: True where a cell was observed.

        Raises:
            ShapeError: If data have another shape.
        """
        result = self.mean.new_zeros(len(x))
        for rows, value, _, _ in self._parts(x, observed):
            result[rows] = value
        return result

    def encode(
        self,
        x: Float[Tensor, "n *event"],
        context: Tensor | None = None,
        observed: Bool[Tensor, "n *event"] | None = None,
    ) -> Distribution:
        """The exact posterior p(z|x) given the observed cells, normal of batch shape (n,)."""
        means: list[Tensor] = []
        factors: list[Tensor] = []
        for _, _, mean, covariances in self._parts(x, observed):
            means.append(mean)
            factors.append(torch.linalg.cholesky(covariances).expand(len(mean), -1, -1))
        if not means:
            raise ShapeError("there are no data to encode; got an array of length 0")
        return MultivariateNormal(torch.cat(means), scale_tril=torch.cat(factors), validate_args=False)

    def posterior_mean(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, "n m"]:
        """E[z|x] given the observed cells, (n, M); zero for a datum without any."""
        result = self.mean.new_zeros(len(x), self.latent_dim)
        for rows, _, mean, _ in self._parts(x, observed):
            result[rows] = mean
        return result

    def decode(self, z: Float[Tensor, "*batch m"], context: Tensor | None = None) -> Distribution:
        """The likelihood p(x|z) = N(W z + mu, psi), cells independent, of the batch shape of z."""
        mean = (z @ self.factor.T + self.mean).reshape(*z.shape[:-1], *self.event_shape)
        scale = self.noise_variance.expand(len(self.mean)).sqrt().reshape(self.event_shape)
        return Independent(Normal(mean, scale, validate_args=False), len(self.event_shape))

    def prior(self, context: Tensor | None = None) -> Distribution:
        """The prior p(z) = N(0, I)."""
        zero = self.mean.new_zeros(self.latent_dim)
        return Independent(Normal(zero, zero + 1), 1)

    def terms(
        self,
        x: Float[Tensor, "n *event"],
        context: Tensor | None = None,
        observed: Bool[Tensor, "n *event"] | None = None,
        samples: Samples = 1,
        *,
        draw: Draw = PATHWISE,
        encoded: Distribution | None = None,
    ) -> Terms:
        """One pass with the exact posterior; log p(x, z) - log q(z|x) is log p(x) whatever was drawn.

        No closed-form KL is given, so that every bound made of these terms equals log p(x).
        """
        q = self.encode(x, context, observed) if encoded is None else encoded
        p = self.prior()
        z, log_weight = _latents(q, samples, draw, len(x))
        scored = q if draw.score else detached(q)
        flat, mask = split_missing(x.reshape(len(x), -1), _flat(observed))
        filled = flat.reshape(x.shape)
        present = None if mask is None else mask.reshape(x.shape)
        return Terms(
            log_likelihood=log_prob_observed(self.decode(z), filled, present),
            log_prior=Deferred({"z": lambda: p.log_prob(z)}),
            log_posterior=Deferred({"z": lambda: scored.log_prob(z)}),
            latents={"z": z},
            log_weight=log_weight,
        )

    def sample(self, n: int, context: Tensor | None = None) -> Float[Tensor, "n *event"]:
        """New data (n, *event)."""
        z = torch.randn(n, self.latent_dim, dtype=self.mean.dtype, device=self.mean.device)
        return self.decode(z).sample()

    def impute(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, "n *event"]:
        """Data whose missing cells hold their conditional mean E[x_missing | x_observed]."""
        flat, mask = split_missing(x.reshape(len(x), -1), _flat(observed))
        if mask is None:
            return x
        expected = self.posterior_mean(x, observed) @ self.factor.T + self.mean
        return torch.where(mask, flat, expected).reshape(x.shape)

    def _parts(self, x: Tensor, observed: Tensor | None) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """For chunks of rows: log p(x) (c,), posterior means (c, M) and covariances (c or 1, M, M).

        Small results that are kept between large ones that aren't would keep the heap from being used again, so each
        is copied to its place.
        """
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(f"data should have shape (n, *{self.event_shape}), got {tuple(x.shape)}")
        flat, mask = x.reshape(len(x), -1), _flat(observed)
        whole = LowRankPlusDiagonal(self.factor, self.noise_variance)
        step = max(1, CHUNK // max(flat.shape[1], self.latent_dim**2))
        for start in range(0, len(flat), step):
            rows = slice(start, start + step)
            some, present = split_missing(
                flat[rows].to(self.mean.dtype), None if mask is None else mask[rows]
            )
            if present is None:
                value, mean = whole.log_prob(some - self.mean)
                yield rows, value, mean, whole.inner_inverse
                continue
            found, which = patterns(present)
            covariance = LowRankPlusDiagonal(self.factor, self.noise_variance, found)
            centred = torch.where(present, some - self.mean, 0.0)
            value, mean = covariance.log_prob(centred, which)
            yield rows, value, mean, covariance.inner_inverse[which]


def _flat(observed: Tensor | None) -> Tensor | None:
    return None if observed is None else observed.reshape(len(observed), -1)
