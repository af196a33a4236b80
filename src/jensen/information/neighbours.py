r"""Entropy, divergence and mutual information from samples, by the distances to nearest neighbours.

Distances are the largest difference over the columns. Estimates are averages of one term for each point; their
standard error is the spread of the terms over the root of their number, which is right as the sample grows and says
nothing of the bias. The bias falls with the number of points and grows with the number of columns.

Ties: for points that coincide k times over, the distance to the k-th neighbour is zero and its logarithm infinite.
There the ball grows to the next point that lies elsewhere, and as many neighbours are counted as it then holds.
"""

from math import log, sqrt
from typing import cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import KDTree
from scipy.special import digamma
from torch import Tensor

from jensen.errors import ConfigError, DataError, ShapeError, unknown
from jensen.information.estimate import Estimate
from jensen.information.units import in_unit

Floats = NDArray[np.float64]


def entropy_from_samples(x: ArrayLike | Tensor, k: int = 3, *, unit: str = "nats") -> Estimate:
    r"""Differential entropy by the distance to the k-th neighbour, after Kozachenko and Leonenko.

    .. math::
        \hat H = \psi(n) - \psi(k) + \frac{D}{n} \sum_i \log 2 \epsilon_i

    Args:
        x: Points, (n,) or (n, D).
        k: Neighbours: more have less variance and more bias.
        unit: "nats" or "bits".

    Returns:
        One number with its standard error; samples is n.

    Raises:
        DataError: If a number isn't finite, or all points coincide (the entropy is then minus infinity).
        ShapeError: If there are no more than k points, or more than two axes.
        ConfigError: If k is less than one.

    Source: Sample estimate of the entropy of a random vector, 1987, https://www.mathnet.ru/eng/ppi797;
    Estimating mutual information, 2004, https://doi.org/10.1103/PhysRevE.69.066138.

    Example:
        >>> x = np.random.default_rng(0).uniform(0, 2, 2000)
        >>> abs(float(entropy_from_samples(x)) - log(2)) < 0.1
        True
    """
    _check(k)
    points = _points(x, "x", k + 1)
    n, columns = points.shape
    radius, count = _balls(points, points, k, own=True)
    return _average(digamma(n) - digamma(count) + columns * np.log(2 * radius), unit)


def kl_from_samples(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, k: int = 3, *, unit: str = "nats"
) -> Estimate:
    r"""KL(p || q) from samples of both, after Wang, Kulkarni and Verdú.

    .. math::
        \hat D = \frac{D}{n} \sum_i \log \frac{\nu_i}{\rho_i} + \log \frac{m}{n - 1}

    with the distances rho from x_i to its k-th neighbour in x and nu to that in y. Where ties make the balls hold
    other numbers of points, digammas of these numbers account for it.

    Args:
        x: Points from p, (n,) or (n, D).
        y: Points from q, (m,) or (m, D).
        k: Neighbours.
        unit: "nats" or "bits".

    Returns:
        One number, which may come out negative, with its standard error (of the draws of x only); samples is n.

    Raises:
        DataError: If a number isn't finite, or all points of a sample coincide.
        ShapeError: If there are too few points or the columns differ.
        ConfigError: If k is less than one.

    Source: Divergence estimation for multidimensional densities via k-nearest-neighbor distances, 2009,
    https://doi.org/10.1109/TIT.2009.2016060.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> found = kl_from_samples(rng.normal(1, 1, 2000), rng.normal(0, 1, 2000))
        >>> abs(float(found) - 0.5) < 0.2
        True
    """
    _check(k)
    ours, theirs = _points(x, "x", k + 1), _points(y, "y", k)
    if ours.shape[1] != theirs.shape[1]:
        raise ShapeError(f"x has {ours.shape[1]} columns and y has {theirs.shape[1]}; give the same columns")
    rho, inside = _balls(ours, ours, k, own=True)
    nu, outside = _balls(theirs, ours, k, own=False)
    ratio = ours.shape[1] * (np.log(nu) - np.log(rho)) + log(len(theirs) / (len(ours) - 1))
    return _average(ratio + digamma(inside) - digamma(outside), unit)


def mutual_information_from_samples(
    x: ArrayLike | Tensor, y: ArrayLike | Tensor, k: int = 3, *, method: str = "ksg1", unit: str = "nats"
) -> Estimate:
    r"""I(X; Y) from pairs, after Kraskov, Stögbauer and Grassberger.

    .. math::
        \hat I_1 &= \psi(k) + \psi(n) - \langle \psi(n_x + 1) + \psi(n_y + 1) \rangle \\
        \hat I_2 &= \psi(k) - 1/k + \psi(n) - \langle \psi(n_x) + \psi(n_y) \rangle

    where n_x counts the points that are nearer in x than the k-th neighbour of the pair (first), or that lie within
    the smallest rectangle around the k neighbours (second). For pairs that coincide k times over, as of discrete
    variables, all counts are of the points that coincide.

    Args:
        x: Points, (n,) or (n, D). Columns should have spreads of the same order; scale them if they don't.
        y: The other halves of the pairs, (n,) or (n, E).
        k: Neighbours.
        method: "ksg1" (less variance) or "ksg2" (less bias in high dimension).
        unit: "nats" or "bits".

    Returns:
        One number, which may come out a little negative, with its standard error; samples is n.

    Raises:
        DataError: If a number isn't finite.
        ShapeError: If x and y differ in length or there are no more than k pairs.
        ConfigError: If k is less than one or the method is unknown.

    Source: Estimating mutual information, 2004, https://doi.org/10.1103/PhysRevE.69.066138; for ties Estimating
    mutual information for discrete-continuous mixtures, 2017, https://arxiv.org/abs/1709.06212.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=2000)
        >>> y = 0.8 * x + 0.6 * rng.normal(size=2000)
        >>> abs(float(mutual_information_from_samples(x, y)) + 0.5 * log(1 - 0.8**2)) < 0.1
        True
    """
    if method not in ("ksg1", "ksg2"):
        raise ConfigError(unknown("method", method, ["ksg1", "ksg2"]))
    _check(k)
    first, second = _points(x, "x", k + 1), _points(y, "y", k + 1)
    n = len(first)
    if len(second) != n:
        raise ShapeError(
            f"x has {n} points and y has {len(second)}; they come in pairs, so give equal numbers"
        )
    pairs = np.hstack([first, second])
    tree = KDTree(pairs)
    distance, index = tree.query(pairs, k + 1, p=np.inf)
    radius = distance[:, -1]
    tied = radius == 0
    if method == "ksg1":
        # The largest number below the radius: what lies on the border doesn't count.
        within = np.nextafter(radius, 0)
        terms = digamma(k) + digamma(n) - digamma(_within(first, within)) - digamma(_within(second, within))
    else:
        reach = [np.abs(part[index] - part[:, None]).max((1, 2)) for part in (first, second)]
        # Each count holds the point itself, and there are at least k more.
        counts = [np.maximum(_within(part, r) - 1, 1) for part, r in zip((first, second), reach, strict=True)]
        terms = digamma(k) - 1 / k + digamma(n) - digamma(counts[0]) - digamma(counts[1])
    if tied.any():
        zero = np.zeros(n)
        same = [_within(part, zero)[tied] for part in (pairs, first, second)]
        terms[tied] = digamma(same[0]) + digamma(n) - digamma(same[1]) - digamma(same[2])
    return _average(terms, unit)


def _check(k: int | float) -> None:
    if k < 1 or k != int(k):
        raise ConfigError(f"k is a number of neighbours, 1, 2, ...; got {k}")


def _points(x: ArrayLike | Tensor, name: str, least: int) -> Floats:
    """Points as rows, held to be enough and finite."""
    array = np.asarray(x.detach().cpu() if isinstance(x, Tensor) else x, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] == 0:
        raise ShapeError(f"{name} has shape {array.shape}; wanted points as rows, (n,) or (n, D)")
    if len(array) < least:
        raise ShapeError(f"{name} has {len(array)} points; give at least {least}, or a smaller k")
    if not np.isfinite(array).all():
        raise DataError(f"{name} holds a number that isn't finite; leave such points out")
    return array


def _balls(points: Floats, centres: Floats, k: int, *, own: bool) -> tuple[Floats, Floats]:
    """Of each centre the distance to its k-th neighbour among the points, and how many lie within it.

    With ``own`` the centres are the points, and none counts itself. The distance is never zero.
    """
    tree = KDTree(points)
    found = tree.query(centres, k + own, p=np.inf)[0]
    radius = np.array(found if found.ndim == 1 else found[:, -1])
    count = np.full(len(centres), float(k))
    tied = radius == 0
    if tied.any():
        places = np.unique(points, axis=0)
        if len(places) < 2:
            raise DataError(
                "all points coincide, so distances say nothing (the differential entropy is minus infinity)"
            )
        radius[tied] = KDTree(places).query(centres[tied], 2, p=np.inf)[0][:, 1]
        inside = tree.query_ball_point(centres[tied], radius[tied], p=np.inf, return_length=True)
        count[tied] = inside - int(own)
    return radius, count


def _within(points: Floats, radius: Floats) -> Floats:
    """How many points lie within a distance of each, itself counted."""
    if points.shape[1] > 1:
        tree = KDTree(points)
        counts = tree.query_ball_point(points, radius, p=np.inf, return_length=True)
        return counts.astype(np.float64)
    values = points[:, 0]
    order = np.sort(values)
    # Sums round, differences are what the tree compares: mend the ends until the differences agree.
    above = _mend(order, values, radius, np.searchsorted(order, values + radius, side="right"))
    below = _mend(
        -order[::-1], -values, radius, np.searchsorted(-order[::-1], -values + radius, side="right")
    )
    return (above + below - len(values)).astype(np.float64)


def _mend(order: Floats, values: Floats, radius: Floats, end: NDArray[np.intp]) -> NDArray[np.intp]:
    """The number of sorted values v with v - x <= radius for each x, from a count that rounding may have spoiled."""
    n = len(order)
    while True:
        less = (end > 0) & (order[np.maximum(end - 1, 0)] - values > radius)
        more = (end < n) & (order[np.minimum(end, n - 1)] - values <= radius)
        if not (less.any() or more.any()):
            return end
        end = end - less + (more & ~less)


def _average(terms: Floats, unit: str) -> Estimate:
    n = len(terms)
    value = torch.tensor(terms.mean(), dtype=torch.float64)
    error = torch.tensor(cast(float, terms.std(ddof=1)) / sqrt(n), dtype=torch.float64)
    return Estimate(in_unit(value, unit), in_unit(error, unit), n)
