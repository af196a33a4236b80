"""Probabilistic PCA: in closed form, by EM, by gradients; and how many latents."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import lgamma, log, pi
from typing import Any, cast

import numpy as np
import scipy.linalg
import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import DataError
from jensen.linalg import LowRankPlusDiagonal
from jensen.models.factor_analysis import check_latent_dim
from jensen.models.held_out import choose_with_gaps
from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.linear_gaussian_em import (
    COVARIANCE_CELLS,
    SMALLEST_NOISE,
    covariance_log_prob,
    em,
    noise_note,
    positive,
    start,
)
from jensen.models.progress import Iteration
from jensen.models.quasi_newton import descend
from jensen.models.rows import Columns, Rows, columns, patterns, scatter, split_missing

_TINY = 1e-13


@dataclass(frozen=True)
class Spectrum:
    """The largest eigenvalues of the covariance with divisor N, and what is left.

    Attributes:
        values: The largest ones, in descending order, (K,).
        vectors: Their eigenvectors, (D, K).
        total: Sum of all eigenvalues.
        mean: Of the data, (D,).
        n: Number of data.
    """

    values: Float[Tensor, " k"]
    vectors: Float[Tensor, "d k"]
    total: float
    mean: Float[Tensor, " d"]
    n: int

    @property
    def rest(self) -> float:
        """Mean of the eigenvalues that aren't among the largest."""
        left = len(self.mean) - len(self.values)
        return max(0.0, self.total - float(self.values.sum())) / left if left else 0.0


def spectrum(rows: Rows, k: int | None = None, *, spread: Columns | None = None) -> Spectrum:
    """The largest eigenvalues and eigenvectors of the data's covariance, in memory beside the data of min(N, D)^2.

    Whichever is smaller is taken apart: the covariance (D x D) or the inner products of the data (N x N).

    Args:
        rows: Complete data, on disk or in memory.
        k: How many; None: all that can differ from zero.
        spread: What ``columns`` said of the data.

    Returns:
        The spectrum.

    Raises:
        DataError: If there are fewer than two data, or cells are missing.
    """
    n, d = len(rows), rows.dim
    if n < 2:
        raise DataError(f"fitting needs at least 2 data, got n_samples = {n}; add more")
    spread = columns(rows) if spread is None else spread
    if spread.missing:
        raise DataError("the closed form needs complete data; use solver='em' where cells are missing (NaN)")
    k = min(d, n - 1) if k is None else k
    product = (scatter(rows, spread.mean).numpy() if d <= n else _inner_products(rows, spread.mean)) / n
    total = float(np.trace(product))
    side = len(product)
    values, vectors = cast(
        Any,
        scipy.linalg.eigh(
            product, subset_by_index=[side - k, side - 1], overwrite_a=True, check_finite=False
        ),
    )
    kept = torch.from_numpy(values[::-1].copy()).clamp(min=0.0)
    turned = torch.from_numpy(vectors[:, ::-1].copy())
    if d > n:
        turned = _from_rows(rows, spread.mean, turned)
    return Spectrum(kept, turned, total, spread.mean, n)


def _inner_products(rows: Rows, mean: Tensor) -> Any:
    """(X - mean)(X - mean)^T, (N, N), from blocks of columns, so that the data are never copied as a whole."""
    flat = rows.whole.reshape(len(rows), -1)
    result = np.zeros((len(rows), len(rows)))
    step = max(1, 4 * rows.cells // len(rows))
    for first in range(0, rows.dim, step):
        block = slice(first, first + step)
        centred = np.asarray(flat[:, block], dtype=np.float64) - mean[block].numpy()
        result += centred @ centred.T
    return result


def _from_rows(rows: Rows, mean: Tensor, vectors: Tensor) -> Tensor:
    """Eigenvectors of the covariance from those of the inner products."""
    flat = rows.whole.reshape(len(rows), -1)
    result = torch.empty(rows.dim, vectors.shape[1], dtype=torch.float64)
    step = max(1, 4 * rows.cells // len(rows))
    for first in range(0, rows.dim, step):
        block = slice(first, first + step)
        centred = torch.from_numpy(np.asarray(flat[:, block], dtype=np.float64) - mean[block].numpy())
        result[block] = centred.T @ vectors
    return result / result.norm(dim=0).clamp(min=1e-300)


def closed_form(model: LinearGaussian, found: Spectrum) -> float:
    r"""Sets the maximum-likelihood parameters: W = U (L - sigma^2 I)^.5, sigma^2 the mean of the other eigenvalues.

    Args:
        model: With M latents and shared noise; it is set in place.
        found: At least the M largest eigenvalues of the covariance with divisor N.

    Returns:
        The mean log-likelihood in nats a datum.

    Raises:
        DataError: If the data lie in a subspace of M dimensions, where the likelihood has no bound.

    Source: Probabilistic principal component analysis, 1999, https://doi.org/10.1111/1467-9868.00196.
    """
    m, d = model.latent_dim, len(found.mean)
    check_latent_dim(m, d)
    values = found.values[:m]
    noise = max(0.0, found.total - float(values.sum())) / (d - m)
    if len(values) < m or noise <= _TINY * found.total / d:
        raise DataError(
            f"the {found.n} data lie in a subspace of at most {m} dimensions, so without noise the likelihood has no "
            "bound; choose fewer latents, or add data"
        )
    spread = torch.full((), noise, dtype=torch.float64)
    model.set(found.vectors[:, :m] * (values - noise).clamp(min=0.0).sqrt(), found.mean, spread)
    logs = float(values.log().sum()) + (d - m) * log(noise)
    return -0.5 * (d * log(2 * pi) + logs + d)


def eigh(model: LinearGaussian, rows: Rows) -> Iterator[Iteration]:
    """Fits in closed form, in one iteration; see ``closed_form``."""
    check_latent_dim(model.latent_dim, rows.dim)
    if len(rows) - 1 < model.latent_dim:
        raise DataError(
            f"{len(rows)} data (n_samples = {len(rows)}) lie in a subspace of {len(rows) - 1} dimensions; choose at "
            f"most {max(1, len(rows) - 2)} latents, or add data"
        )
    yield Iteration(1, closed_form(model, spectrum(rows, model.latent_dim)), True)


def gradient(
    model: LinearGaussian,
    rows: Rows,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-7,
    generator: torch.Generator | None = None,
) -> Iterator[Iteration]:
    """Fits by following the gradient of the exact log-likelihood (L-BFGS), also with missing cells.

    Args:
        model: What is fitted, in place.
        rows: Data; NaN where a cell is missing.
        iterations: At most.
        tolerance: Stops where no derivative of the mean log-likelihood by W, mu (in units of the data's spread) and
            the logarithm of the noise is larger.
        generator: Of the start; None: torch's own.

    Yields:
        A record for each iteration.

    Raises:
        DataError: If there are fewer than two data, a column has no observed cell or no column varies.
    """
    if len(rows) < 2:
        raise DataError(f"fitting needs at least 2 data, got n_samples = {len(rows)}; add more")
    spread = columns(rows)
    start(model, spread, generator)
    # With one noise for all cells they share a unit, too; else each has its own, and it doesn't matter which.
    each = positive(spread.variance)
    unit = (each.mean().expand_as(each) if model.shared_noise else each).sqrt()
    noise_unit = unit[0] if model.shared_noise else unit
    reduced = not spread.missing and rows.dim**2 <= COVARIANCE_CELLS
    covariance = scatter(rows, spread.mean) / len(rows) / (unit[:, None] * unit) if reduced else None
    log_noise = (model.noise_variance.data / noise_unit**2).log()
    parts = [model.factor.data / unit[:, None], torch.zeros_like(spread.mean), log_noise]
    floor = SMALLEST_NOISE * each / unit**2
    lowest = [torch.full_like(part, -torch.inf) for part in parts[:2]]
    lowest.append((floor.mean() if model.shared_noise else floor).log())
    constant = -float((spread.count * unit.log()).sum()) / len(rows)

    def unpack(flat: Any) -> list[Tensor]:
        split = torch.from_numpy(np.array(flat)).split([part.numel() for part in parts])
        return [some.reshape(part.shape) for some, part in zip(split, parts, strict=True)]

    def loss(flat: Any) -> tuple[float, Any]:
        parameters = [part.requires_grad_() for part in unpack(flat)]
        total = 0.0
        with torch.enable_grad():
            for value in _log_probs(rows, covariance, spread.mean, unit, *parameters):
                (-value).backward()
                total -= float(value.detach())
        return total, _flat([part.grad for part in parameters if part.grad is not None])

    steps = descend(loss, _flat(parts), lowest=_flat(lowest), iterations=iterations, tolerance=tolerance)
    for number, step in enumerate(steps, 1):
        factor, mean, log_noise = unpack(step.place)
        model.set(factor * unit[:, None], spread.mean + mean * unit, log_noise.exp() * noise_unit**2)
        last = step.done or number == iterations
        note = noise_note(model, floor * unit**2) if last else ""
        yield Iteration(number, constant - step.value, step.done, note)


def _flat(parts: list[Tensor]) -> Any:
    return torch.cat([part.reshape(-1) for part in parts]).numpy()


def _log_probs(
    rows: Rows,
    covariance: Tensor | None,
    centre: Tensor,
    unit: Tensor,
    factor: Tensor,
    mean: Tensor,
    log_noise: Tensor,
) -> Iterator[Tensor]:
    """Parts of the mean log-likelihood of standardised data, each with its gradient."""
    noise = log_noise.exp()
    if covariance is not None:
        model = LowRankPlusDiagonal(factor, noise)
        moment = covariance + mean[:, None] * mean
        scaled = factor / model.diagonal[:, None]
        inner = torch.linalg.solve_triangular(model.cholesky[0], scaled.T, upper=False)
        trace = (moment.diagonal() / model.diagonal).sum() - ((inner @ moment) * inner).sum()
        yield -0.5 * (len(moment) * log(2 * pi) + model.log_det[0] + trace)
        return
    for chunk in rows:
        x, observed = split_missing((chunk - centre) / unit)
        if observed is None:
            yield LowRankPlusDiagonal(factor, noise).log_prob(x - mean)[0].sum() / len(rows)
        else:
            found, which = patterns(observed)
            some = LowRankPlusDiagonal(factor, noise, found)
            yield some.log_prob(torch.where(observed, x - mean, 0.0), which)[0].sum() / len(rows)


def laplace_evidence(found: Spectrum, latent_dim: int) -> float:
    """Log evidence of that many latents by Laplace's method, in nats, for all data together.

    Args:
        found: All eigenvalues of the covariance.
        latent_dim: From 1 to D - 1.

    Returns:
        An approximation, not a bound; -inf where no variance is left for the noise.

    Source: Automatic choice of dimensionality for PCA, 2000,
        https://papers.nips.cc/paper/1853-automatic-choice-of-dimensionality-for-pca (equation 30).
    """
    d, n, m = len(found.mean), found.n, latent_dim
    values = torch.zeros(d, dtype=torch.float64)
    values[: len(found.values)] = found.values
    noise = float(values[m:].sum()) / (d - m)
    if noise <= _TINY * found.total / d or float(values[m - 1]) <= _TINY * found.total / d:
        return -float("inf")
    prior = -m * log(2) + sum(lgamma((d - i) / 2) - 0.5 * (d - i) * log(pi) for i in range(m))
    likelihood = -0.5 * n * float(values[:m].log().sum()) - 0.5 * n * (d - m) * log(noise)
    free = d * m - m * (m + 1) / 2
    turned = values.clone()
    turned[m:] = noise
    kept = values[:m, None]
    inverse = 1 / turned[None, :] - 1 / turned[:m, None]
    later = torch.arange(d)[None, :] > torch.arange(m)[:, None]
    curvature = torch.where(later, inverse * (kept - values[None, :]) * n, 1.0)
    log_det = float(curvature.clamp(min=1e-300).log().sum())
    return prior + likelihood + 0.5 * log(2 * pi) * (free + m) - 0.5 * log_det - 0.5 * m * log(n)


def choose_by_evidence(found: Spectrum) -> int:
    """The number of latents with the largest Laplace evidence."""
    top = min(len(found.mean), found.n) - 1
    return max(range(1, max(2, top + 1)), key=lambda m: laplace_evidence(found, m))


def choose_by_held_out(rows: Rows, folds: int = 5) -> int:
    """The number of latents with the largest log-likelihood of data that were held out, in cross-validation.

    Rows are dealt out in turn, so shuffle data that are in an order. All numbers of latents come from one
    eigendecomposition a fold; where cells are missing, see ``choose_with_gaps``.

    Args:
        rows: Data; NaN where a cell is missing.
        folds: Parts.

    Returns:
        From 1 to D - 1.

    Raises:
        DataError: If there are too few data.
    """
    n, d = len(rows), rows.dim
    folds = min(folds, n // 2)
    if folds < 2:
        raise DataError(f"choosing by held-out data needs at least 4 data, got n_samples = {n}")
    x, place = rows.whole, np.arange(n) % folds
    top = min(d - 1, n - -(-n // folds) - 2)
    if columns(rows).missing:
        return choose_with_gaps(rows, folds, max(1, top))
    scores = torch.zeros(max(1, top), dtype=torch.float64)
    for fold in range(folds):
        found = spectrum(Rows(x[place != fold]))
        held = rows[place == fold] - found.mean
        squares = (held @ found.vectors).square().sum(0)
        left = float(held.square().sum())
        for m in range(1, len(scores) + 1):
            left -= float(squares[m - 1])
            noise = (found.total - float(found.values[:m].sum())) / (d - m)
            if noise <= _TINY * found.total / d:
                scores[m - 1] = -torch.inf
                continue
            kept = found.values[:m].clamp(min=noise)
            logs = float(kept.log().sum()) + (d - m) * log(noise)
            distance = float((squares[:m] / kept).sum()) + left / noise
            scores[m - 1] += -0.5 * (len(held) * (d * log(2 * pi) + logs) + distance)
    return int(scores.argmax()) + 1


__all__ = [
    "Spectrum",
    "choose_by_evidence",
    "choose_by_held_out",
    "closed_form",
    "covariance_log_prob",
    "eigh",
    "em",
    "gradient",
    "laplace_evidence",
    "spectrum",
]
