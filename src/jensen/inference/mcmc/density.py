"""A target's density in coordinates in which it is about as wide in all directions."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from jensen.inference.target import Target

Array = npt.NDArray[Any]
"""Samplers that take a gradient at each step keep their books in NumPy: small operations cost a third there."""


@dataclass(frozen=True)
class Metric:
    r"""The linear map :math:`u = c + F z` from whitened coordinates z to a target's unconstrained ones u.

    A Hamiltonian sampler with unit masses in z is one with the inverse mass matrix :math:`F F^\top` in u.

    Attributes:
        centre: c, (dim,).
        factor: F, lower triangular (dim, dim), or its diagonal (dim,).
    """

    centre: Array
    factor: Array

    @property
    def dense(self) -> bool:
        """Whether coordinates are mixed."""
        return self.factor.ndim == 2

    @property
    def covariance(self) -> Array:
        """F F^T, (dim, dim), or the variances (dim,)."""
        return self.factor @ self.factor.T if self.dense else self.factor**2

    def outward(self, z: Array) -> Array:
        """From whitened coordinates (..., dim) to the target's."""
        return self.centre + (z @ self.factor.T if self.dense else z * self.factor)

    def inward(self, u: Array) -> Array:
        """From the target's coordinates (..., dim) to whitened ones."""
        difference = u - self.centre
        if not self.dense:
            return difference / self.factor
        flat = difference.reshape(-1, difference.shape[-1])
        return np.linalg.solve(self.factor, flat.T).T.reshape(difference.shape)

    def gradient(self, slope: Array) -> Array:
        """Of a gradient in the target's coordinates (n, dim) that in whitened ones."""
        return slope @ self.factor if self.dense else slope * self.factor


class Density:
    """Values and gradients of a target's log-density in whitened coordinates; counts its calls.

    Where the log-density or its gradient isn't a finite number it is -inf with gradient zero, so that a path ends.

    Args:
        target: Of the density.
        metric: The coordinates.
    """

    def __init__(self, target: Target, metric: Metric) -> None:
        self.target = target
        self.metric = metric
        self.calls = 0

    def __call__(self, z: Array) -> tuple[Array, Array]:
        """At (n, dim): (n,) nats and (n, dim)."""
        self.calls += 1
        value, slope = evaluate(self.target, self.metric.outward(z))
        return value, self.metric.gradient(slope)


def evaluate(target: Target, u: Array) -> tuple[Array, Array]:
    """Log-density (n,) and gradient (n, dim) at unconstrained points; -inf and 0 where they aren't finite."""
    values, slopes = target.value_and_gradient(torch.from_numpy(np.ascontiguousarray(u)))
    value: Array = values.numpy(force=True)
    slope: Array = slopes.numpy(force=True)
    # One sum says whether all is finite, nearly always.
    if not np.isfinite(value.sum() + slope.sum()):
        good = np.isfinite(value) & np.isfinite(slope).all(1)
        value = np.where(good, value, -np.inf)
        slope = np.where(good[:, None], slope, 0.0)
    return value, slope
