"""Parts of a batch of distributions, and draws of a batch that share their noise."""

import copy
from typing import TypeVar

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, MultivariateNormal, OneHotCategorical

from jensen.distributions.diagonal_normal import diagonal_normal
from jensen.errors import BoundError

D = TypeVar("D", bound=Distribution)


def select(distribution: D, rows: slice) -> D:
    """Some of a batch of distributions, by the first batch dimension.

    Args:
        distribution: Of batch shape (n, ...), its parameters kept as attributes.
        rows: Which.

    Returns:
        Distributions of batch shape (m, ...).

    Example:
        >>> from torch.distributions import Normal
        >>> select(Normal(torch.zeros(5), torch.ones(5)), slice(0, 2)).batch_shape
        torch.Size([2])
    """
    if isinstance(distribution, MultivariateNormal):
        # It also keeps its factor as it was given, which may have no batch dimensions.
        return type(distribution)(
            distribution.loc[rows], scale_tril=distribution.scale_tril[rows], validate_args=False
        )
    n = distribution.batch_shape[0]
    result = copy.copy(distribution)
    for name, value in vars(distribution).items():
        if isinstance(value, Tensor) and value.ndim > 0 and value.shape[0] == n:
            setattr(result, name, value[rows])
        elif isinstance(value, Distribution) and value.batch_shape[:1] == (n,):
            setattr(result, name, select(value, rows))
    m = len(range(*rows.indices(n)))
    result._batch_shape = Size((m, *distribution.batch_shape[1:]))
    return result


def sample_common(distribution: Distribution, samples: int) -> Tensor:
    """Draws for which all distributions of the batch use the same noise.

    Args:
        distribution: Normal, with full or diagonal covariance, or one-hot categorical.
        samples: Number of draws S.

    Returns:
        Draws (S, *batch_shape, *event_shape).

    Raises:
        BoundError: For another family.
    """
    batch_dims = len(distribution.batch_shape)
    diagonal = diagonal_normal(distribution)
    if diagonal is not None:
        noise = torch.randn(samples, *[1] * batch_dims, *diagonal.event_shape, dtype=diagonal.loc.dtype)
        return diagonal.loc + diagonal.scale * noise.to(diagonal.loc.device)
    if isinstance(distribution, MultivariateNormal):
        noise = torch.randn(
            samples, *[1] * batch_dims, *distribution.event_shape, dtype=distribution.loc.dtype
        )
        spread = distribution.scale_tril @ noise.to(distribution.loc.device)[..., None]
        return distribution.loc + spread[..., 0]
    if isinstance(distribution, OneHotCategorical):
        probs = distribution.probs
        noise = torch.rand(samples, *[1] * batch_dims, 1, dtype=probs.dtype).to(probs.device)
        index = (probs.cumsum(-1) < noise).sum(-1).clamp(max=probs.shape[-1] - 1)
        return torch.nn.functional.one_hot(index, probs.shape[-1]).to(probs.dtype)
    raise BoundError(f"common noise isn't known for {type(distribution).__name__}; use common_noise=False")
