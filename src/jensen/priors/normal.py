"""Normal priors over a vector of latents."""

import torch
from torch import Tensor, nn

from jensen.distributions import Conditional, DiagonalNormal


class StandardNormal(Conditional):
    """p(z) = N(z; 0, I).

    Args:
        latent_dim: Number of latents.

    Example:
        >>> StandardNormal(3)().event_shape
        torch.Size([3])
    """

    zeros: Tensor

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.register_buffer("zeros", torch.zeros(latent_dim))

    def forward(self, context: Tensor | None = None) -> DiagonalNormal:
        """The prior; it doesn't depend on the context."""
        return DiagonalNormal(self.zeros, self.zeros, standard=True)


class LearnedNormal(Conditional):
    """p(z) = N(z; m, diag(s^2)) with m and s learned; it starts as the standard normal.

    Args:
        latent_dim: Number of latents.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.loc = nn.Parameter(torch.zeros(latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, context: Tensor | None = None) -> DiagonalNormal:
        """The prior; it doesn't depend on the context."""
        return DiagonalNormal(self.loc, self.log_scale)
