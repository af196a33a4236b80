"""Importance weights whose largest ones are smoothed by a Pareto tail; its shape says how far to trust them."""

from math import ceil, log
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, DataError, ShapeError

RELIABLE_K = 0.7
"""Above this shape of the tail no affordable number of draws makes an average by weights reliable."""

_FEWEST = 5
"""A tail of fewer weights isn't fitted."""

_ALIKE_NATS = 1e-10
"""Log-weights that differ by less are one weight and the rounding of its computation."""


class ParetoFit(NamedTuple):
    """A generalised Pareto distribution fitted to values above a threshold.

    Attributes:
        k: Its shape; moments of order 1/k and higher are infinite.
        scale: Its scale, in units of the values.
    """

    k: Tensor
    scale: Tensor


class Smoothed(NamedTuple):
    """What ``psis`` gives.

    Attributes:
        log_weights: Smoothed and normalised, so that the weights sum to one over the samples; nats, (S, *batch).
        k: Shape of the tail before it was smoothed, (*batch).
    """

    log_weights: Tensor
    k: Tensor


def pareto_fit(values: Float[Tensor, " n"]) -> ParetoFit:
    r"""Fits a generalised Pareto distribution to values above zero.

    With :math:`b = -k / \sigma` the likelihood that is maximised over k is a function of b alone, and b is averaged
    under it on a grid; k is then pulled to 1/2 as if ten more values had been seen.

    Args:
        values: Positive, ascending, (n,).

    Returns:
        Shape and scale, float64.

    Example:
        >>> fit = pareto_fit(torch.linspace(0.01, 1, 100).double())
        >>> round(float(fit.k), 2)  # a uniform's tail is bounded: k = -1, pulled a little to 1/2
        -0.83

    Source: A new and efficient estimation method for the generalized Pareto distribution, 2009,
    https://doi.org/10.1198/tech.2009.08017; Pareto smoothed importance sampling, 2024,
    https://www.jmlr.org/papers/v25/19-556.html.
    """
    values = values.double()
    n = len(values)
    grid = 30 + int(n**0.5)
    steps = torch.arange(1, grid + 1, dtype=torch.float64, device=values.device) - 0.5
    quartile = values[int(n / 4 + 0.5) - 1]
    b = (1 - (grid / steps).sqrt()) / (3 * quartile) + 1 / values[-1]
    k = torch.log1p(-b[:, None] * values).mean(1)
    # At b = 0 exactly, the exponential distribution, the ratio is not a number.
    weights = (n * ((-b / k).log() - k - 1)).nan_to_num(nan=-torch.inf).softmax(0)
    # Points of hardly any weight are left out, as in the reference implementation.
    kept = weights >= 10 * torch.finfo(torch.float64).eps
    b, weights = b[kept], weights[kept]
    b = (b * weights).sum() / weights.sum()
    k = torch.log1p(-b * values).mean()
    return ParetoFit((n * k + 5) / (n + 10), -k / b)


def _smooth(x: Tensor, tail: int) -> tuple[Tensor, Tensor]:
    """One column of log-weights, (S,), and the shape of its tail."""
    x = x - x.max()
    if float(x.min()) > -_ALIKE_NATS:
        return x - x.logsumexp(0), x.new_tensor(-torch.inf)
    order = x.argsort(stable=True)
    threshold = x[order[-tail - 1]].clamp(min=log(torch.finfo(torch.float64).tiny))
    above = order[x[order] > threshold]
    if len(above) < _FEWEST:
        return x - x.logsumexp(0), x.new_tensor(torch.inf)
    base = threshold.exp()
    k, scale = pareto_fit(x[above].exp() - base)
    if not bool(k.isfinite()):
        return x - x.logsumexp(0), k
    places = (torch.arange(len(above), dtype=x.dtype, device=x.device) + 0.5) / len(above)
    exponential = -torch.log1p(-places)
    excess = torch.expm1(k * exponential) / k if abs(float(k)) > torch.finfo(x.dtype).eps else exponential
    x = x.clone()
    x[above] = (scale * excess + base).log().clamp(max=0)
    return x - x.logsumexp(0), k


def psis(log_weights: Float[Tensor, "samples *batch"], relative_efficiency: float = 1.0) -> Smoothed:
    r"""Pareto-smoothed importance weights and the shape k-hat of their tail.

    The largest :math:`\min(S/5, 3\sqrt{S / r})` weights give way to the quantiles of a generalised Pareto distribution
    that is fitted to them, and none stays above the largest raw one. Below k = 0.5 the weights have a variance; up to
    0.7 averages by smoothed weights are reliable at practical sizes; above it they aren't.

    Args:
        log_weights: log p - log q of the samples in nats, up to a constant, (S, *batch); -inf is a weight of zero.
        relative_efficiency: r, effective draws a draw, where samples come from a chain.

    Returns:
        Smoothed normalised log-weights (S, *batch) and k (*batch), float64. k is inf where the tail has fewer than
        five weights (S <= 20, or nearly all weights are zero), and -inf where all weights are alike.

    Raises:
        DataError: If a log-weight is NaN or +inf, or all of a column are -inf.
        ShapeError: If there are fewer than two samples.
        ConfigError: If the efficiency isn't above 0.

    Example:
        >>> smoothed, k = psis(torch.linspace(-1, 0, 1000).double())
        >>> bool(k < RELIABLE_K), round(float(smoothed.exp().sum()), 12)
        (True, 1.0)

    Source: Pareto smoothed importance sampling, 2024, https://www.jmlr.org/papers/v25/19-556.html.
    """
    if not relative_efficiency > 0:
        raise ConfigError(f"relative_efficiency is {relative_efficiency}; it has to be above 0")
    if len(log_weights) < 2:
        raise ShapeError(f"got {len(log_weights)} log-weights; a tail needs at least 2, better 1,000")
    raw = log_weights.detach().double()
    if bool((raw.isnan() | raw.isposinf()).any()):
        raise DataError(
            f"{int((raw.isnan() | raw.isposinf()).sum())} of {raw.numel()} log-weights are NaN or +inf; "
            "they have to be finite, or -inf for a weight of zero"
        )
    columns = raw.reshape(len(raw), -1)
    if bool(columns.isneginf().all(0).any()):
        raise DataError("all log-weights are -inf: no sample lies where the target has a density")
    samples = len(raw)
    tail = ceil(min(samples / 5, 3 * (samples / relative_efficiency) ** 0.5))
    smoothed, shapes = zip(*(_smooth(column, tail) for column in columns.unbind(1)), strict=True)
    return Smoothed(torch.stack(smoothed, 1).reshape(raw.shape), torch.stack(shapes).reshape(raw.shape[1:]))


def kish_size(log_weights: Float[Tensor, "samples *batch"]) -> Float[Tensor, "*batch"]:
    r"""The number of equally weighted draws with the same variance, :math:`(\sum w)^2 / \sum w^2`.

    Args:
        log_weights: In nats, up to a constant, (S, *batch).

    Returns:
        From 1 to S, float64 (*batch).

    Example:
        >>> round(float(kish_size(torch.zeros(8))), 12)
        8.0
    """
    log_weights = log_weights.double()
    return (2 * log_weights.logsumexp(0) - (2 * log_weights).logsumexp(0)).exp()
