"""A class as the latent: one of K, as a one-hot vector."""

from torch import Tensor, nn
from torch.distributions import OneHotCategorical

from jensen.distributions import Conditional, given


class ClassPosterior(Conditional):
    """q(z = e_k | x) over the K one-hot vectors; the network gives the logits.

    It can be enumerated (``samples="all"``) or sampled, and has no path-wise gradient.

    Args:
        network: From the context to (*batch, K) logits.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @staticmethod
    def parameter_shape(latent_dim: int) -> tuple[int, ...]:
        """What the network has to return for one datum."""
        return (latent_dim,)

    def forward(self, context: Tensor | None = None) -> OneHotCategorical:
        """The posterior given the data."""
        return OneHotCategorical(logits=self.network(given(context, self)), validate_args=False)
