"""A distribution whose draws are given."""

from typing import Any

from torch import Size, Tensor
from torch.distributions import Distribution, constraints

from jensen.errors import ShapeError


class Pinned(Distribution):
    """A distribution that draws what it was given, with the density of another one.

    Handed to a model as what ``encode`` returned, it makes ``terms`` score latents that weren't drawn from the
    posterior; gradients flow to them.

    Args:
        draws: What it draws, (samples, *batch, *event).
        base: Whose density it has, of batch shape (*batch) and event shape (*event).

    Example:
        >>> import torch
        >>> from torch.distributions import Normal
        >>> Pinned(torch.zeros(3, 2), Normal(torch.zeros(2), 1.0)).rsample((3,)).shape
        torch.Size([3, 2])
    """

    has_rsample = True

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """There are no parameters."""
        return {}

    def __init__(self, draws: Tensor, base: Distribution) -> None:
        self.draws, self.base = draws, base
        event_dims = len(base.event_shape)
        batch_shape = draws.shape[1 : draws.ndim - event_dims]
        super().__init__(batch_shape, base.event_shape, validate_args=False)

    @property
    def support(self) -> Any:
        """That of the density."""
        return self.base.support

    @property
    def mean(self) -> Tensor:
        """That of the density."""
        return self.base.mean

    @property
    def variance(self) -> Tensor:
        """That of the density."""
        return self.base.variance

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """The draws.

        Raises:
            ShapeError: If another number of them is asked for.
        """
        if Size(sample_shape) != self.draws.shape[:1]:
            raise ShapeError(f"{len(self.draws)} draws are given, asked for were {tuple(sample_shape)}")
        return self.draws

    def log_prob(self, value: Tensor) -> Tensor:
        """The log-density of the base in nats."""
        return self.base.log_prob(value)
