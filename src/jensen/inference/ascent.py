"""Maxima of a smooth function from several starts at once, by limited-memory quasi-Newton steps (L-BFGS)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

Array = NDArray[np.float64]

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

    def evaluated(points: Array) -> tuple[Array, Array]:
        values, gradients = function(torch.from_numpy(points))
        return values.numpy(force=True), gradients.numpy(force=True)

    with np.errstate(all="ignore"):
        points = starts.numpy(force=True).copy()
        values, gradients = evaluated(points)
        count, dim = points.shape
        curvature = _Curvature(count, dim, memory)
        directions = first_step * _unit(gradients)
        slopes = (directions * gradients).sum(1)
        lengths, low, high = np.ones(count), np.zeros(count), np.full(count, np.inf)
        done = np.abs(slopes) <= 1e-300
        trials = np.zeros(count)
        for used in range(1, evaluations + 1):
            if done.all():
                break
            trial = points + np.where(done, 0.0, lengths)[:, None] * directions
            new_values, new_gradients = evaluated(trial)
            finite = np.isfinite(new_values) & np.isfinite(new_gradients).all(1)
            risen = finite & (new_values >= values + SUFFICIENT * lengths * slopes)
            flat = (np.where(finite[:, None], new_gradients, 0.0) * directions).sum(1) <= CURVATURE * slopes
            trials += 1
            accept = ~done & risen & (flat | (trials > 30))
            high = np.where(risen, high, lengths)
            low = np.where(risen & ~flat, lengths, low)
            lengths = np.where(np.isinf(high), 2 * lengths, (low + high) / 2)
            stuck = ~done & ~accept & (trials > 60)
            if accept.any():
                step, change = trial - points, gradients - new_gradients
                product = (step * change).sum(1)
                usable = accept & (product > 1e-14 * _lengths(step) * _lengths(change))
                curvature.learn(step, change, usable)
                points = np.where(accept[:, None], trial, points)
                values = np.where(accept, new_values, values)
                gradients = np.where(accept[:, None], new_gradients, gradients)
                directions = np.where(accept[:, None], curvature.direction(gradients), directions)
                slopes = np.where(accept, (directions * gradients).sum(1), slopes)
                lengths[accept], low[accept], high[accept], trials[accept] = 1.0, 0.0, np.inf, 0.0
                done = done | (accept & (slopes / 2 < tolerance))
            done = done | stuck
            if progress is not None:
                progress(used, torch.from_numpy(values))
        else:
            used = evaluations
        converged = slopes / 2 < max(tolerance, 1e-6)
    points, values, gradients, converged = map(torch.from_numpy, (points, values, gradients, converged))
    return Ascent(points, values, gradients, converged, used)


def _unit(gradients: Array) -> Array:
    return gradients / np.maximum(_lengths(gradients), 1e-300)[:, None]


def _lengths(vectors: Array) -> Array:
    return np.sqrt((vectors * vectors).sum(1))


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
        self.steps = np.zeros((count, memory, dim))
        self.changes = np.zeros((count, memory, dim))
        self.products = np.tile(np.eye(memory), (count, 1, 1))
        self.squares = np.zeros((count, memory, memory))

    def learn(self, step: Array, change: Array, usable: Bool[np.ndarray, " count"]) -> None:
        """Takes in a pair of each search.

        Args:
            step: (count, dim).
            change: Of the negative gradient, (count, dim).
            usable: Whether the pair is to be taken in, (count,).
        """
        if not usable.any():
            return
        # All of them at once where all searches go on.
        rows: Any = slice(None) if usable.all() else usable
        step, change = step[rows], change[rows]
        root = np.sqrt((step * change).sum(1, keepdims=True))
        step, change = step / root, change / root
        for kept, new in ((self.steps, step), (self.changes, change)):
            kept[rows, :-1] = kept[rows, 1:]
            kept[rows, -1] = new
        for kept, pairs in ((self.products, self.steps), (self.squares, self.changes)):
            column = (pairs[rows] @ change[:, :, None])[:, :, 0]
            kept[rows, :-1, :-1] = kept[rows, 1:, 1:]
            kept[rows, -1, :], kept[rows, :, -1] = column, column

    def direction(self, gradients: Array) -> Array:
        """The inverse Hessians times the gradients, (count, dim); before the first pair, of length one."""
        last = self.squares[:, -1, -1]
        unit = (1 / np.where(last > 0, last, np.maximum(_lengths(gradients), 1e-300)))[:, None, None]
        column = gradients[:, :, None]
        inner = self._solved(self.steps @ column)
        outer = self._solved(inner + unit * (self.squares @ inner - self.changes @ column), transposed=True)
        return (unit * (column - _turned(self.changes) @ inner) + _turned(self.steps) @ outer)[:, :, 0]

    def _solved(self, columns: Array, *, transposed: bool = False) -> Array:
        """R^-1 times columns (count, memory, 1), or R^-T."""
        triangles = torch.from_numpy(self.products)
        triangles = triangles.mT if transposed else triangles
        right = torch.from_numpy(columns)
        return torch.linalg.solve_triangular(triangles, right, upper=not transposed).numpy()


def _turned(matrices: Array) -> Array:
    return matrices.transpose(0, 2, 1)
