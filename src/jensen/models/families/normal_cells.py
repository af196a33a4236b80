"""Normal components with independent cells: maximum likelihood, Normal-Gamma prior, or known unit variance."""

from math import log, pi
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Normal, StudentT

from jensen.models.families.normal_full import FLOOR, usable
from jensen.models.families.predictive import CellwisePredictive, Predictive
from jensen.models.rows import Columns

CELL_COVARIANCES = ("diag", "spherical")


class _CellMoments(nn.Module):
    """Features x^2 (of each cell, or their sum), x, whether it was observed, and 1, of centred data."""

    def __init__(self, dim: int, *, shared: bool) -> None:
        super().__init__()
        self.dim, self.shared = dim, shared
        self.feature_count = (1 if shared else dim) + 2 * dim + 1
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64), requires_grad=False)

    def of(self, x: Tensor, observed: Tensor | None) -> Tensor:
        centred = (x - self.centre).T
        if observed is not None:
            centred = torch.where(observed.T, centred, 0.0)
        squares = centred.square()
        present = torch.ones_like(centred) if observed is None else observed.T.to(x.dtype)
        one = x.new_ones(1, len(x))
        return torch.cat([squares.sum(0, keepdim=True) if self.shared else squares, centred, present, one])

    def split(self, statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of x^2 (..., D or 1), of x (..., D), and the observed cells' counts (..., D)."""
        wide = 1 if self.shared else self.dim
        return (
            statistics[..., :wide],
            statistics[..., wide : wide + self.dim],
            statistics[..., wide + self.dim : -1],
        )

    def join(self, precision: Tensor, mean: Tensor, constant: Tensor) -> Tensor:
        """Coefficients of -1/2 p x^2 + p m x + c for each observed cell; p is (..., D or 1)."""
        zero = mean.new_zeros(*mean.shape[:-1], 1)
        return torch.cat([-0.5 * precision, precision * mean, constant, zero], -1)


class NormalCells(nn.Module):
    r"""Normal components with a variance for each cell ("diag") or one for all ("spherical").

    With a prior, tau ~ Gamma(a0, b0) and mu | tau ~ N(m0, 1 / (beta0 tau)) cell by cell (tau is shared by all cells
    if spherical); without, at the maximum likelihood among variances of at least 10^-6 of the columns'.

    Args:
        dim: Cells of a datum.
        covariance: "diag" or "spherical".
        prior: Whether there is a prior.
        mean_precision: beta0.
        freedom: 2 a0.
    """

    needs_covariance = False

    def __init__(
        self,
        dim: int,
        covariance: Literal["diag", "spherical"] = "diag",
        *,
        prior: bool = False,
        mean_precision: float = 1.0,
        freedom: float = 1.0,
    ) -> None:
        super().__init__()
        self.moments = _CellMoments(dim, shared=covariance == "spherical")
        self.feature_count = self.moments.feature_count
        self.prior = self.bounded = prior
        self.mean_precision, self.shape = mean_precision, freedom / 2
        wide = 1 if self.moments.shared else dim
        self.spread = nn.Parameter(torch.ones(wide, dtype=torch.float64), requires_grad=False)

    def prepare(self, spread: Columns, covariance: Float[Tensor, "d d"] | None) -> None:
        """Takes the columns' means as centre and m0, their variances for b0 and the lowest variance."""
        self.moments.centre.data = spread.mean.clone()
        variance = usable(spread.variance)
        self.spread.data = variance.mean()[None] if self.moments.shared else variance

    def features(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "f n"]:
        """x^2, x, whether it was observed, and 1."""
        return self.moments.of(x, observed)

    def maximum(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, Tensor]:
        """Means (..., K, D), less the centre, and variances (..., K, D or 1)."""
        second, first, count = self.moments.split(statistics)
        mean = first / count.clamp(min=1e-12)
        own = mean * first
        if self.moments.shared:
            own, count = own.sum(-1, keepdim=True), count.sum(-1, keepdim=True)
        return mean, torch.maximum((second - own) / count.clamp(min=1e-12), FLOOR * self.spread)

    def posterior(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Beta and m less the centre (..., K, D), a and b (..., K, D or 1)."""
        second, first, count = self.moments.split(statistics)
        beta = self.mean_precision + count
        mean = first / beta
        own = beta * mean.square()
        if self.moments.shared:
            own, count = own.sum(-1, keepdim=True), count.sum(-1, keepdim=True)
        return beta, mean, self.shape + 0.5 * count, self.shape * self.spread + 0.5 * (second - own)

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """Of the (expected) log density."""
        if self.prior:
            beta, mean, a, b = self.posterior(statistics)
            precision, log_precision = a / b, torch.digamma(a) - b.log()
            spare = 1 / beta
        else:
            mean, variance = self.maximum(statistics)
            precision, log_precision, spare = 1 / variance, -variance.log(), torch.zeros_like(mean)
        constant = 0.5 * (log_precision - log(2 * pi) - spare - precision * mean.square())
        return self.moments.join(precision, mean, constant)

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """-sum_k KL(q(mu_k, tau_k) || p), zero without a prior."""
        if not self.prior:
            return statistics.new_zeros(statistics.shape[:-2])
        beta, mean, a, b = self.posterior(statistics)
        beta0 = self.mean_precision
        normal = 0.5 * (beta0 / beta + beta0 * (a / b) * mean.square() - 1 + (beta / beta0).log())
        a0 = torch.tensor(self.shape, dtype=a.dtype)
        b0 = self.shape * self.spread
        gamma = (
            (a - a0) * torch.digamma(a)
            - torch.lgamma(a)
            + torch.lgamma(a0)
            + a0 * (b.log() - b0.log())
            + a * (b0 - b) / b
        )
        return -(normal.sum((-2, -1)) + gamma.sum((-2, -1)))

    def at_floor(self, statistics: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
        """Which components have a variance that was cut; none with a prior."""
        low = (self.maximum(statistics)[1] <= FLOOR * self.spread).any(-1)
        return low & (statistics[:, -1] > 0) & (not self.prior)

    def predictive(self, statistics: Float[Tensor, "k f"]) -> Predictive:
        """Normal; with a prior Student's t, cell by cell.

        With one precision for all cells, these are tied: the density is an elliptical t (see ``spherical_t``).
        """
        if not self.prior:
            mean, variance = self.maximum(statistics)
            scale = variance.sqrt().expand_as(mean)
            return CellwisePredictive(Normal(mean, scale, validate_args=False), self.moments.centre.data)
        beta, mean, a, b = self.posterior(statistics)
        scale = ((beta + 1) * b / (beta * a)).sqrt()
        if self.moments.shared:
            return spherical_t(mean + self.moments.centre, scale, 2 * a[..., 0])
        return CellwisePredictive(StudentT(2 * a, mean, scale, validate_args=False), self.moments.centre.data)


def spherical_t(location: Tensor, scale: Tensor, freedom: Tensor) -> Predictive:
    """Student's t whose cells share one precision."""
    from jensen.models.families.predictive import EllipticalPredictive

    return EllipticalPredictive(location, torch.diag_embed(scale.square()), freedom)


class UnitNormal(nn.Module):
    """Normal components of known unit variance with mu_k ~ N(0, prior_scale^2 I), as in the lecture.

    Args:
        dim: Cells of a datum.
        prior_scale: Standard deviation of each cell of a mean under the prior, in the data's unit.
    """

    needs_covariance = False
    bounded = True

    def __init__(self, dim: int, prior_scale: float = 10.0) -> None:
        super().__init__()
        self.moments = _CellMoments(dim, shared=True)
        self.feature_count = self.moments.feature_count
        self.prior_precision = prior_scale**-2

    def prepare(self, spread: Columns, covariance: Float[Tensor, "d d"] | None) -> None:
        """Takes nothing from the data."""

    def features(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "f n"]:
        """x^2, x, whether it was observed, and 1."""
        return self.moments.of(x, observed)

    def posterior(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, Tensor]:
        """Means m and variances s^2 of q(mu_k), (..., K, D)."""
        _, first, count = self.moments.split(statistics)
        variance = 1 / (self.prior_precision + count)
        return first * variance, variance

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """Of the expected log density."""
        mean, variance = self.posterior(statistics)
        constant = -0.5 * (log(2 * pi) + mean.square() + variance)
        return self.moments.join(torch.ones_like(mean[..., :1]), mean, constant)

    def free(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, ...]:
        """Means m and log s^2, as plain gradients move them, (..., K, D)."""
        mean, variance = self.posterior(statistics)
        return mean, variance.log()

    def from_free(self, blocks: tuple[Tensor, ...]) -> Float[Tensor, "*batch f"]:
        """The statistics whose q(mu_k) has these means and log variances."""
        mean, log_variance = blocks
        precision = (-log_variance).exp()
        count = precision - self.prior_precision
        squares = torch.zeros_like(count[..., :1])
        return torch.cat([squares, mean * precision, count, count.mean(-1, keepdim=True)], -1)

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """-sum_k KL(N(m, s^2) || N(0, prior_scale^2))."""
        mean, variance = self.posterior(statistics)
        relative = variance * self.prior_precision
        kl = 0.5 * (relative + mean.square() * self.prior_precision - 1 - relative.log())
        return -kl.sum((-2, -1))

    def at_floor(self, statistics: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
        """None: nothing grows beyond bounds."""
        return torch.zeros(len(statistics), dtype=torch.bool)

    def predictive(self, statistics: Float[Tensor, "k f"]) -> Predictive:
        """Normal of variance 1 + s^2."""
        mean, variance = self.posterior(statistics)
        return CellwisePredictive(
            Normal(mean, (1 + variance).sqrt(), validate_args=False), self.moments.centre.data
        )
