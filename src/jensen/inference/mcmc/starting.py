"""Where chains begin: around the modes that are found from many sides, or where the user says."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jensen.errors import DataError, ShapeError
from jensen.inference.ascent import ascend
from jensen.inference.mcmc.density import Array, Density, Metric, evaluate
from jensen.inference.start import hessian
from jensen.inference.target import Target

_FIRST, _SECOND = 60, 40
"""Steps uphill before and after the coordinates are whitened, those that are taken back included."""
_PROMISE = 1e-3
"""Nats that a further step uphill has to promise."""
_PAIRS = 10
"""Steps that the way uphill remembers."""
_OVERDISPERSED = 1.5
"""Starting points lie so many standard deviations of the mode's normal distribution from it, where they can."""
_FLAT = 1e-3
"""A curvature below so much of the largest one, in coordinates that were whitened before, is of a flat direction."""
_DENSE_DIM = 150
"""Up to so many coordinates a full covariance is estimated."""


@dataclass(frozen=True)
class Start:
    """Where chains begin.

    Attributes:
        points: Unconstrained, (chains, dim).
        metric: Coordinates to begin in.
        curved: Whether these coordinates come from the curvature at a mode.
    """

    points: Array
    metric: Metric
    curved: bool


def is_dense(kind: str, dim: int) -> bool:
    """Whether a metric of this kind is a full covariance."""
    return kind == "dense" or (kind == "auto" and dim <= _DENSE_DIM)


def given_points(target: Target, init: Mapping[str, Any] | Tensor, chains: int) -> Array:
    """The user's starting points, (chains, dim).

    Raises:
        ShapeError: If there are neither one nor as many as chains.
        DataError: If a value isn't finite or lies outside its support.
    """
    points = target.unconstrain(init) if isinstance(init, Mapping) else _numbers(init)
    if not bool(points.isfinite().all()):
        raise DataError(f"init holds {int((~points.isfinite()).sum())} numbers that are not finite")
    if points.ndim == 1:
        points = points.expand(chains, -1)
    if tuple(points.shape) != (chains, target.dim):
        raise ShapeError(
            f"init has shape {tuple(points.shape)} in unconstrained coordinates; for {chains} chains of this target it "
            f"is ({target.dim},) or ({chains}, {target.dim}), or a dict with a value of each parameter"
        )
    return points.numpy(force=True).copy()


def _numbers(init: Any) -> Tensor:
    try:
        return torch.as_tensor(init).double()
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"init is a dict with a value of each parameter or a tensor of unconstrained points, got {init!r}"
        ) from error


def check_finite(target: Target, points: Array) -> None:
    """Looks at the log-joint where chains begin.

    Raises:
        DataError: If it isn't finite at a point.
    """
    values = target.plain_log_prob(torch.from_numpy(points))
    wrong = torch.nonzero(~values.isfinite())[:, 0]
    if len(wrong):
        chain = int(wrong[0])
        where = {
            name: value[0].tolist()
            for name, value in target.constrain(torch.from_numpy(points[[chain]])).items()
        }
        raise DataError(
            f"the log-joint is {float(values[chain])} at the starting point of {len(wrong)} of {len(points)} chains, "
            f"such as {where}; begin where it is finite, or leave init out"
        )


class _Slope:
    """A density for searches in torch, always called with the same number of points, as recordings of it want."""

    def __init__(self, density: Density, rows: int) -> None:
        self.density = density
        self.rows = rows

    def __call__(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Values (n,) and gradients (n, dim)."""
        n = len(points)
        filled = np.concatenate([points.numpy(), np.repeat(points[:1].numpy(), -n % self.rows, 0)])
        parts = [self.density(part) for part in filled.reshape(-1, self.rows, filled.shape[1])]
        value, slope = (np.concatenate(found)[:n] for found in zip(*parts, strict=True))
        return torch.from_numpy(value), torch.from_numpy(slope)

    def climb(self, points: Array, steps: int) -> tuple[Array, Array]:
        """Where ways uphill from points (n, dim) lead, and the log-densities there."""
        end = ascend(self, torch.from_numpy(points), tolerance=_PROMISE, evaluations=steps, memory=_PAIRS)
        return end.points.numpy(), end.values.numpy()


def _whitened(slope: _Slope, point: Array) -> tuple[Metric, bool]:
    """Coordinates by the curvature at a point, and whether the density is a peak there."""
    density = slope.density
    curvature: Array = -hessian(slope, torch.from_numpy(point)).numpy()
    if not np.isfinite(curvature).all():
        return density.metric, False
    values, vectors = np.linalg.eigh(curvature)
    largest = np.abs(values).max()
    if largest == 0:
        return density.metric, False
    widths = 1 / np.sqrt(np.maximum(np.abs(values), 1e-12 * largest))
    # Any square root of the covariance does; a triangular one is what Metric holds.
    root = density.metric.factor if density.metric.dense else np.diag(density.metric.factor)
    upper: Array = np.asarray(np.linalg.qr((root @ (vectors * widths)).T, mode="r"))
    factor = (upper * np.sign(np.diag(upper))[:, None]).T
    peak = bool(values.min() > _FLAT * largest)
    return Metric(density.metric.outward(point), factor), peak


def find_start(target: Target, chains: int, dense: bool, generator: np.random.Generator) -> Start:
    """Climbs from scattered points, whitens the coordinates by the curvature at the top, and spreads chains around it.

    A chain begins around the mode that its own way led to, if that one can hold mass. Where there is no peak (an
    unbounded density, a flat direction) chains begin at scattered points, in the target's own coordinates.

    Args:
        target: Of the chains.
        chains: How many.
        dense: Whether the coordinates are mixed.
        generator: Of the spread.

    Returns:
        Points with a finite log-density.
    """
    scattered = target.starting_points(chains, int(generator.integers(2**31))).numpy(force=True)
    plain = Metric(np.zeros(target.dim), np.ones(target.dim))
    uphill = _Slope(Density(target, plain), chains)
    points, values = uphill.climb(scattered, _FIRST)
    metric, _ = _whitened(uphill, points[values.argmax()])
    uphill = _Slope(Density(target, metric), chains)
    points, values = uphill.climb(metric.inward(points), _SECOND)
    best = int(values.argmax())
    tops = metric.outward(points)
    metric, peak = _whitened(uphill, points[best])
    _, slope = evaluate(target, tops)
    # What a whole Newton step would still gain at the top.
    left = 0.5 * np.square(metric.gradient(slope)[best]).sum()
    if not peak or left > 0.1 * target.dim:
        return Start(scattered, plain, False)
    tops[values < values[best] - 20 - 2 * target.dim] = tops[best]
    spread = _OVERDISPERSED * (metric.outward(generator.standard_normal(tops.shape)) - metric.centre)
    lowest = values[best] - 40 - 5 * target.dim
    for _ in range(20):
        low = evaluate(target, tops + spread)[0] < lowest
        if not low.any():
            break
        spread[low] *= 0.5
    if not dense:
        metric = Metric(metric.centre, np.sqrt(np.diag(metric.covariance)))
    return Start(tops + spread, metric, True)
