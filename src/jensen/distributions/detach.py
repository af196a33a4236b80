"""A distribution whose parameters are cut off from the graph."""

import copy
from typing import TypeVar

from torch import Tensor, nn
from torch.distributions import Distribution, Transform

from jensen.errors import BoundError

D = TypeVar("D", bound=Distribution)


def detached(distribution: D) -> D:
    """A copy of the distribution whose parameters carry no gradient.

    The density of the copy still has a gradient in the value that it is taken at; this is what
    sticking-the-landing and doubly reparameterised gradients need.

    Args:
        distribution: Any distribution that keeps its parameters as attributes, nested or not.

    Returns:
        The copy.

    Raises:
        BoundError: If it holds a Transform or a network, whose parameters can't be seen from outside, or a list
            of parts.

    Example:
        >>> import torch
        >>> loc = torch.zeros(2, requires_grad=True)
        >>> detached(torch.distributions.Normal(loc, 1.0)).loc.requires_grad
        False
    """
    result = copy.copy(distribution)
    for name, value in vars(distribution).items():
        parts = value if isinstance(value, list | tuple) else [value]
        if isinstance(value, Tensor):
            setattr(result, name, value.detach())
        elif isinstance(value, Distribution):
            setattr(result, name, detached(value))
        elif any(isinstance(part, Tensor | Distribution | Transform | nn.Module) for part in parts):
            raise BoundError(
                f"can't cut the parameters of a {type(distribution).__name__} off the graph; use the "
                "path-wise or the score-function gradient with this posterior"
            )
    return result
