"""EM for the linear-Gaussian model: constant memory, missing cells integrated out, one pass an iteration."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import DataError
from jensen.linalg import LowRankPlusDiagonal
from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.progress import Iteration, floor_note
from jensen.models.rows import Columns, Rows, columns, patterns, scatter, split_missing

SMALLEST_NOISE = 1e-10
"""Of a cell, as a part of its variance. A likelihood that grows beyond any bound stops here."""

COVARIANCE_CELLS = 2**24
"""Entries of a covariance that is kept instead of passing over the data in each iteration."""


@dataclass(frozen=True)
class Statistics:
    """Expected sufficient statistics, summed over data; z is joined with a one for the mean.

    Attributes:
        second: Sum over the data in which a cell was observed of E[z z^T], (D or 1, M+1, M+1).
        cross: Sum of x E[z]^T for each cell, (D, M+1).
        square: Sum of x^2 for each cell, (D,).
        count: Data in which a cell was observed, (D,).
        log_prob: Sum of log p(x) in nats.
    """

    second: Float[Tensor, "any m1 m1"]
    cross: Float[Tensor, "d m1"]
    square: Float[Tensor, " d"]
    count: Float[Tensor, " d"]
    log_prob: Float[Tensor, ""]

    def __add__(self, other: "Statistics") -> "Statistics":
        """Those of both parts of the data."""
        return Statistics(
            self.second + other.second,
            self.cross + other.cross,
            self.square + other.square,
            self.count + other.count,
            self.log_prob + other.log_prob,
        )


def expect(
    x: Float[Tensor, "n d"],
    factor: Float[Tensor, "d m"],
    mean: Float[Tensor, " d"],
    noise: Float[Tensor, "*d"],
) -> Statistics:
    """The E-step for some data, NaN where a cell is missing; data of one pattern share their matrices."""
    x, observed = split_missing(x)
    if observed is None:
        covariance = LowRankPlusDiagonal(factor, noise)
        log_prob, z = covariance.log_prob(x - mean)
        z = torch.cat([z, z.new_ones(len(z), 1)], 1)
        second = z.T @ z
        second[:-1, :-1] += len(x) * covariance.inner_inverse[0]
        count = torch.full_like(mean, len(x))
        return Statistics(second[None], x.T @ z, x.square().sum(0), count, log_prob.sum())
    found, which = patterns(observed)
    covariance = LowRankPlusDiagonal(factor, noise, found)
    log_prob, z = covariance.log_prob(torch.where(observed, x - mean, 0.0), which)
    z = torch.cat([z, z.new_ones(len(z), 1)], 1)
    m = z.shape[1]
    order = which.argsort(stable=True)
    sizes = torch.bincount(which, minlength=len(found))
    outer = (z[order, :, None] * z[order, None, :]).reshape(len(z), -1)
    second = torch.segment_reduce(outer, "sum", lengths=sizes).reshape(-1, m, m)
    second[:, :-1, :-1] += sizes[:, None, None] * covariance.inner_inverse
    mask = observed.to(x.dtype)
    return Statistics(
        (found.to(x.dtype).T @ second.reshape(len(found), -1)).reshape(-1, m, m),
        x.T @ z,
        x.square().sum(0),
        mask.sum(0),
        log_prob.sum(),
    )


def maximise(
    statistics: Statistics, smallest: Float[Tensor, " d"], *, shared_noise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """The M-step: W and mu jointly for each cell, then the noise.

    Args:
        statistics: Of all data.
        smallest: Lowest noise variance of each cell.
        shared_noise: Whether all cells have one noise variance.

    Returns:
        W (D, M), mu (D,), and the noise variance, () or (D,).
    """
    joint = torch.linalg.solve(statistics.second, statistics.cross[..., None])[..., 0]
    rest = statistics.square - (joint * statistics.cross).sum(1)
    if shared_noise:
        noise = (rest.sum() / statistics.count.sum()).clamp(min=smallest.mean())
    else:
        noise = torch.maximum(rest / statistics.count, smallest)
    return joint[:, :-1].contiguous(), joint[:, -1].contiguous(), noise


def start(model: LinearGaussian, spread: Columns, generator: torch.Generator | None = None) -> None:
    """Random W, the columns' means, and half of their variance as noise; by default from torch's own generator."""
    variance = positive(spread.variance)
    shape = model.factor.shape
    scale = (0.5 * variance / shape[1]).sqrt()
    noise = 0.5 * variance
    model.set(
        torch.randn(shape, dtype=torch.float64, generator=generator) * scale[:, None],
        spread.mean,
        noise.mean() if model.shared_noise else noise,
    )


def em(
    model: LinearGaussian,
    rows: Rows,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-8,
    generator: torch.Generator | None = None,
) -> Iterator[Iteration]:
    """Fits by EM; the likelihood never decreases.

    Complete data of few columns are reduced to their covariance in one pass. Otherwise each iteration passes over
    the data in chunks, so that memory doesn't grow with their number and they may lie on disk.

    Args:
        model: What is fitted, in place.
        rows: Data; NaN where a cell is missing.
        iterations: At most.
        tolerance: Stops where an iteration adds less than this, in nats a datum and cell.
        generator: Of the start; None: torch's own.

    Yields:
        A record for each iteration.

    Raises:
        DataError: If there are fewer than two data, a column has no observed cell or no column varies.

    Source: EM algorithms for ML factor analysis, 1982, https://doi.org/10.1007/BF02293851; Probabilistic principal
        component analysis, 1999, https://doi.org/10.1111/1467-9868.00196.
    """
    if len(rows) < 2:
        raise DataError(f"fitting needs at least 2 data, got n_samples = {len(rows)}; add more")
    spread = columns(rows)
    start(model, spread, generator)
    smallest = SMALLEST_NOISE * positive(spread.variance)
    reduced = not spread.missing and rows.dim**2 <= COVARIANCE_CELLS
    covariance = scatter(rows, spread.mean) / len(rows) if reduced else None
    parameters = (model.factor.data, torch.zeros_like(spread.mean), model.noise_variance.data)
    previous = -torch.inf
    for number in range(1, iterations + 1):
        if covariance is None:
            total: Statistics | None = None
            for chunk in rows:
                # Centred by the columns' means, so that squares don't cancel.
                part = expect(chunk - spread.mean, *parameters)
                total = part if total is None else total + part
            assert total is not None
            bound = float(total.log_prob) / len(rows)
            new = maximise(total, smallest, shared_noise=model.shared_noise)
        else:
            bound = covariance_log_prob(covariance, parameters[0], parameters[2])
            new = _from_covariance(covariance, parameters, smallest, shared_noise=model.shared_noise)
        converged = bound - previous < tolerance * rows.dim and number > 1
        model.set(parameters[0], parameters[1] + spread.mean, parameters[2])
        last = converged or number == iterations
        yield Iteration(number, bound, converged, noise_note(model, smallest) if last else "")
        if converged:
            return
        previous, parameters = bound, new


def noise_note(model: LinearGaussian, smallest: Float[Tensor, " d"]) -> str:
    """What to say where noise is at the lowest value it may take."""
    lowest = smallest.mean() if model.shared_noise else smallest
    low = (model.noise_variance.data <= lowest * (1 + 1e-6)).reshape(-1)
    return floor_note(low, "noise terms")


def covariance_log_prob(
    covariance: Float[Tensor, "d d"], factor: Float[Tensor, "d m"], noise: Float[Tensor, "*d"]
) -> float:
    """Mean log-likelihood in nats a datum of data with that covariance (1/N), at their mean."""
    model = LowRankPlusDiagonal(factor, noise)
    scaled = factor / model.diagonal[:, None]
    white = model.half_inverse[0] @ scaled.T
    trace = (covariance.diagonal() / model.diagonal).sum() - ((white @ covariance) * white).sum()
    return -0.5 * float(len(covariance) * log(2 * pi) + model.log_det[0] + trace)


def _from_covariance(
    covariance: Tensor, parameters: tuple[Tensor, Tensor, Tensor], smallest: Tensor, *, shared_noise: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """An iteration for complete data at their mean, from their covariance alone."""
    factor, mean, noise = parameters
    model = LowRankPlusDiagonal(factor, noise)
    inner, half = model.inner_inverse[0], model.half_inverse[0]
    beta = half.T @ (half @ (factor / noise.expand(len(factor))[:, None]).T)
    cross = covariance @ beta.T
    second = inner + beta @ cross
    new = torch.linalg.solve(second, cross.T).T.contiguous()
    rest = covariance.diagonal() - (new * cross).sum(1)
    if shared_noise:
        return new, mean, rest.mean().clamp(min=smallest.mean())
    return new, mean, torch.maximum(rest, smallest)


def positive(variance: Float[Tensor, " d"]) -> Float[Tensor, " d"]:
    """The columns' variances, where a constant column counts as one of the smallest of the others."""
    varying = variance[variance > 0]
    if len(varying) == 0:
        raise DataError("all data are the same, so there is nothing to fit; give data that differ")
    return torch.where(variance > 0, variance, varying.min())
