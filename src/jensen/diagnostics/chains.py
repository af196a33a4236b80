"""What diagnostics of chains share: checks, halves, normal scores of ranks, quantiles."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import DataError, ShapeError

FEWEST_DRAWS = 4


def columns(draws: Any) -> Float[Tensor, "chains draws columns"]:
    """Draws, a tensor or an array (chains, draws, *event), as float64 with one axis for all quantities.

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If a draw isn't finite.
    """
    draws = torch.as_tensor(draws)
    if draws.ndim < 2:
        raise ShapeError(
            f"got draws of shape {tuple(draws.shape)}; diagnostics compare chains, give (chains, draws, ...)"
        )
    if draws.shape[1] < FEWEST_DRAWS:
        raise ShapeError(
            f"got {draws.shape[1]} draws in each of {draws.shape[0]} chains; diagnostics need at least "
            f"{FEWEST_DRAWS}, as a tensor (chains, draws, ...)"
        )
    draws = draws.detach().double().reshape(*draws.shape[:2], -1)
    if not bool(draws.isfinite().all()):
        raise DataError(
            f"{int((~draws.isfinite()).sum())} of {draws.numel()} draws are not finite; "
            "diagnostics are of finite draws"
        )
    return draws


def halves(draws: Float[Tensor, "chains draws columns"]) -> Float[Tensor, "halves half columns"]:
    """Each chain's first and last half as chains of their own; of an odd number the middle draw is left out."""
    half = draws.shape[1] // 2
    return torch.cat([draws[:, :half], draws[:, -half:]])


def normal_scores(draws: Float[Tensor, "chains draws columns"]) -> Float[Tensor, "chains draws columns"]:
    """Normal quantiles of the ranks among all chains' draws; ties share their average rank."""
    flat = draws.reshape(-1, draws.shape[2]).T.contiguous()
    ordered = flat.sort(1).values
    before, upto = (torch.searchsorted(ordered, flat, right=right) for right in (False, True))
    ranks = 0.5 * (before + upto + 1).double()
    scores = torch.special.ndtri((ranks - 0.375) / (flat.shape[1] + 0.25))
    return scores.T.reshape(draws.shape)


def quantile(draws: Float[Tensor, "chains draws columns"], probability: float) -> Float[Tensor, " columns"]:
    """Of all chains' draws together, linear between the order statistics."""
    ordered = draws.reshape(-1, draws.shape[2]).sort(0).values
    n = len(ordered)
    place = n * probability + (1 - probability)
    below = int(min(max(place, 1), n - 1))
    share = min(max(place - below, 0.0), 1.0)
    return (1 - share) * ordered[below - 1] + share * ordered[below]
