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
    line search); On the limited memory BFGS method, 1989, https://doi.org/10.1007/BF01589116.

    Example:
        >>> end = ascend(lambda x: (-(x**4).sum(1), -4 * x**3), torch.ones(1, 2).double())
        >>> bool(end.converged), bool(end.points.abs().max() < 0.01)
        (True, True)
    """
    points = starts.clone()
    values, gradients = function(points)
    count, dim = points.shape
    steps = points.new_zeros(memory, count, dim)
    changes = points.new_zeros(memory, count, dim)
    inverse = points.new_zeros(memory, count)  # 1 / (step . change); zero where there is no pair
    directions = gradients / gradients.norm(dim=1, keepdim=True).clamp(min=1e-300) * first_step
    slopes = (directions * gradients).sum(1)
    lengths, low = torch.ones_like(values), torch.zeros_like(values)
    high = torch.full_like(values, torch.inf)
    done = slopes.abs() <= 1e-300
    newest = torch.zeros(count, dtype=torch.long)
    rows = torch.arange(count)
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
            where = rows[usable]
            place = newest[usable] % memory
            steps[place, where], changes[place, where] = step[usable], change[usable]
            inverse[place, where] = 1 / product[usable]
            newest[usable] += 1
            points = torch.where(accept[:, None], trial, points)
            values = torch.where(accept, new_values, values)
            gradients = torch.where(accept[:, None], new_gradients, gradients)
            fresh = _directions(gradients, steps, changes, inverse, newest, memory)
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


def _directions(
    gradients: Tensor, steps: Tensor, changes: Tensor, inverse: Tensor, newest: Tensor, memory: int
) -> Tensor:
    """The inverse Hessian that the pairs stand for, times the gradient: two loops over the pairs."""
    rows = torch.arange(len(gradients))
    order = [(newest - 1 - back) % memory for back in range(min(memory, int(newest.max())))]
    result, weights = gradients, []
    for place in order:
        weight = inverse[place, rows] * (steps[place, rows] * result).sum(1)
        result = result - weight[:, None] * changes[place, rows]
        weights.append(weight)
    last = (newest - 1) % memory
    curvature = (changes[last, rows] ** 2).sum(1) * inverse[last, rows]
    scale = torch.where(curvature > 0, 1 / curvature, 1 / gradients.norm(dim=1).clamp(min=1e-300))
    result = scale[:, None] * result
    for place, weight in zip(reversed(order), reversed(weights), strict=True):
        back = inverse[place, rows] * (changes[place, rows] * result).sum(1)
        result = result + (weight - back)[:, None] * steps[place, rows]
    return result
