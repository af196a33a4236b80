"""Ranking by uncertainty: the reject option, and telling unknown data from known ones."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from jensen.errors import DataError, ShapeError

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class RiskCoverage:
    """The risk on the data that are kept when the most uncertain are rejected.

    Attributes:
        coverage: Shares of the data that are kept, 1/n, ..., 1, (n,).
        risk: Mean loss of those that are kept, (n,).
        best: The risk if data were rejected in the order of their losses, (n,): no uncertainty does better.
        standard_error: Of the risk over data, (n,), taking the order as given.
    """

    coverage: Floats
    risk: Floats
    best: Floats
    standard_error: Floats

    @property
    def area(self) -> float:
        """Under the curve (AURC): the mean risk over all coverages."""
        return float(self.risk.mean())

    @property
    def excess_area(self) -> float:
        """Between the curve and the best one; zero for a perfect ranking."""
        return float((self.risk - self.best).mean())

    def at(self, coverage: float) -> float:
        """The risk at a coverage, that of the nearest whole number of data."""
        place = min(max(round(coverage * len(self.risk)), 1), len(self.risk)) - 1
        return float(self.risk[place])


def risk_coverage(losses: Any, uncertainty: Any) -> RiskCoverage:
    """The selective-risk curve.

    Data of the same uncertainty are kept or rejected in a random order; the curve is the mean over these orders.

    Args:
        losses: Of each datum, (n,), as 0 and 1 of a classifier's errors or squared errors of a regressor.
        uncertainty: Of each datum, (n,), larger where it should be rejected first.

    Returns:
        The curve.

    Raises:
        ShapeError: If the arrays don't fit.

    Source: Selective classification for deep neural networks, 2017, https://arxiv.org/abs/1705.08500.

    Example:
        >>> risk_coverage([0, 1, 0, 0], [0.1, 0.9, 0.2, 0.3]).risk
        array([0.  , 0.  , 0.  , 0.25])
    """
    loss, doubt = _vector(losses, "losses"), _vector(uncertainty, "uncertainties")
    if len(loss) != len(doubt):
        raise ShapeError(f"got {len(loss)} losses and {len(doubt)} uncertainties; give one of each a datum")
    _, group, size = np.unique(doubt, return_inverse=True, return_counts=True)
    order = np.argsort(group, kind="stable")
    # Within a group of ties each datum has the group's mean loss.
    even = (np.bincount(group, loss) / size)[group[order]]
    kept = np.arange(1, len(loss) + 1)
    risk = np.cumsum(even) / kept
    squares = np.cumsum((np.bincount(group, loss**2) / size)[group[order]]) / kept
    error = np.sqrt(np.maximum(squares - risk**2, 0) / kept)
    best = np.cumsum(np.sort(loss)) / kept
    return RiskCoverage(kept / len(loss), risk, best, error)


@dataclass(frozen=True)
class Separation:
    """How well a score tells two sets of data apart.

    Attributes:
        auroc: Probability that an unknown datum has the larger score than a known one; ties count half.
        standard_error: Of it, over both sets.
    """

    auroc: float
    standard_error: float


def separation(known: Any, unknown: Any) -> Separation:
    r"""The area under the receiver operating characteristic of unknown against known data.

    .. math::
        A = \frac{1}{m n} \sum_{i, j} [u_i > k_j] + \tfrac12 [u_i = k_j]

    Args:
        known: Scores, as entropies or mutual informations, of data like those of the fit, (n,).
        unknown: Scores of data from elsewhere, (m,), which should be larger.

    Returns:
        The area and DeLong's standard error.

    Raises:
        ShapeError: If one isn't a vector, or is empty.
        DataError: If a score is NaN.

    Source: Comparing the areas under two or more correlated receiver operating characteristic curves, 1988,
    https://doi.org/10.2307/2531595.

    Example:
        >>> separation([0.1, 0.2], [0.2, 0.9]).auroc
        0.875
    """
    k, u = _vector(known, "scores"), _vector(unknown, "scores")
    n, m = len(k), len(u)
    ranks = rankdata(np.concatenate([k, u]))
    # Of each datum, the share of the other set on its right side.
    of_known = 1 - (ranks[:n] - rankdata(k)) / m
    of_unknown = (ranks[n:] - rankdata(u)) / n
    variance = sum(part.var(ddof=1) / len(part) for part in (of_known, of_unknown) if len(part) > 1)
    return Separation(float(of_unknown.mean()), sqrt(variance))


def _vector(values: Any, what: str) -> Floats:
    found = np.asarray(values, np.float64)
    if found.ndim != 1 or not len(found):
        raise ShapeError(f"wanted {what} (n,) of at least one datum, got shape {found.shape}")
    if np.isnan(found).any():
        raise DataError(f"{int(np.isnan(found).sum())} of {len(found)} {what} are NaN")
    return found
