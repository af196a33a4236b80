"""Maxima of a smooth function from several starts at once, by limited-memory quasi-Newton steps (L-BFGS)."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

Values = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From points (n, dim) to values (n,) and gradients (n, dim)."""

SUFFICIENT = 1e-4
"""Of the increase that the slope promises, a step has to reach this part."""
CURVATURE = 0.9
"""The slope after a step is at most this part of the slope before it."""


@dataclass(frozen=True)
class Ascent:
    """Where the searches ended.

    Attributes:
        points: The best of each search, (starts, dim).
        values: There, (starts,).
        gradients: There, (starts, dim).
        converged: Whether a further step would gain less than the tolerance, (starts,).
        evaluations: Calls of the function, each at one point of every search.
    """

    points: Float[Tensor, "starts dim"]
    values: Float[Tensor, " starts"]
    gradients: Float[Tensor, "starts dim"]
    converged: Bool[Tensor, " starts"]
    evaluations: int


def ascend(
    function: Values,
    starts: Float[Tensor, "starts dim"],
    *,
    tolerance: float = 1e-9,
    evaluations: int = 500,
    memory: int = 30,
    first_step: float = 1.0,
    progress: Callable[[int, Tensor], None] | None = None,
) -> Ascent:
    """Climbs from all starts together: one call of the function moves each search by one trial.

    Steps satisfy the weak Wolfe conditions, found by bisection; points where the function isn't finite are stepped
    back from.

    Args:
        function: Values and gradients at many points.
        starts: (starts, dim), where the function is finite.
        tolerance: A search ends if the next quasi-Newton step promises a smaller gain.
        evaluations: At most so many calls.
        memory: Pairs of steps and changes of the gradient that are kept.
        first_step: Length of the first trial.
        progress: Told the number of calls and the values, after each call.

    Returns:
        The end of each search.

    Source: Nonsmooth optimization via quasi-Newton methods, 2013, https://doi.org/10.1007/s10107-012-0514-2 (the
    line search); Representations of quasi-Newton matrices and their use in limited memory methods, 1994,
    https://doi.org/10.1007/BF01582063 (the directions).

    Example:
        >>> end = ascend(lambda x: (-(x**4).sum(1), -4 * x**3), torch.ones(1, 2).double())
        >>> bool(end.converged), bool(end.points.abs().max() < 0.01)
        (True, True)
    """
    points = starts.clone()
    values, gradients = function(points)
    count, dim = points.shape
    curvature = _Curvature(count, dim, memory)
    directions = first_step * _unit(gradients)
    slopes = (directions * gradients).sum(1)
    lengths, low = torch.ones_like(values), torch.zeros_like(values)
    high = torch.full_like(values, torch.inf)
    done = slopes.abs() <= 1e-300
    trials = torch.zeros(count)
    for used in range(1, evaluations + 1):
        if done.all():
            break
        trial = points + torch.where(done, 0.0, lengths)[:, None] * directions
        new_values, new_gradients = function(trial)
        finite = torch.isfinite(new_values) & torch.isfinite(new_gradients).all(1)
        risen = finite & (new_values >= values + SUFFICIENT * lengths * slopes)
        flat = (torch.where(finite[:, None], new_gradients, 0.0) * directions).sum(1) <= CURVATURE * slopes
        trials += 1
        accept = ~done & risen & (flat | (trials > 30))
        high = torch.where(~risen, lengths, high)
        low = torch.where(risen & ~flat, lengths, low)
        lengths = torch.where(torch.isinf(high), 2 * lengths, (low + high) / 2)
        stuck = ~done & ~accept & (trials > 60)
        if accept.any():
            step, change = trial - points, gradients - new_gradients
            product = (step * change).sum(1)
            usable = accept & (product > 1e-14 * step.norm(dim=1) * change.norm(dim=1))
            curvature.learn(step, change, usable)
            points = torch.where(accept[:, None], trial, points)
            values = torch.where(accept, new_values, values)
            gradients = torch.where(accept[:, None], new_gradients, gradients)
            fresh = curvature.direction(gradients)
            fresh_slopes = (fresh * gradients).sum(1)
            directions = torch.where(accept[:, None], fresh, directions)
            slopes = torch.where(accept, fresh_slopes, slopes)
            lengths = torch.where(accept, 1.0, lengths)
            low, high = torch.where(accept, 0.0, low), torch.where(accept, torch.inf, high)
            trials = torch.where(accept, 0.0, trials)
            done = done | (accept & (slopes / 2 < tolerance))
        done = done | stuck
        if progress is not None:
            progress(used, values)
    else:
        used = evaluations
    return Ascent(points, values, gradients, slopes / 2 < max(tolerance, 1e-6), used)


def _unit(gradients: Tensor) -> Tensor:
    return gradients / gradients.norm(dim=1, keepdim=True).clamp(min=1e-300)


class _Curvature:
    """The inverse Hessian of each search, as the last steps and changes of the gradient imply it.

    With steps S and changes Y (memory, dim), each pair scaled to s . y = 1, R the upper triangle of S Y^T, and
    c = 1 / y . y of the last pair, it is c I + S^T R^-T (I + c Y Y^T) R^-1 S - c S^T R^-T Y - c Y^T R^-1 S: the same as
    the two loops over the pairs, in a few operations for all searches.

    Args:
        count: Searches.
        dim: Dimensions.
        memory: Pairs that are kept, the newest last; a place without one has zeros, and one in R's diagonal.
    """

    def __init__(self, count: int, dim: int, memory: int) -> None:
        self.steps = torch.zeros(count, memory, dim, dtype=torch.float64)
        self.changes = torch.zeros(count, memory, dim, dtype=torch.float64)
        self.products = torch.eye(memory, dtype=torch.float64).repeat(count, 1, 1)
        self.squares = torch.zeros(count, memory, memory, dtype=torch.float64)

    def learn(self, step: Tensor, change: Tensor, usable: Tensor) -> None:
        """Takes in a pair of each search.

        Args:
            step: (count, dim).
            change: Of the negative gradient, (count, dim).
            usable: Whether the pair is to be taken in, (count,).
        """
        root = (step * change).sum(1, keepdim=True).clamp(min=1e-300).sqrt()
        step, change = (step / root)[:, None], (change / root)[:, None]
        chosen = usable[:, None, None]
        self.steps = torch.where(chosen, torch.cat([self.steps[:, 1:], step], 1), self.steps)
        self.changes = torch.where(chosen, torch.cat([self.changes[:, 1:], change], 1), self.changes)
        self.products = torch.where(chosen, _moved(self.products, self.steps @ change.mT), self.products)
        self.squares = torch.where(chosen, _moved(self.squares, self.changes @ change.mT), self.squares)

    def direction(self, gradients: Tensor) -> Tensor:
        """The inverse Hessians times the gradients, (count, dim); before the first pair, of length one."""
        last = self.squares[:, -1:, -1:]
        unit = torch.where(last > 0, 1 / last, 1 / gradients.norm(dim=1)[:, None, None].clamp(min=1e-300))
        column = gradients[:, :, None]
        inner = torch.linalg.solve_triangular(self.products, self.steps @ column, upper=True)
        outer = inner + unit * (self.squares @ inner - self.changes @ column)
        outer = torch.linalg.solve_triangular(self.products.mT, outer, upper=False)
        return (unit * (column - self.changes.mT @ inner) + self.steps.mT @ outer)[:, :, 0]


def _moved(matrices: Tensor, column: Tensor) -> Tensor:
    """Symmetric matrices (count, m, m) without their first row and column, and with a new last one (count, m, 1)."""
    rest = torch.cat([matrices[:, 1:, 1:], column[:, :-1].mT], 1)
    return torch.cat([rest, column], 2)
