"""Mixtures of Student-t distributions: heavy tails, several modes, any shape with enough components."""

from math import lgamma, log, pi
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.distributions import VectorDistribution


class StudentMixture(VectorDistribution):
    r"""The density :math:`\sum_k \pi_k\, t_\nu(u; m_k, L_k L_k^T)` over vectors.

    Args:
        weights: They sum to one, (k,).
        locs: (k, dim).
        scale_trils: Lower triangles, (k, dim, dim).
        dof: Degrees of freedom, nu.

    Example:
        >>> t = StudentMixture(torch.ones(1), torch.zeros(1, 1), torch.ones(1, 1, 1), 3.0)
        >>> expected = torch.distributions.StudentT(3.0).log_prob(torch.tensor(0.5))
        >>> bool(torch.isclose(t.log_prob(torch.tensor([0.5])), expected))
        True
    """

    def __init__(
        self,
        weights: Float[Tensor, " k"],
        locs: Float[Tensor, "k dim"],
        scale_trils: Float[Tensor, "k dim dim"],
        dof: float,
    ) -> None:
        self.weights, self.locs, self.scale_trils, self.dof = weights, locs, scale_trils, dof
        super().__init__(event_shape=locs.shape[1:], validate_args=False)

    @property
    def mean(self) -> Float[Tensor, " dim"]:
        """Average of the components' locations."""
        return self.weights @ self.locs

    def distances(self, value: Float[Tensor, "n dim"]) -> Float[Tensor, "k n"]:
        """Squared Mahalanobis distances from each component's location."""
        # One component after the other: the arrays of one fit the processor's cache, those of all don't.
        parts = [
            torch.linalg.solve_triangular(scale_tril, (value - loc).T, upper=False).square().sum(0)
            for loc, scale_tril in zip(self.locs, self.scale_trils, strict=True)
        ]
        return torch.stack(parts)

    def component_log_probs(self, distances: Float[Tensor, "k n"]) -> Float[Tensor, "k n"]:
        """Weighted log-densities of the components, nats, from the squared distances."""
        dim, dof = self.locs.shape[1], self.dof
        constant = lgamma((dof + dim) / 2) - lgamma(dof / 2) - dim / 2 * log(dof * pi)
        volumes = self.scale_trils.diagonal(dim1=1, dim2=2).log().sum(1)
        heights = self.weights.log() + constant - volumes
        return heights[:, None] - (dof + dim) / 2 * torch.log1p(distances / dof)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of points (*n, dim)."""
        flat = value.reshape(-1, value.shape[-1])
        return self.component_log_probs(self.distances(flat)).logsumexp(0).reshape(value.shape[:-1])

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample, dim); of each component as many as its weight says, which is still exact for each draw."""
        shape = torch.Size(sample_shape)
        n, dim = shape.numel(), self.locs.shape[1]
        # Systematic numbers of draws, in random order: the mixture's proportions hardly vary.
        places = (torch.arange(n, dtype=torch.float64) + torch.rand((), dtype=torch.float64)) / max(n, 1)
        chosen = torch.searchsorted(self.weights.cumsum(0), places).clamp(max=len(self.weights) - 1)
        chosen = chosen[torch.randperm(n)]
        noise = torch.randn(n, dim, dtype=self.locs.dtype)
        gamma = torch.distributions.Chi2(torch.tensor(self.dof, dtype=self.locs.dtype), validate_args=False)
        noise = noise / (gamma.sample((n, 1)) / self.dof).sqrt()
        draws = self.locs.new_empty(n, dim)
        for component in range(len(self.weights)):
            rows = chosen == component
            draws[rows] = self.locs[component] + noise[rows] @ self.scale_trils[component].T
        return draws.reshape(*shape, dim)
