"""A class as the latent: one of K, as a one-hot vector."""

import torch
from torch import Tensor, nn
from torch.distributions import OneHotCategorical

from jensen.distributions import Conditional


class ClassPrior(Conditional):
    """p(z = e_k) = w_k over the K one-hot vectors, with weights that are learned and start equal.

    Args:
        latent_dim: Number of classes K.
    """

    def __init__(self, latent_dim: int) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(latent_dim))

    def forward(self, context: Tensor | None = None) -> OneHotCategorical:
        """The prior; it doesn't depend on the context."""
        return OneHotCategorical(logits=self.logits, validate_args=False)
