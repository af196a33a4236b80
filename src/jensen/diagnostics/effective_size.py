"""How many independent draws a chain's draws are worth, and the error of their average."""

from math import ceil, log10

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.diagnostics.chains import columns, halves, normal_scores, quantile


def _autocovariances(chains: Tensor) -> Tensor:
    """Of each chain by lag, the sums divided by the number of draws, (chains, draws, columns)."""
    n = chains.shape[1]
    size = 1 << (2 * n - 1).bit_length()
    spectrum = torch.fft.rfft(chains - chains.mean(1, keepdim=True), size, dim=1)
    return torch.fft.irfft(spectrum.abs().square(), size, dim=1)[:, :n] / n


def _effective(chains: Tensor) -> Tensor:
    """Effective number of draws of chains that are taken as they are, (columns,).

    Correlations are summed in pairs of lags as long as the pairs are positive, none larger than the one before.
    """
    number, n, _ = chains.shape
    covariances = _autocovariances(chains).mean(0)
    within = covariances[0] * n / (n - 1)
    total = covariances[0] + (chains.mean(1).var(0) if number > 1 else 0.0)
    correlations = 1 - (within - covariances) / total
    correlations[0] = 1.0
    last = ceil(max(n - 4, 0) / 2)
    pairs = correlations[: 2 * last + 2].unflatten(0, (last + 1, 2)).sum(1)
    ends = pairs <= 0
    end = torch.where(ends.any(0), ends.long().argmax(0), last)
    summed = pairs.cummin(0).values.cumsum(0)
    upto = torch.where(end > 0, summed.gather(0, (end - 1).clamp(min=0)[None])[0], 0.0)
    # Of the pair that ended the sum its even lag still counts once, if it is positive.
    even = correlations.gather(0, 2 * end[None])[0].clamp(min=0)
    time = (2 * upto + even - 1).clamp(min=1 / log10(number * n))
    constant = chains.amax((0, 1)) - chains.amin((0, 1)) < torch.finfo(chains.dtype).resolution
    return torch.where(constant, float(number * n), number * n / time)


def ess_bulk(draws: Float[Tensor, "chains draws *event"]) -> Float[Tensor, "*event"]:
    r"""Effective sample size for the bulk of the distribution: of the normal scores of ranks.

    .. math::
        \frac{M N}{-1 + 2 \sum_t \hat P_t}

    with the M chains' pooled correlations, summed in pairs of lags by Geyer's initial monotone sequence.

    Args:
        draws: (chains, draws, *event).

    Returns:
        Float64 (*event); the number of draws for a quantity that doesn't vary.

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If a draw isn't finite.

    Example:
        >>> independent = torch.randn(4, 1000, generator=torch.Generator().manual_seed(0))
        >>> 3000 < float(ess_bulk(independent)) < 5000
        True

    Source: Rank-normalization, folding, and localization, 2021, https://arxiv.org/abs/1903.08008.
    """
    return _effective(normal_scores(halves(columns(draws)))).reshape(draws.shape[2:])


def ess_mean(draws: Float[Tensor, "chains draws *event"]) -> Float[Tensor, "*event"]:
    """Effective sample size for the mean: of the draws themselves, by half chains.

    Args:
        draws: (chains, draws, *event).

    Returns:
        Float64 (*event).

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If a draw isn't finite.

    Source: Rank-normalization, folding, and localization, 2021, https://arxiv.org/abs/1903.08008.
    """
    return _effective(halves(columns(draws))).reshape(draws.shape[2:])


def ess_quantile(draws: Float[Tensor, "chains draws *event"], probability: float) -> Float[Tensor, "*event"]:
    """Effective sample size for a quantile: of the indicator of not exceeding it.

    Args:
        draws: (chains, draws, *event).
        probability: Of the quantile, from 0 to 1.

    Returns:
        Float64 (*event).

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If a draw isn't finite.

    Source: Rank-normalization, folding, and localization, 2021, https://arxiv.org/abs/1903.08008.
    """
    flat = columns(draws)
    below = (flat <= quantile(flat, probability)).double()
    return _effective(halves(below)).reshape(draws.shape[2:])


def ess_tail(draws: Float[Tensor, "chains draws *event"]) -> Float[Tensor, "*event"]:
    """Effective sample size for the tails: the smaller one of those for the 5 % and the 95 % quantile.

    Args:
        draws: (chains, draws, *event).

    Returns:
        Float64 (*event).

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If a draw isn't finite.

    Source: Rank-normalization, folding, and localization, 2021, https://arxiv.org/abs/1903.08008.
    """
    return torch.minimum(ess_quantile(draws, 0.05), ess_quantile(draws, 0.95))


def mcse_mean(draws: Float[Tensor, "chains draws *event"]) -> Float[Tensor, "*event"]:
    r"""Standard error of the draws' average, :math:`s / \sqrt{\mathrm{ESS}}` with the effective size for the mean.

    Args:
        draws: (chains, draws, *event).

    Returns:
        In units of the quantity, float64 (*event).

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If a draw isn't finite.

    Source: Rank-normalization, folding, and localization, 2021, https://arxiv.org/abs/1903.08008.
    """
    flat = columns(draws)
    return (flat.flatten(0, 1).std(0) / _effective(halves(flat)).sqrt()).reshape(draws.shape[2:])


def mcse_sd(draws: Float[Tensor, "chains draws *event"]) -> Float[Tensor, "*event"]:
    r"""Standard error of the draws' standard deviation, by the delta method from that of the squared distances.

    Args:
        draws: (chains, draws, *event).

    Returns:
        In units of the quantity, float64 (*event).

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If a draw isn't finite.

    Source: Rank-normalization, folding, and localization, 2021, https://arxiv.org/abs/1903.08008.
    """
    flat = columns(draws)
    squares = (flat - flat.mean((0, 1))).square()
    variance = squares.mean((0, 1))
    spread = squares.square().mean((0, 1)) - variance.square()
    return (spread / _effective(halves(squares)) / variance / 4).sqrt().reshape(draws.shape[2:])
