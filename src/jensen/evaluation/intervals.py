"""Whether the quantiles of a regressor come true: coverage and width of its central intervals."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from jensen.errors import ConfigError, ShapeError
from jensen.weights import Predictive

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Probabilities of the intervals that are looked at."""


@dataclass(frozen=True)
class Coverage:
    """How many targets central intervals hold.

    Attributes:
        levels: The intervals' probabilities, (L,).
        coverage: The share of targets within, (L,).
        standard_error: Of that share over data, (L,).
        width: Mean width in the targets' unit, (L,).
    """

    levels: NDArray[np.float64]
    coverage: NDArray[np.float64]
    standard_error: NDArray[np.float64]
    width: NDArray[np.float64]

    @property
    def calibration_error(self) -> float:
        """Mean absolute difference of coverage and level; biased upwards by about 0.8 standard errors."""
        return float(np.abs(self.coverage - self.levels).mean())


def interval_coverage(predictive: Predictive, y: Any, levels: Sequence[float] = LEVELS) -> Coverage:
    """The coverage of a predictive's central intervals, between the quantiles (1 - p) / 2 and (1 + p) / 2.

    Args:
        predictive: Of n data, of targets that have an order.
        y: Targets in the same unit, (n,) or as the predictive's mean.
        levels: The intervals' probabilities p, between 0 and 1.

    Returns:
        Coverage and width for each level.

    Raises:
        ConfigError: If a level isn't between 0 and 1, or the targets are classes.
        ShapeError: If the targets have another shape than the predictions.

    Example:
        >>> from jensen.weights.likelihoods import NormalLikelihood
        >>> from jensen.weights import MixturePredictive
        >>> found = MixturePredictive(NormalLikelihood(1.0), torch.zeros(1, 4, 1))
        >>> interval_coverage(found, [0.0, 0.5, -0.5, 9.0], [0.5]).coverage
        array([0.75])
    """
    p = np.asarray(levels, np.float64)
    if p.ndim != 1 or not ((p > 0) & (p < 1)).all():
        raise ConfigError(f"levels of intervals lie between 0 and 1, got {levels}")
    ends = predictive.quantiles([*((1 - p) / 2).tolist(), *((1 + p) / 2).tolist()]).double().cpu().numpy()
    low, high = ends[: len(p)], ends[len(p) :]
    targets = torch.as_tensor(y).double().cpu().numpy()
    if targets.shape != low.shape[1:]:
        raise ShapeError(f"wanted targets of shape {low.shape[1:]}, got {targets.shape}")
    axes = tuple(range(1, low.ndim))
    inside = ((low <= targets) & (targets <= high)).mean(axes)
    return Coverage(p, inside, np.sqrt(inside * (1 - inside) / len(targets)), (high - low).mean(axes))
