"""Whether chains agree: the rank-normalised split R-hat."""

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.diagnostics.chains import columns, halves, normal_scores


def _ratio(chains: Tensor) -> Tensor:
    """Spread of all draws over the spread within chains, (columns,)."""
    draws = chains.shape[1]
    within = chains.var(1).mean(0)
    between = chains.mean(1).var(0)
    return (between / within + (draws - 1) / draws).sqrt()


def r_hat(draws: Float[Tensor, "chains draws *event"]) -> Float[Tensor, "*event"]:
    r"""By how much the spread of all chains exceeds that within them, :math:`\hat R`.

    .. math::
        \hat R^2 = \frac{n - 1}{n} + \frac{B}{n W}

    with the variances B / n of the half chains' averages and W within them, of the normal scores of ranks; the larger
    one of two, for the draws (do the chains lie at the same place) and for their distances from the median (are they as
    wide).

    Args:
        draws: (chains, draws, *event), at least four draws a chain; one chain is compared with itself by halves.

    Returns:
        1 where all agree, float64 (*event); NaN of a quantity that doesn't vary. Below 1.01 is good.

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If a draw isn't finite.

    Example:
        >>> alike = torch.randn(4, 500, generator=torch.Generator().manual_seed(0))
        >>> bool(r_hat(alike) < 1.01), bool(r_hat(alike + torch.arange(4)[:, None]) > 1.2)
        (True, True)

    Source: Rank-normalization, folding, and localization, 2021, https://arxiv.org/abs/1903.08008.
    """
    split = halves(columns(draws))
    flat = split.reshape(-1, split.shape[2])
    # The median as the mean of both middle values; torch's own takes the lower one.
    ordered = flat.sort(0).values
    median = 0.5 * (ordered[(len(flat) - 1) // 2] + ordered[len(flat) // 2])
    place, width = _ratio(normal_scores(split)), _ratio(normal_scores((split - median).abs()))
    return torch.maximum(place, width).reshape(draws.shape[2:])
