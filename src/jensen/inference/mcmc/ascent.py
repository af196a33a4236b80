"""Ways uphill for many starting points at once, by limited-memory quasi-Newton steps."""

from dataclasses import dataclass

import numpy as np

from jensen.inference.mcmc.density import Array
from jensen.inference.mcmc.leapfrog import Evaluate

_MEMORY = 10
_ENOUGH = 1e-4
"""The share of a step's promise that it has to keep."""
_HALVINGS = 12


@dataclass(frozen=True)
class Ascent:
    """Where the ways have led.

    Attributes:
        points: (n, dim).
        value: Log-densities there, (n,).
        slope: Gradients there, (n, dim).
    """

    points: Array
    value: Array
    slope: Array


def _direction(slope: Array, steps: list[Array], bends: list[Array]) -> Array:
    """The quasi-Newton direction uphill from the last steps and the changes of the negative gradient along them."""
    q = slope
    shares: list[tuple[Array, Array]] = []
    size = np.ones(len(slope))
    for s, y in zip(reversed(steps), reversed(bends), strict=True):
        curved = np.einsum("nd,nd->n", s, y)
        # Where the density isn't curved downward along a step it teaches nothing.
        inverse = np.where(curved > 0, 1 / np.where(curved > 0, curved, 1.0), 0.0)
        share = inverse * np.einsum("nd,nd->n", s, q)
        shares.append((inverse, share))
        q = q - share[:, None] * y
    if steps:
        s, y = steps[-1], bends[-1]
        curved, square = np.einsum("nd,nd->n", s, y), np.einsum("nd,nd->n", y, y)
        size = np.where((curved > 0) & (square > 0), curved / np.where(square > 0, square, 1.0), 1.0)
    r = size[:, None] * q
    for (inverse, share), s, y in zip(reversed(shares), steps, bends, strict=True):
        back = inverse * np.einsum("nd,nd->n", y, r)
        r = r + (share - back)[:, None] * s
    return r


def ascend(density: Evaluate, points: Array, iterations: int, tolerance: float = 1e-3) -> Ascent:
    """Climbs from each point until the next step promises less than the tolerance, or for so many iterations.

    Args:
        density: Values and gradients of n points.
        points: (n, dim), of finite log-density.
        iterations: At most.
        tolerance: Nats that a whole step has to promise.

    Returns:
        Where the ways have led; no lower than they began.
    """
    value, slope = density(points)
    steps: list[Array] = []
    bends: list[Array] = []
    for _ in range(iterations):
        direction = _direction(slope, steps, bends)
        promise = np.einsum("nd,nd->n", slope, direction)
        uphill = promise > 0
        direction = np.where(uphill[:, None], direction, slope)
        promise = np.where(uphill, promise, np.einsum("nd,nd->n", slope, slope))
        going = promise > 2 * tolerance
        if not going.any():
            break
        length = np.ones(len(points))
        if not steps:
            length = np.minimum(1.0, 1 / np.sqrt(np.maximum(promise, 1e-300)))
        reached, new_value, new_slope = points, value, slope
        searching = going.copy()
        for _ in range(_HALVINGS):
            trial = points + np.where(searching, length, 0.0)[:, None] * direction
            trial_value, trial_slope = density(trial)
            better = searching & (trial_value >= value + _ENOUGH * length * promise)
            reached = np.where(better[:, None], trial, reached)
            new_value = np.where(better, trial_value, new_value)
            new_slope = np.where(better[:, None], trial_slope, new_slope)
            searching &= ~better
            if not searching.any():
                break
            length = length / 4
        if (going & searching).sum() == going.sum():
            break
        steps = [*steps[1 - _MEMORY :], reached - points]
        bends = [*bends[1 - _MEMORY :], slope - new_slope]
        points, value, slope = reached, new_value, new_slope
    return Ascent(points, value, slope)
