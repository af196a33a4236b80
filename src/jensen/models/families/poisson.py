"""Components of independent counts."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Gamma, NegativeBinomial, Poisson, kl_divergence

from jensen.models.families.predictive import CellwisePredictive, Predictive
from jensen.models.rows import Columns

SMALLEST = 1e-10
"""Lowest rate where there is no prior, as a part of the column's mean."""


class PoissonCells(nn.Module):
    """Counts with rate ~ Gamma(a, a / mean of the column), or at their maximum likelihood.

    Args:
        dim: Cells of a datum.
        concentration: a; None: no prior.
    """

    needs_covariance = False
    bounded = True

    def __init__(self, dim: int, concentration: float | None = None) -> None:
        super().__init__()
        self.dim, self.concentration = dim, concentration
        self.feature_count = 3 * dim + 1
        self.mean = nn.Parameter(torch.ones(dim, dtype=torch.float64), requires_grad=False)

    def prepare(self, spread: Columns, covariance: Float[Tensor, "d d"] | None) -> None:
        """Takes the columns' means as the prior's."""
        self.mean.data = torch.where(spread.mean > 0, spread.mean, 1.0)

    def features(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "f n"]:
        """x, whether it was observed, log x!, and 1."""
        present = torch.ones_like(x) if observed is None else observed.to(x.dtype)
        return torch.cat([x.T, present.T, torch.lgamma(x + 1).T, x.new_ones(1, len(x))])

    def posterior(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, Tensor]:
        """Shape and rate of q(rate), (..., K, D)."""
        total, count = statistics[..., : self.dim], statistics[..., self.dim : 2 * self.dim]
        if self.concentration is None:
            return total, count
        return total + self.concentration, count + self.concentration / self.mean

    def rate(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch d"]:
        """Expected rate, (..., K, D)."""
        a, b = self.posterior(statistics)
        return torch.maximum(a / b.clamp(min=1e-12), SMALLEST * self.mean)

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """Of the (expected) log probability."""
        a, b = self.posterior(statistics)
        rate = self.rate(statistics)
        logs = rate.log() if self.concentration is None else torch.digamma(a) - b.log()
        zero = rate.new_zeros(*rate.shape[:-1], 1)
        return torch.cat([logs, -rate, -torch.ones_like(rate), zero], -1)

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """-sum KL(Gamma || Gamma), zero without a prior."""
        if self.concentration is None:
            return statistics.new_zeros(statistics.shape[:-2])
        q = Gamma(*self.posterior(statistics), validate_args=False)
        shape = torch.full_like(self.mean, self.concentration)
        p = Gamma(shape, shape / self.mean, validate_args=False)
        return -kl_divergence(q, p).sum((-2, -1))

    def at_floor(self, statistics: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
        """None: nothing grows beyond bounds."""
        return torch.zeros(len(statistics), dtype=torch.bool)

    def predictive(self, statistics: Float[Tensor, "k f"]) -> Predictive:
        """Poisson; with a prior negative binomial."""
        zero = statistics.new_zeros(self.dim)
        if self.concentration is None:
            return CellwisePredictive(Poisson(self.rate(statistics), validate_args=False), zero)
        a, b = self.posterior(statistics)
        return CellwisePredictive(NegativeBinomial(a, probs=1 / (1 + b), validate_args=False), zero)
