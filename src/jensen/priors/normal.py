"""Normal priors over a vector of latents."""

import torch
from torch import Tensor, nn
from torch.distributions import Independent, Normal

from jensen.distributions import Conditional


class StandardNormal(Conditional):
    """p(z) = N(z; 0, I).

    Args:
        latent_dim: Number of latents.

    Example:
        >>> StandardNormal(3)().event_shape
        torch.Size([3])
    """

    loc: Tensor
    scale: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("loc", torch.zeros(latent_dim))
        self.register_buffer("scale", torch.ones(latent_dim))

    def forward(self, context: Tensor | None = None) -> Independent:
        """The prior; it doesn't depend on the context."""
        return Independent(Normal(self.loc, self.scale, validate_args=False), 1, validate_args=False)


class LearnedNormal(Conditional):
    """p(z) = N(z; m, diag(s^2)) with m and s learned; it starts as the standard normal.

    Args:
        latent_dim: Number of latents.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, context: Tensor | None = None) -> Independent:
        """The prior; it doesn't depend on the context."""
        return Independent(
            Normal(self.loc, self.log_scale.exp(), validate_args=False), 1, validate_args=False
        )
