"""The log-density of the cells that were observed."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution, Independent

from jensen.errors import BoundError


def log_prob_observed(
    distribution: Distribution,
    value: Float[Tensor, " *shape"],
    observed: Bool[Tensor, " *mask"] | None,
) -> Float[Tensor, " *batch"]:
    """Log p(x_observed), the cells that weren't observed integrated out.

    For cells that are independent given the context this is the sum of the log-densities of those observed.

    Args:
        distribution: Over data (*batch, *event).
        value: The data, broadcastable to (*batch, *event); cells that weren't observed may hold NaN.
        observed: True where a cell was observed, broadcastable to the data; None if all were.

    Returns:
        The log-density in nats, (*batch).

    Raises:
        BoundError: If the cells aren't independent given the context.
    """
    if observed is None:
        return distribution.log_prob(value)
    if not isinstance(distribution, Independent) or distribution.base_dist.event_shape:
        raise BoundError(
            f"missing cells need a likelihood whose cells are independent given z, got {type(distribution).__name__}"
        )
    cells = distribution.base_dist.log_prob(torch.where(observed, value, 0.0))
    cells = torch.where(observed, cells, 0.0)
    dims = distribution.reinterpreted_batch_ndims
    return cells.flatten(-dims).sum(-1) if dims else cells
