"""Means and variances of data that come block by block."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Moments:
    r"""How many data there were, their mean and their spread, cell by cell, in float64.

    Two blocks are joined without going back to the data, by

    .. math::
        m = m_a + \delta \frac{n_b}{n}, \quad
        s = s_a + s_b + \delta^2 \frac{n_a n_b}{n}, \quad \delta = m_b - m_a,

    where s is the sum of squared deviations from the mean; nothing is lost by cancellation, as it is in sums of
    squares.

    Attributes:
        count: Number of data n.
        mean: Their mean m, (\*event), with at least one axis.
        deviations: Sum s of the squared deviations from it, (\*event).

    Source: Updating formulae and a pairwise algorithm for computing sample variances, 1979,
    http://i.stanford.edu/pub/cstr/reports/cs/tr/79/773/CS-TR-79-773.pdf.

    Example:
        >>> both = Moments.of(np.array([[1.0], [2.0]])).merged(Moments.of(np.array([[6.0]])))
        >>> both.count, both.mean.tolist(), both.variance().tolist()
        (3, [3.0], [4.666666666666667])
    """

    count: int
    mean: NDArray[np.float64]
    deviations: NDArray[np.float64]

    @classmethod
    def of(cls, block: NDArray[np.generic]) -> "Moments":
        """The moments of a block (n, *event), n at least 1."""
        x = block.astype(np.float64)
        mean = x.mean(0)
        return cls(len(x), mean, np.square(x - mean).sum(0))

    def merged(self, other: "Moments") -> "Moments":
        """The moments of both together."""
        count = self.count + other.count
        delta = other.mean - self.mean
        return Moments(
            count,
            self.mean + delta * (other.count / count),
            self.deviations + other.deviations + np.square(delta) * (self.count * other.count / count),
        )

    def variance(self, correction: int = 0) -> NDArray[np.float64]:
        """The variance of each cell, with n - correction in the denominator; NaN where that is not above 0."""
        left = self.count - correction
        return self.deviations / left if left > 0 else np.full_like(self.deviations, np.nan)


@dataclass(frozen=True)
class Statistics:
    """What the units of a model are set by.

    Attributes:
        plain: Moments of the cells.
        log1p: Moments of log(1 + x); None where a cell is below 0.
    """

    plain: Moments
    log1p: Moments | None

    @classmethod
    def of(cls, block: NDArray[np.generic], *, log: bool) -> "Statistics":
        """The statistics of a block (n, *event); ``log`` says whether those of log(1 + x) are wanted."""
        return cls(Moments.of(block), Moments.of(np.log1p(block.astype(np.float64))) if log else None)

    def merged(self, other: "Statistics") -> "Statistics":
        """The statistics of both together."""
        both = self.log1p is not None and other.log1p is not None
        return Statistics(
            self.plain.merged(other.plain),
            self.log1p.merged(other.log1p) if both else None,  # pyright: ignore[reportOptionalMemberAccess, reportArgumentType]
        )
