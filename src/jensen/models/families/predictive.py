"""Predictive densities of components: what is left of q(theta) once it is integrated out."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log, pi
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution, Gamma

from jensen.models.rows import patterns

CELLS = 2**20
"""Entries of intermediate results at once."""


@runtime_checkable
class Predictive(Protocol):
    """Densities of K components over the same D cells."""

    @property
    def mean(self) -> Float[Tensor, "k d"]:
        """(K, D)."""
        ...

    @property
    def covariance(self) -> Float[Tensor, "k d d"] | None:
        """(K, D, D); None where there is none."""
        ...

    def log_prob(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "n k"]:
        """Log density of the observed cells under each component in nats, (n, K)."""
        ...

    def conditional_mean(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"]
    ) -> Float[Tensor, "n k d"]:
        """E[x | observed cells] under each component, (n, K, D); observed cells may hold anything."""
        ...

    def sample(self, labels: Tensor) -> Float[Tensor, "n d"]:
        """One datum of each given component, (n, D)."""
        ...


@dataclass(frozen=True)
class CellwisePredictive:
    """Components whose cells are independent.

    Attributes:
        cells: Distribution of batch shape (K, D).
        shift: Added to its values, (D,); zero for discrete cells.
    """

    cells: Distribution
    shift: Float[Tensor, " d"]

    @property
    def mean(self) -> Float[Tensor, "k d"]:
        """(K, D)."""
        return self.cells.mean + self.shift

    @property
    def covariance(self) -> Float[Tensor, "k d d"]:
        """(K, D, D)."""
        return torch.diag_embed(self.cells.variance)

    def log_prob(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "n k"]:
        """Log density of the observed cells, (n, K)."""
        step = max(1, CELLS // self.cells.batch_shape.numel())
        parts: list[Tensor] = []
        for start in range(0, len(x), step):
            some = x[start : start + step]
            value = self.cells.log_prob((some - self.shift)[:, None, :])
            if observed is not None:
                value = torch.where(observed[start : start + step, None, :], value, 0.0)
            parts.append(value.sum(-1))
        return torch.cat(parts) if parts else x.new_zeros(0, self.cells.batch_shape[0])

    def conditional_mean(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"]
    ) -> Float[Tensor, "n k d"]:
        """The components' means, which observed cells don't move, (n, K, D)."""
        return self.mean.expand(len(x), -1, -1)

    def sample(self, labels: Tensor) -> Float[Tensor, "n d"]:
        """One datum of each given component, (n, D)."""
        drawn = self.cells.sample(torch.Size((len(labels),)))
        return drawn[torch.arange(len(labels)), labels] + self.shift


@dataclass(frozen=True)
class EllipticalPredictive:
    """Normal components, or Student's t where there are degrees of freedom.

    Attributes:
        location: (K, D).
        scale: Scale matrices, (K, D, D).
        freedom: Degrees of freedom, (K,); None: normal.
    """

    location: Float[Tensor, "k d"]
    scale: Float[Tensor, "k d d"]
    freedom: Float[Tensor, " k"] | None = None

    @property
    def mean(self) -> Float[Tensor, "k d"]:
        """(K, D)."""
        return self.location

    @property
    def covariance(self) -> Float[Tensor, "k d d"]:
        """(K, D, D); infinite with two degrees of freedom or fewer."""
        if self.freedom is None:
            return self.scale
        factor = torch.where(self.freedom > 2, self.freedom / (self.freedom - 2), torch.inf)
        return factor[:, None, None] * self.scale

    def log_prob(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "n k"]:
        """Log density of the observed cells, (n, K); the margins of an elliptical density are of its kind."""
        if observed is None:
            return self._whole(x)
        parts = [value for value, _ in self._parts(x, observed)]
        return torch.cat(parts) if parts else x.new_zeros(0, len(self.location))

    def conditional_mean(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"]
    ) -> Float[Tensor, "n k d"]:
        """Linear in the observed cells, (n, K, D)."""
        parts = [mean for _, mean in self._parts(x, observed)]
        return torch.cat(parts) if parts else x.new_zeros(0, *self.location.shape)

    def sample(self, labels: Tensor) -> Float[Tensor, "n d"]:
        """One datum of each given component, (n, D)."""
        noise = torch.randn(len(labels), self.location.shape[1], 1, dtype=self.location.dtype)
        drawn = (torch.linalg.cholesky(self.scale)[labels] @ noise)[..., 0]
        if self.freedom is not None:
            half = self.freedom[labels] / 2
            drawn = drawn / (Gamma(half, torch.ones_like(half)).sample() / half).sqrt()[:, None]
        return self.location[labels] + drawn

    def _whole(self, x: Tensor) -> Tensor:
        """Log densities (n, K) of data without gaps."""
        k, d = self.location.shape
        cholesky = torch.linalg.cholesky(self.scale)
        logs = cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        # All components' differences in one product: L^-1 x less L^-1 mu.
        inverse = torch.linalg.solve_triangular(
            cholesky, torch.eye(d, dtype=x.dtype).expand(k, d, d), upper=False
        )
        centre = self.location.mean(0)
        shift = (inverse @ (self.location - centre)[..., None])[..., 0]
        flat = inverse.reshape(k * d, d)
        count = torch.full((1, 1), d, dtype=x.dtype)
        result = x.new_empty(len(x), k)
        step = max(1, CELLS // (k * d))
        for start in range(0, len(x), step):
            some = x[start : start + step] - centre
            solved = (some @ flat.T).reshape(len(some), k, d).sub_(shift)
            result[start : start + step] = self._log_prob(solved.square_().sum(-1), logs, count)
        return result

    def _parts(self, x: Tensor, observed: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Log densities (c, K) and conditional means (c, K, D) of chunks of data."""
        k, d = self.location.shape
        step = max(1, CELLS // (k * d * d))
        for start in range(0, len(x), step):
            rows = slice(start, start + step)
            difference = x[rows, None, :] - self.location
            found, which = patterns(observed[rows])
            mask = found.to(x.dtype)[:, None, :]
            # Cells that weren't observed become independent ones of variance one, at their mean.
            inner = self.scale * mask[..., :, None] * mask[..., None, :] + torch.diag_embed(1 - mask)
            cholesky = torch.linalg.cholesky(inner)
            difference = torch.where(observed[rows, None, :], difference, 0.0)
            own = cholesky[which]
            solved = torch.linalg.solve_triangular(own, difference[..., None], upper=False)
            logs = cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)[which]
            value = self._log_prob(solved.square().sum((-2, -1)), logs, mask.sum(-1)[which])
            back = torch.linalg.solve_triangular(own.mT, solved, upper=True)
            yield value, self.location + (self.scale @ back)[..., 0]

    def _log_prob(self, quadratic: Tensor, logs: Tensor, count: Tensor) -> Tensor:
        if self.freedom is None:
            return -0.5 * (quadratic + count * log(2 * pi)) - logs
        nu = self.freedom
        constant = torch.lgamma((nu + count) / 2) - torch.lgamma(nu / 2) - 0.5 * count * (nu * pi).log()
        return constant - logs - 0.5 * (nu + count) * torch.log1p(quadratic / nu)
