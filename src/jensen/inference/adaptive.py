"""Adaptive importance sampling: a mixture of Student-t distributions moves to where the weights are."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.diagnostics import kish_size, psis
from jensen.inference.families.student_mixture import StudentMixture
from jensen.inference.target import Target

DOF = 8.0
"""Degrees of freedom: tails heavier than a posterior's usually are, at little cost."""

COMPONENTS = 6
SHARE = 30
"""Effective draws that an update asks for, a dimension; weights are tempered until there are so many."""

LARGEST_PRODUCTS = 4_000_000
"""Numbers that expectation maximisation holds at once."""

GOOD_K, GOOD_SHARE = 0.45, 0.85
"""Nothing is gained by going on beyond these."""


STEADY_K = 0.6
"""A k-hat below this stays reliable when it is estimated again."""

PATIENCE = 4
"""Rounds without a better one, after which adaptation ends."""


@dataclass(frozen=True)
class Round:
    """What one round of draws showed of the mixture that they came from.

    Attributes:
        mixture: The proposal.
        pareto_k: Of its weights.
        share: Effective draws, as a share of all.
    """

    mixture: StudentMixture
    pareto_k: float
    share: float

    @property
    def rank(self) -> tuple[bool, float]:
        """Steady ones first, then by the share."""
        return (self.pareto_k < STEADY_K, self.share)


def adapt(
    target: Target,
    start: StudentMixture,
    *,
    rounds: int = 8,
    draws: int | None = None,
    components: int = COMPONENTS,
) -> list[Round]:
    r"""Moves a mixture towards the target by weighted expectation maximisation, round by round.

    Each round draws from the mixture, weighs by p/q, and fits the next mixture to the weighted draws, which reduces
    KL(p || q): unlike variational inference it covers the target. Weights are tempered, w^b, while too few draws
    would carry them. Nothing needs gradients. Draws come from torch's generator.

    Args:
        target: Whose density the weights take.
        start: The first proposal.
        rounds: At most.
        draws: In a round; None takes 3,000, or a hundred a dimension.
        components: Of the mixture, once weights are good enough to place them.

    Returns:
        The rounds in order; judge by ``rank``.

    Source: Adaptive importance sampling in general mixture classes, 2008,
    https://doi.org/10.1007/s11222-008-9059-x; Population Monte Carlo, 2004,
    https://doi.org/10.1198/106186004X12803.
    """
    draws = draws or max(3000, 100 * target.dim)
    mixture, done = start, list[Round]()
    for number in range(rounds):
        points = mixture.sample((draws,))
        distances = mixture.distances(points)
        components_log_prob = mixture.component_log_probs(distances)
        log_weights = finite(target.plain_log_prob(points) - components_log_prob.logsumexp(0))
        smoothed, k = psis(log_weights)
        done.append(Round(mixture, float(k), float(kish_size(smoothed)) / draws))
        good = done[-1].pareto_k < GOOD_K and done[-1].share > GOOD_SHARE
        ranks = [round_.rank for round_ in done]
        stalled = number >= PATIENCE and max(ranks) not in ranks[-PATIENCE:]
        if good or stalled:
            break
        heat = _tempered(smoothed, min(float(SHARE * target.dim), draws / 4))
        weights = (heat * smoothed).softmax(0)
        if len(mixture.weights) < components and (heat == 1.0 or number >= 2):
            mixture = _scattered(points, weights, mixture, components)
            updates = 8
        else:
            updates = 3
        expectation = _Expectation(points, weights)
        for _ in range(updates):
            mixture = expectation.step(mixture)
    return done


def replaced(mixture: StudentMixture, dof: float) -> StudentMixture:
    """The mixture with other degrees of freedom."""
    return StudentMixture(mixture.weights, mixture.locs, mixture.scale_trils, dof)


def finite(log_weights: Float[Tensor, "n *many"]) -> Float[Tensor, "n *many"]:
    """Weights of draws outside the target's support, or where it isn't a number, are zero."""
    return torch.where(torch.isfinite(log_weights), log_weights, -torch.inf)


def _tempered(log_weights: Tensor, wanted: float) -> float:
    """The largest power, up to one, at which so many draws are effective."""
    if float(kish_size(log_weights)) >= wanted:
        return 1.0
    low, high = 0.0, 1.0
    for _ in range(25):
        middle = (low + high) / 2
        # -inf times zero isn't a number.
        enough = float(kish_size((middle * log_weights).nan_to_num(nan=0.0, neginf=-torch.inf))) >= wanted
        low, high = (middle, high) if enough else (low, middle)
    return low


class _Expectation:
    """Expectation maximisation on weighted points, by the products of their coordinates.

    Squared distances are polynomials of degree two, and what a step sums up are the same products with other weights:
    two products of matrices. The coordinates are those in which the weighted points have mean zero and unit
    covariance, so rounding does no harm to components wider than 1e-7 of all of them.

    Args:
        points: (n, dim).
        weights: They sum to one, (n,).
    """

    def __init__(self, points: Float[Tensor, "n dim"], weights: Float[Tensor, " n"]) -> None:
        self.weights = weights
        self.centre = weights @ points
        away = points - self.centre
        root, failed = torch.linalg.cholesky_ex((away * weights[:, None]).T @ away)
        self.root = torch.diag(points.std(0)) if int(failed) else root
        self.whitened = torch.linalg.solve_triangular(self.root, away.T, upper=False)
        self.pairs = torch.tril_indices(len(self.root), len(self.root))
        self.products = self._products(self.whitened) if self.whitened.shape[1] <= self._block else None

    @property
    def _block(self) -> int:
        """Points whose products are held at once."""
        return max(1, LARGEST_PRODUCTS // self.pairs.shape[1])

    def _products(self, points: Tensor) -> Tensor:
        """One, the coordinates, and the products of two of points (dim, n): (terms, n)."""
        dim, n = points.shape
        found = points.new_ones(1 + dim + self.pairs.shape[1], n)
        found[1 : dim + 1] = points
        for i, part in enumerate(found[dim + 1 :].split(list(range(1, dim + 1)))):
            torch.mul(points[i], points[: i + 1], out=part)
        return found

    def _blocks(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Products and weights, block by block."""
        if self.products is not None:
            yield self.products, self.weights
            return
        parts = zip(self.whitened.split(self._block, 1), self.weights.split(self._block), strict=True)
        for points, weights in parts:
            yield self._products(points), weights

    def step(self, mixture: StudentMixture) -> StudentMixture:
        """The mixture after one step."""
        dim, k = len(self.root), len(mixture.weights)
        first, second = self.pairs
        locs = torch.linalg.solve_triangular(self.root, (mixture.locs - self.centre).T, upper=False).T
        scale_trils = torch.linalg.solve_triangular(self.root, mixture.scale_trils, upper=False)
        before = StudentMixture(mixture.weights, locs, scale_trils, mixture.dof)
        identity = torch.eye(dim, dtype=torch.float64).expand(k, dim, dim)
        inverse = torch.linalg.solve_triangular(scale_trils, identity, upper=False)
        precisions = inverse.mT @ inverse
        slopes = (precisions @ locs[:, :, None])[:, :, 0]
        quadratic = precisions[:, first, second] * torch.where(first == second, 1.0, 2.0)
        polynomials = torch.cat([(slopes * locs).sum(1, keepdim=True), -2 * slopes, quadratic], 1)

        totals, squares = torch.zeros(2, k, dtype=torch.float64)
        sums = torch.zeros_like(polynomials)
        for products, weights in self._blocks():
            distances = (polynomials @ products).clamp(min=0)
            belong = weights * before.component_log_probs(distances).softmax(0)
            scaled = belong * (mixture.dof + dim) / (mixture.dof + distances)
            totals, squares = totals + belong.sum(1), squares + belong.square().sum(1)
            sums += scaled @ products.T

        shares = (totals + 1e-3) / (totals + 1e-3).sum()
        held = (totals > 1e-6)[:, None]
        locs = torch.where(held, sums[:, 1 : dim + 1] / sums[:, :1].clamp(min=1e-300), locs)
        moments = torch.empty(k, dim, dim, dtype=torch.float64)
        moments[:, first, second] = moments[:, second, first] = sums[:, dim + 1 :]
        away = moments - sums[:, :1, None] * locs[:, :, None] * locs[:, None]
        covariances = away / totals.clamp(min=1e-300)[:, None, None]
        # A component with few effective points keeps part of the covariance that it had.
        effective = totals**2 / squares.clamp(min=1e-300)
        keep = (0.5 * dim / effective.clamp(min=1e-9)).clamp(max=0.5)[:, None, None]
        keep = torch.where(held[:, :, None], keep, 1.0)
        mixed = (1 - keep) * covariances.nan_to_num(0.0) + keep * scale_trils @ scale_trils.mT
        factors, failed = torch.linalg.cholesky_ex(mixed)
        scale_trils = torch.where((failed == 0)[:, None, None], factors, scale_trils)
        return StudentMixture(shares, self.centre + locs @ self.root.T, self.root @ scale_trils, mixture.dof)


def _scattered(points: Tensor, weights: Tensor, mixture: StudentMixture, components: int) -> StudentMixture:
    """Components around points far from each other, each a little narrower than all of them."""
    dim = points.shape[1]
    centre = weights @ points
    away = points - centre
    covariance = (away * weights[:, None]).T @ away
    spread = covariance.diagonal()
    scale_tril, failed = torch.linalg.cholesky_ex(covariance + 1e-10 * torch.diag(spread))
    if int(failed) or len(mixture.weights) > 1:
        scale_tril = mixture.scale_trils[int(mixture.weights.argmax())]
    whitened = torch.linalg.solve_triangular(scale_tril, away.T, upper=False).T
    locs = centre + whitened[_spread(whitened, weights, components)] @ scale_tril.T
    equal = torch.full((components,), 1 / components, dtype=torch.float64)
    return StudentMixture(equal, locs, 0.8 * scale_tril.expand(components, dim, dim), mixture.dof)


def _spread(points: Tensor, weights: Tensor, number: int) -> Tensor:
    """Indices of points drawn one after the other by weight and squared distance from those before (k-means++)."""
    chosen = [int(torch.multinomial(weights, 1))]
    nearest = (points - points[chosen[0]]).square().sum(1)
    while len(chosen) < number:
        chosen.append(int(torch.multinomial(weights * nearest + 1e-300, 1)))
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).square().sum(1))
    return torch.tensor(chosen)
