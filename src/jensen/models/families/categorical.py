"""Components over one cell that holds a symbol."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Dirichlet, kl_divergence

from jensen.distributions import IntegerCategorical
from jensen.models.families.predictive import CellwisePredictive, Predictive
from jensen.models.rows import Columns

SMALLEST = 1e-10
"""Lowest probability of a symbol where there is no prior."""


class CategoricalSymbol(nn.Module):
    """A symbol 0, 1, ..., V - 1 with p ~ Dirichlet(a, ..., a), or at the maximum likelihood.

    Args:
        symbols: V.
        concentration: a; None: no prior.
    """

    needs_covariance = False
    bounded = True

    def __init__(self, symbols: int, concentration: float | None = None) -> None:
        super().__init__()
        self.symbols, self.concentration = symbols, concentration
        self.feature_count = symbols + 1

    def prepare(self, spread: Columns, covariance: Float[Tensor, "d d"] | None) -> None:
        """Takes nothing from the data."""

    def features(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "f n"]:
        """Which symbol it is, and 1; zeros where it is missing."""
        result = x.new_zeros(self.feature_count, len(x))
        present = x.new_ones(1, len(x)) if observed is None else observed.T.to(x.dtype)
        result.scatter_(0, x[:, 0].long()[None], present)
        result[-1] = 1
        return result

    def posterior(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch v"]:
        """Counts of the symbols, with those of the prior, (..., K, V)."""
        return statistics[..., :-1] + (0.0 if self.concentration is None else self.concentration)

    def probability(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch v"]:
        """Expected probabilities, (..., K, V)."""
        counts = self.posterior(statistics)
        if self.concentration is not None:
            return counts / counts.sum(-1, keepdim=True)
        total = counts.sum(-1, keepdim=True)
        p = torch.where(total > 0, counts / total.clamp(min=1e-300), 1 / self.symbols).clamp(min=SMALLEST)
        return p / p.sum(-1, keepdim=True)

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """The (expected) log probabilities."""
        counts = self.posterior(statistics)
        if self.concentration is None:
            logs = self.probability(statistics).log()
        else:
            logs = torch.digamma(counts) - torch.digamma(counts.sum(-1, keepdim=True))
        return torch.cat([logs, logs.new_zeros(*logs.shape[:-1], 1)], -1)

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """-sum KL(Dirichlet || Dirichlet), zero without a prior."""
        if self.concentration is None:
            return statistics.new_zeros(statistics.shape[:-2])
        q = Dirichlet(self.posterior(statistics), validate_args=False)
        p = Dirichlet(
            torch.full((self.symbols,), self.concentration, dtype=statistics.dtype), validate_args=False
        )
        return -kl_divergence(q, p.expand(q.batch_shape)).sum(-1)

    def at_floor(self, statistics: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
        """None: nothing grows beyond bounds."""
        return torch.zeros(len(statistics), dtype=torch.bool)

    def predictive(self, statistics: Float[Tensor, "k f"]) -> Predictive:
        """Categorical with the expected probabilities."""
        logits = self.probability(statistics).log()[:, None, :]
        return CellwisePredictive(IntegerCategorical(logits=logits), statistics.new_zeros(1))
