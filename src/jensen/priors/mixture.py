"""A mixture of normals as the prior over a vector of latents."""

import torch
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily

from jensen.distributions import Conditional, DiagonalNormal


class NormalMixture(Conditional):
    """p(z) = sum_k w_k N(z; m_k, diag(s_k^2)), all learned.

    The means start as draws of N(0, I), the scales at one, the weights equal.

    Args:
        latent_dim: Number of latents.
        components: Number of components K.
    """

    def __init__(self, latent_dim: int, components: int = 10) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(components))
        self.loc = nn.Parameter(torch.randn(components, latent_dim))
        self.log_scale = nn.Parameter(torch.zeros(components, latent_dim))

    def forward(self, context: Tensor | None = None) -> MixtureSameFamily:
        """The prior; it doesn't depend on the context."""
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False),
            DiagonalNormal(self.loc, self.log_scale),
            validate_args=False,
        )
