"""The score-function gradient of the bound, for log-joints that have no gradient of their own."""

import copy
from math import inf
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from jensen.distributions import DiagonalNormal
from jensen.errors import BoundError, ConfigError
from jensen.inference.pathwise import Density, Gradient

LARGEST = 1500
"""Coefficients of the learned control variate, above which it has squares of coordinates but no products."""
REMEMBERED = 6
"""Past draws that are kept for each coefficient."""
ENOUGH = 2
"""Past draws for each coefficient, below which a smaller control variate is learned, or none."""
CHEAP = 300
"""Coefficients up to which it is learned anew at every step; else every ``SELDOM`` steps."""
SELDOM = 20
RIDGE = 1e-3
"""Of the coefficients, in units of standardised coordinates, for one draw."""


class Score:
    r"""The score-function gradient of E_q[log p - log q], with what is known taken out of the noise.

    .. math::
        \nabla = \frac1S \sum_s \left[ r_s - \tfrac{1}{S-1} \sum_{t \ne s} r_t \right] \nabla \log q(u_s)
            + \nabla E_q[h] - \nabla KL(q \| q_0), \qquad r_s = \log \tilde p(u_s) - \log q_0(u_s) - h(u_s)

    Here q_0 is the posterior of some steps ago and h is quadratic, fitted by ridge regression to log p - log q_0 at
    draws of earlier steps. So log q_0 + h stands for log p; its expectation and the entropy of q are taken exactly in
    place of by draws (Rao-Blackwell), from q's means and (co)variances. What that doesn't explain gets the mean
    of the other draws as its baseline. None of this adds bias. log p is called for values only.

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
        self._memory: tuple[Tensor, Tensor] | None = None
        self._variate: _Variate | None = None
        self._age = 0

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
            nothing = log_p.new_tensor(torch.nan)
            return Gradient(q.log_prob(points).sum() * 0, nothing, float(good.double().mean()))
        points, log_p = points[good], log_p[good]
        log_q = q.log_prob(points)
        variate = self._learn(posterior, q) if self.learned else None
        if variate is None:
            signal, known = log_p - log_q.detach(), log_p.new_zeros(())
        else:
            signal, known = log_p - variate.at(points), variate.expectation(q)
        others = (signal.sum() - signal) / (len(signal) - 1)
        surrogate = ((signal - others) * log_q).mean() + known
        if self.learned and _moments(q) is not None:
            self._remember(points, log_p)
        return Gradient(surrogate, (signal.mean() + known).detach(), float(good.double().mean()))

    def _learn(self, posterior: nn.Module, q: Distribution) -> "_Variate | None":
        """From what was drawn before, so independent of the draws that it serves."""
        moments = _moments(q)
        if self._memory is None or moments is None:
            return None
        points, values = self._memory
        mean, variance, covariance = moments
        closed = _divergence(q, q) is not None
        sizes = [_coefficients(len(mean), products) for products in (True, False)]
        products = closed and covariance is not None
        products = products and sizes[0] <= LARGEST and len(points) >= ENOUGH * sizes[0]
        if len(points) < ENOUGH * sizes[1 - int(products)]:
            return None
        self._age += 1
        old = self._variate
        due = (
            not closed
            or old is None
            or products != old.quadratic.products
            or sizes[1 - int(products)] <= CHEAP
        )
        if due or self._age >= SELDOM:
            self._age = 0
            # A posterior of its own, for the parameters will move on.
            before = copy.deepcopy(posterior).requires_grad_(False)(None)
            with torch.no_grad():
                ratio = values - before.log_prob(points)
            scale = variance.detach().sqrt()
            # What doesn't vary, such as a site with one state, has no unit of its own.
            scale = torch.where(scale > 0, scale, 1.0)
            quadratic = Quadratic.fitted(points, ratio, mean.detach(), scale, products)
            self._variate = _Variate(before, quadratic)
        return self._variate

    def _remember(self, points: Tensor, values: Tensor) -> None:
        dim = points.shape[1]
        most = _coefficients(dim, True)
        keep = REMEMBERED * (most if most <= LARGEST else _coefficients(dim, False))
        if self._memory is not None:
            points, values = torch.cat([self._memory[0], points]), torch.cat([self._memory[1], values])
        self._memory = points[-keep:], values[-keep:]


class _Variate(NamedTuple):
    """What stands for the log-joint: an earlier posterior's log-density and a quadratic."""

    before: Distribution
    quadratic: "Quadratic"

    def at(self, points: Tensor) -> Tensor:
        return self.before.log_prob(points) + self.quadratic.at(points)

    def expectation(self, q: Distribution) -> Tensor:
        """Its expectation under q, and q's entropy: both together are E_q[h] - KL(q || before)."""
        known = self.quadratic.expectation(q)
        # Without a closed form ``before`` is q itself, where the divergence and its gradient are zero.
        divergence = _divergence(q, self.before)
        return known if divergence is None else known - divergence


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


def _divergence(q: Distribution, p: Distribution) -> Tensor | None:
    """KL(q || p) in closed form, or None."""
    try:
        return kl_divergence(q, p)
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
    if isinstance(q, DiagonalNormal):
        return mean, variance, variance.diag()
    return mean, variance, getattr(q, "covariance_matrix", None)
