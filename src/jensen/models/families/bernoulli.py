"""Components of independent binary cells."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Bernoulli

from jensen.models.families.predictive import CellwisePredictive, Predictive
from jensen.models.rows import Columns

SMALLEST = 1e-10
"""Lowest probability of a value where there is no prior; the likelihood's maximum is taken within."""


class BernoulliCells(nn.Module):
    """Binary cells with p ~ Beta(a, a), or at their maximum likelihood.

    Args:
        dim: Cells of a datum.
        concentration: a; None: no prior.
    """

    needs_covariance = False
    bounded = True

    def __init__(self, dim: int, concentration: float | None = None) -> None:
        super().__init__()
        self.dim, self.concentration = dim, concentration
        self.feature_count = 2 * dim + 1

    def prepare(self, spread: Columns, covariance: Float[Tensor, "d d"] | None) -> None:
        """Takes nothing from the data."""

    def features(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "f n"]:
        """x, 1 - x and 1; zeros where a cell is missing."""
        other = 1 - x if observed is None else torch.where(observed, 1 - x, 0.0)
        return torch.cat([x.T, other.T, x.new_ones(1, len(x))])

    def posterior(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, Tensor]:
        """Counts of ones and zeros, with those of the prior, (..., K, D)."""
        prior = 0.0 if self.concentration is None else self.concentration
        return statistics[..., : self.dim] + prior, statistics[..., self.dim : -1] + prior

    def probability(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch d"]:
        """Expected probability of a one, (..., K, D)."""
        ones, zeros = self.posterior(statistics)
        if self.concentration is not None:
            return ones / (ones + zeros)
        return torch.where(ones + zeros > 0, ones / (ones + zeros).clamp(min=1e-300), 0.5).clamp(
            SMALLEST, 1 - SMALLEST
        )

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """Of the (expected) log probability."""
        ones, zeros = self.posterior(statistics)
        if self.concentration is None:
            p = self.probability(statistics)
            logs = [p.log(), torch.log1p(-p)]
        else:
            total = torch.digamma(ones + zeros)
            logs = [torch.digamma(ones) - total, torch.digamma(zeros) - total]
        return torch.cat([*logs, ones.new_zeros(*ones.shape[:-1], 1)], -1)

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """-sum KL(Beta || Beta), zero without a prior."""
        if self.concentration is None:
            return statistics.new_zeros(statistics.shape[:-2])
        q = torch.distributions.Beta(*self.posterior(statistics), validate_args=False)
        prior = torch.full((), self.concentration, dtype=statistics.dtype)
        p = torch.distributions.Beta(prior, prior, validate_args=False)
        return -torch.distributions.kl_divergence(q, p).sum((-2, -1))

    def at_floor(self, statistics: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
        """None: nothing grows beyond bounds."""
        return torch.zeros(len(statistics), dtype=torch.bool)

    def predictive(self, statistics: Float[Tensor, "k f"]) -> Predictive:
        """Bernoulli with the expected probability."""
        cells = Bernoulli(probs=self.probability(statistics), validate_args=False)
        return CellwisePredictive(cells, statistics.new_zeros(self.dim))
