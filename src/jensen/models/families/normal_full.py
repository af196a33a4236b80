"""Normal components with full covariances: by maximum likelihood, and with a Normal-Wishart prior."""

from math import log, pi
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jensen.models.families.gaps import Scored, complete
from jensen.models.families.predictive import EllipticalPredictive, Predictive
from jensen.models.rows import Columns

FULL_COVARIANCES = ("full", "tied")

FLOOR = 1e-6
"""Lowest variance of a component in any direction, as a part of the data's, in units of their columns' spread."""


class _Moments(nn.Module):
    """Features x x^T (upper triangle), x and 1 of centred data.

    A missing cell counts as its column's mean, with its column's variance, where nothing is known of the components;
    ``complete`` expects it given the observed ones.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.feature_count = dim * (dim + 1) // 2 + dim + 1
        self.centre = nn.Parameter(torch.zeros(dim, dtype=torch.float64), requires_grad=False)
        rows, columns = torch.triu_indices(dim, dim)
        self.upper = rows * dim + columns
        self.both = torch.where(rows == columns, 1.0, 2.0).double()
        place = torch.zeros(dim, dim, dtype=torch.long)
        place[rows, columns] = torch.arange(len(rows))
        self.place = torch.maximum(place, place.T)
        self.variance = torch.ones(dim, dtype=torch.float64)

    def prepare(self, spread: Columns) -> None:
        """Takes the columns' means as the centre, and their variances."""
        self.centre.data = spread.mean.clone()
        self.variance = spread.variance.clone()

    def of(self, x: Tensor, observed: Tensor | None) -> Tensor:
        d, n = self.dim, len(x)
        centred = self._centred(x, observed).T.contiguous()
        result = x.new_empty(self.feature_count, n)
        start = 0
        for i in range(d):
            torch.mul(centred[i], centred[i:], out=result[start : start + d - i])
            if observed is not None:
                result[start] += torch.where(observed[:, i], 0.0, self.variance[i])
            start += d - i
        result[start : start + d] = centred
        result[-1] = 1
        return result

    def complete(self, coefficients: Tensor, x: Tensor, observed: Tensor) -> Scored:
        """Data with gaps under components of these coefficients."""
        squares = self.dim * (self.dim + 1) // 2
        precision = (-2 * coefficients[:, :squares] / self.both)[:, self.place]
        logits, moments = complete(
            precision, coefficients[:, squares:-1], coefficients[:, -1], self._centred(x, observed), observed
        )

        def statistics(shares: Tensor) -> Tensor:
            second, first = moments(shares)
            return torch.cat([second.flatten(-2)[:, self.upper], first, shares.sum(1, keepdim=True)], 1)

        return Scored(logits, statistics)

    def _centred(self, x: Tensor, observed: Tensor | None) -> Tensor:
        centred = x - self.centre
        return centred if observed is None else torch.where(observed, centred, 0.0)

    def split(self, statistics: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Sums of x x^T (..., D, D), of x (..., D), and the count (...)."""
        squares = self.dim * (self.dim + 1) // 2
        second = statistics[..., :squares][..., self.place]
        return second, statistics[..., squares:-1], statistics[..., -1]

    def join(self, precision: Tensor, linear: Tensor, constant: Tensor) -> Tensor:
        """Coefficients of -1/2 x^T P x + b^T x + c."""
        quadratic = -0.5 * precision.flatten(-2)[..., self.upper] * self.both
        return torch.cat([quadratic, linear, constant[..., None]], -1)


class NormalFull(nn.Module):
    """Normal components at their maximum-likelihood parameters, each with its covariance or all with one.

    Among covariances whose variance in every direction is at least 10^-6 of the data's: there the likelihood is
    bounded, and cutting the eigenvalues gives its maximum exactly, so that EM never decreases it.

    Args:
        dim: Cells of a datum.
        covariance: "full" or "tied".
    """

    needs_covariance = False
    bounded = False

    def __init__(self, dim: int, covariance: Literal["full", "tied"] = "full") -> None:
        super().__init__()
        self.moments = _Moments(dim)
        self.feature_count = self.moments.feature_count
        self.tied = covariance == "tied"
        self.floor = nn.Parameter(torch.ones(dim, dtype=torch.float64), requires_grad=False)

    def prepare(self, spread: Columns, covariance: Float[Tensor, "d d"] | None) -> None:
        """Takes the columns' means as the centre and their variances for the lowest one."""
        self.moments.prepare(spread)
        self.floor.data = FLOOR * usable(spread.variance)

    def features(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "f n"]:
        """X x^T, x and 1; a missing cell counts as its column's mean, with its column's variance."""
        return self.moments.of(x, observed)

    def complete(
        self, coefficients: Float[Tensor, "j f"], x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"]
    ) -> Scored:
        """Data with gaps under components of these coefficients: missing cells are expected given the others."""
        return self.moments.complete(coefficients, x, observed)

    def parameters_of(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, Tensor]:
        """Means (..., K, D), less the centre, and lower Cholesky factors of the covariances (..., K, D, D)."""
        second, first, count = self.moments.split(statistics)
        safe = count.clamp(min=1e-12)
        mean = first / safe[..., None]
        scatter = second - mean[..., :, None] * first[..., None, :]
        if self.tied:
            total = count.sum(-1, keepdim=True).clamp(min=1e-12)
            covariance = (scatter.sum(-3, keepdim=True) / total[..., None, None]).expand_as(scatter)
        else:
            covariance = scatter / safe[..., None, None]
        return mean, self._cut(covariance)

    def _cut(self, covariance: Tensor) -> Tensor:
        """Cholesky factors of the covariances with their eigenvalues cut from below, where need be."""
        unit = self.floor.sqrt()
        scaled = covariance / (unit[:, None] * unit)
        scaled = 0.5 * (scaled + scaled.mT)
        eye = torch.eye(len(unit), dtype=unit.dtype)
        low = torch.linalg.cholesky_ex(scaled - eye).info != 0
        if bool(low.any()):
            values, vectors = torch.linalg.eigh(scaled[low])
            scaled = scaled.clone()
            scaled[low] = (vectors * values.clamp(min=1.0)[..., None, :]) @ vectors.mT
        return torch.linalg.cholesky(scaled) * unit[:, None]

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """Of the log density."""
        mean, cholesky = self.parameters_of(statistics)
        precision = torch.cholesky_inverse(cholesky)
        linear = (precision @ mean[..., None])[..., 0]
        constant = -0.5 * (self.moments.dim * log(2 * pi) + (linear * mean).sum(-1))
        return self.moments.join(precision, linear, constant - _half_log_det(cholesky))

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """Zero: there is no prior."""
        return statistics.new_zeros(statistics.shape[:-2])

    def at_floor(self, statistics: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
        """Which components have a covariance that was cut."""
        _, cholesky = self.parameters_of(statistics)
        unit = self.floor.sqrt()
        scaled = cholesky / unit[:, None]
        lowest = torch.linalg.eigvalsh(scaled @ scaled.mT)[:, 0]
        return (lowest < 1 + 1e-6) & (statistics[:, -1] > 0)

    def predictive(self, statistics: Float[Tensor, "k f"]) -> Predictive:
        """Normal."""
        mean, cholesky = self.parameters_of(statistics)
        return EllipticalPredictive(mean + self.moments.centre, cholesky @ cholesky.mT)


class NormalWishart(nn.Module):
    r"""Normal components with mu_k | L_k ~ N(m0, (beta0 L_k)^-1) and precision L_k ~ Wishart(W0, nu0).

    Given the statistics the optimal q(mu_k, L_k) is of the same family with

    .. math::
        \beta = \beta_0 + N_k, \; \nu = \nu_0 + N_k, \; m = (\beta_0 m_0 + \textstyle\sum r x) / \beta, \;
        W^{-1} = W_0^{-1} + \sum r x x^T + \beta_0 m_0 m_0^T - \beta m m^T.

    By default m0 is the data's mean and W0^-1 nu0-independent, their covariance.

    Args:
        dim: Cells of a datum D.
        mean_precision: beta0.
        freedom: nu0, above D - 1; None: D.

    Source: Pattern Recognition and Machine Learning, 2006, section 10.2.
    """

    needs_covariance = True
    bounded = True

    def __init__(self, dim: int, mean_precision: float = 1.0, freedom: float | None = None) -> None:
        super().__init__()
        self.moments = _Moments(dim)
        self.feature_count = self.moments.feature_count
        self.mean_precision = mean_precision
        self.freedom = float(dim) if freedom is None else freedom
        self.mean = nn.Parameter(torch.zeros(dim, dtype=torch.float64), requires_grad=False)
        self.inverse_scale = nn.Parameter(torch.eye(dim, dtype=torch.float64), requires_grad=False)

    def prepare(self, spread: Columns, covariance: Float[Tensor, "d d"] | None) -> None:
        """Takes the data's mean as m0 and their covariance, made regular where it isn't, as W0^-1."""
        self.moments.prepare(spread)
        self.mean.data = torch.zeros_like(spread.mean)
        if covariance is None:
            covariance = torch.diag(spread.variance)
        unit = usable(spread.variance).sqrt()
        scaled = covariance / (unit[:, None] * unit)
        values, vectors = torch.linalg.eigh(0.5 * (scaled + scaled.T))
        kept = (vectors * values.clamp(min=FLOOR)) @ vectors.T
        self.inverse_scale.data = kept * (unit[:, None] * unit)

    def features(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "f n"]:
        """X x^T, x and 1; a missing cell counts as its column's mean, with its column's variance."""
        return self.moments.of(x, observed)

    def complete(
        self, coefficients: Float[Tensor, "j f"], x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"]
    ) -> Scored:
        """Data with gaps under components of these coefficients: missing cells are expected given the others."""
        return self.moments.complete(coefficients, x, observed)

    def posterior(self, statistics: Float[Tensor, "*batch f"]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Beta and nu (..., K), m less the centre (..., K, D), and the Cholesky factor of W^-1 (..., K, D, D)."""
        second, first, count = self.moments.split(statistics)
        beta, nu = self.mean_precision + count, self.freedom + count
        mean = (self.mean_precision * self.mean + first) / beta[..., None]
        prior = self.inverse_scale + self.mean_precision * self.mean[:, None] * self.mean
        inverse = prior + second - beta[..., None, None] * mean[..., :, None] * mean[..., None, :]
        return beta, nu, mean, torch.linalg.cholesky(0.5 * (inverse + inverse.mT))

    def _expected_log_det(self, nu: Tensor, cholesky: Tensor) -> Tensor:
        d = self.moments.dim
        steps = torch.arange(d, dtype=nu.dtype)
        return torch.digamma((nu[..., None] - steps) / 2).sum(-1) + d * log(2) - 2 * _half_log_det(cholesky)

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """Of the expected log density."""
        beta, nu, mean, cholesky = self.posterior(statistics)
        d = self.moments.dim
        precision = nu[..., None, None] * torch.cholesky_inverse(cholesky)
        linear = (precision @ mean[..., None])[..., 0]
        constant = 0.5 * (self._expected_log_det(nu, cholesky) - d * log(2 * pi) - d / beta)
        return self.moments.join(precision, linear, constant - 0.5 * (linear * mean).sum(-1))

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """-sum_k KL(q(mu_k, L_k) || p)."""
        beta, nu, mean, cholesky = self.posterior(statistics)
        d = self.moments.dim
        scale = torch.cholesky_inverse(cholesky)
        away = mean - self.mean
        distance = ((scale @ away[..., None])[..., 0] * away).sum(-1)
        normal = 0.5 * (
            d * self.mean_precision / beta
            + self.mean_precision * nu * distance
            - d
            + d * (beta / self.mean_precision).log()
        )
        trace = (self.inverse_scale * scale).sum((-2, -1))
        prior_half = _half_log_det(torch.linalg.cholesky(self.inverse_scale))
        nu0 = torch.tensor(self.freedom, dtype=nu.dtype)
        wishart = (
            nu * _half_log_det(cholesky)
            - nu0 * prior_half
            - 0.5 * (nu - nu0) * d * log(2)
            - torch.mvlgamma(nu / 2, d)
            + torch.mvlgamma(nu0 / 2, d)
            + 0.5 * (nu - nu0) * self._expected_log_det(nu, cholesky)
            - 0.5 * nu * d
            + 0.5 * nu * trace
        )
        return -(normal + wishart).sum(-1)

    def at_floor(self, statistics: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
        """None: the prior keeps the evidence finite."""
        return torch.zeros(len(statistics), dtype=torch.bool)

    def predictive(self, statistics: Float[Tensor, "k f"]) -> Predictive:
        """Student's t with nu + 1 - D degrees of freedom."""
        beta, nu, mean, cholesky = self.posterior(statistics)
        freedom = nu + 1 - self.moments.dim
        scale = cholesky @ cholesky.mT * ((beta + 1) / (beta * freedom))[:, None, None]
        return EllipticalPredictive(mean + self.moments.centre, scale, freedom)


def usable(variance: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """The columns' variances, where a constant column counts as the smallest of the others, or as one."""
    varying = variance[variance > 0]
    return torch.where(variance > 0, variance, varying.min() if len(varying) else 1.0)


def _half_log_det(cholesky: Tensor) -> Tensor:
    return cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
