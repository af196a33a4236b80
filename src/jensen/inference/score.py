"""The score-function gradient of the bound, for log-joints that have no gradient of their own."""

from math import inf

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.errors import BoundError, ConfigError
from jensen.inference.pathwise import Density, Gradient

PRODUCTS_DIM = 15
"""Dimensions up to which the learned control variate has products of coordinates, where the covariance is known."""
REMEMBERED = 20
"""Past draws that are kept for each of its coefficients."""
ENOUGH = 2
"""Past draws for each coefficient, below which nothing is learned yet."""
RIDGE = 1e-3
"""Of the coefficients, in units of standardised coordinates, for one draw."""


class Score:
    r"""The score-function gradient of E_q[log p] + H(q), with what is known taken out of the noise.

    .. math::
        \nabla = \frac1S \sum_s \left[ r_s - \tfrac{1}{S-1} \sum_{t \ne s} r_t \right] \nabla \log q(u_s)
            + \nabla E_q[h] + \nabla H(q), \qquad r_s = \log \tilde p(u_s) - h(u_s)

    Three things take variance out, none adds bias. The entropy is exact where the distribution knows it, and so is what
    h explains: expectations in place of draws (Rao-Blackwell). The control variate h is quadratic, fitted by ridge
    regression to the log-joint at draws of earlier steps; its expectation needs only q's means and (co)variances. What is
    left over gets the mean of the other draws as its baseline. log p is called for values only.

    It remembers draws from step to step, so each fit takes a new one.

    Args:
        learned: Whether to use h; else the leave-one-out baseline alone.

    Source: Black box variational inference, 2014, https://arxiv.org/abs/1401.0118; Buy 4 REINFORCE samples, get
    a baseline for free!, 2019, https://openreview.net/forum?id=r1lgTGL5DE.

    Example:
        >>> from jensen.inference import Target, real
        >>> from jensen.inference.families import MeanField
        >>> from jensen.inference.stochastic import stochastic
        >>> target = Target(lambda p: -0.5 * (p["x"] - 3) ** 2, {"x": real()})
        >>> found = stochastic(target, MeanField(1), estimator=Score())
        >>> round(found.posterior(None).mean.item(), 1)
        3.0
    """

    needs_gradient = False

    def __init__(self, *, learned: bool = True) -> None:
        self.learned = learned
        self._points: Tensor | None = None
        self._values: Tensor | None = None

    def __call__(self, density: Density, posterior: nn.Module, samples: int) -> Gradient:
        """One estimate.

        Args:
            density: The target; its gradients aren't looked at.
            posterior: A module that gives a distribution with ``sample`` and ``log_prob`` for the context None.
            samples: Draws, at least two.

        Raises:
            ConfigError: If there are fewer than two draws.
        """
        if samples < 2:
            raise ConfigError(
                f"the score-function gradient leaves one draw out and needs at least 2, got {samples}"
            )
        q = posterior(None)
        with torch.no_grad():
            points = q.sample(torch.Size([samples])).double()
        log_p = density(points)[0]
        good = torch.isfinite(log_p)
        if int(good.sum()) < 2:
            return Gradient(
                q.log_prob(points).sum() * 0, log_p.new_tensor(torch.nan), float(good.double().mean())
            )
        points, log_p = points[good], log_p[good]
        log_q = q.log_prob(points)
        entropy = _entropy(q)
        signal = log_p if entropy is not None else log_p - log_q.detach()
        known = log_p.new_zeros(()) if entropy is None else entropy
        quadratic = self._quadratic(q) if self.learned else None
        if quadratic is not None:
            signal = signal - quadratic.at(points)
            known = known + quadratic.expectation(q)
        others = (signal.sum() - signal) / (len(signal) - 1)
        surrogate = ((signal - others) * log_q).mean() + known
        self._remember(points, log_p, q)
        bound = (signal.mean() + known).detach()
        return Gradient(surrogate, bound, float(good.double().mean()))

    def _quadratic(self, q: Distribution) -> "Quadratic | None":
        """Fitted to what was drawn before, so independent of the draws that it serves."""
        if self._points is None or self._values is None or _moments(q) is None:
            return None
        mean, variance, covariance = _moments(q) or (None, None, None)
        assert mean is not None
        assert variance is not None
        products = covariance is not None and len(mean) <= PRODUCTS_DIM
        if len(self._points) < ENOUGH * _coefficients(len(mean), products):
            return None
        return Quadratic.fitted(self._points, self._values, mean.detach(), variance.detach().sqrt(), products)

    def _remember(self, points: Tensor, values: Tensor, q: Distribution) -> None:
        if not self.learned or _moments(q) is None:
            return
        dim = points.shape[1]
        keep = REMEMBERED * _coefficients(dim, dim <= PRODUCTS_DIM)
        self._points = points if self._points is None else torch.cat([self._points, points])[-keep:]
        self._values = values if self._values is None else torch.cat([self._values, values])[-keep:]


class Quadratic:
    r"""h(u) = a + b^T z + z^T C z with z = (u - centre) / scale; C is diagonal unless products are asked for.

    Args:
        centre: (dim,).
        scale: (dim,).
        constant: a.
        linear: b, (dim,).
        square: C, symmetric (dim, dim).
        products: Whether C has more than its diagonal.
    """

    def __init__(
        self, centre: Tensor, scale: Tensor, constant: Tensor, linear: Tensor, square: Tensor, products: bool
    ) -> None:
        self.centre, self.scale = centre, scale
        self.constant, self.linear, self.square = constant, linear, square
        self.products = products

    @classmethod
    def fitted(
        cls,
        points: Float[Tensor, "n dim"],
        values: Float[Tensor, " n"],
        centre: Float[Tensor, " dim"],
        scale: Float[Tensor, " dim"],
        products: bool,
    ) -> "Quadratic":
        """By ridge regression of values on the coordinates, their squares and, if asked for, their products.

        Args:
            points: (n, dim).
            values: (n,).
            centre: Of the coordinates, (dim,).
            scale: Likewise.
            products: Whether to take products of two coordinates.

        Example:
            >>> x = torch.linspace(-1, 1, 50).double()[:, None]
            >>> h = Quadratic.fitted(x, 2 + x[:, 0] ** 2, torch.zeros(1).double(), torch.ones(1).double(), False)
            >>> h.at(torch.full((1, 1), 0.5).double()).round(decimals=2).tolist()
            [2.25]
        """
        dim = points.shape[1]
        z = (points - centre) / scale
        rows, columns = torch.triu_indices(dim, dim) if products else torch.arange(dim).expand(2, -1)
        features = torch.cat([z, z[:, rows] * z[:, columns]], 1)
        mean, level = features.mean(0), values.mean()
        features = features - mean
        gram = features.T @ features
        gram.diagonal().add_(RIDGE * len(points) ** 0.5)
        solution = torch.linalg.solve(gram, features.T @ (values - level))
        linear, quadratic = solution[:dim], solution[dim:]
        square = torch.zeros(dim, dim, dtype=points.dtype)
        square[rows, columns] = quadratic
        return cls(centre, scale, level - mean @ solution, linear, (square + square.T) / 2, products)

    def at(self, points: Float[Tensor, "n dim"]) -> Float[Tensor, " n"]:
        """Its values, (n,)."""
        z = (points - self.centre) / self.scale
        return self.constant + z @ self.linear + ((z @ self.square) * z).sum(1)

    def expectation(self, q: Distribution) -> Tensor:
        """E_q[h], with a path to q's parameters.

        Raises:
            BoundError: If q doesn't know the moments that it takes.
        """
        moments = _moments(q)
        if moments is None or (self.products and moments[2] is None):
            raise BoundError(f"{type(q).__name__} doesn't know its means and variances")
        mean, variance, covariance = moments
        z = (mean - self.centre) / self.scale
        inner = self.constant + z @ self.linear + z @ self.square @ z
        if self.products and covariance is not None:
            return inner + (self.square * covariance / (self.scale[:, None] * self.scale)).sum()
        return inner + (self.square.diagonal() * variance / self.scale.square()).sum()


def _coefficients(dim: int, products: bool) -> int:
    return dim + (dim * (dim + 1) // 2 if products else dim)


def _entropy(q: Distribution) -> Tensor | None:
    try:
        return q.entropy()
    except NotImplementedError:
        return None


def _moments(q: Distribution) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """Mean, variances and, where it is known, the covariance matrix; None where even the mean isn't."""
    try:
        mean, variance = q.mean, q.variance
    except (NotImplementedError, AttributeError):
        return None
    if mean.ndim != 1 or not bool(torch.isfinite(variance).all() and (variance < inf).all()):
        return None
    return mean, variance, getattr(q, "covariance_matrix", None)
