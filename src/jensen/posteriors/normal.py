"""Normal posteriors over a vector of latents, their parameters from a network."""

import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from jensen import distributions
from jensen.distributions import Conditional, given
from jensen.errors import ShapeError


class DiagonalNormal(Conditional):
    """q(z|x) = N(z; m(x), diag(s(x)^2)); the network gives m and log s.

    Args:
        network: From the context to (*batch, 2, latent_dim): location, then log-scale.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @staticmethod
    def parameter_shape(latent_dim: int) -> tuple[int, ...]:
        """What the network has to return for one datum."""
        return (2, latent_dim)

    def forward(self, context: Tensor | None = None) -> distributions.DiagonalNormal:
        """The posterior given the data."""
        parameters = self.network(given(context, self))
        if parameters.ndim < 2 or parameters.shape[-2] != 2:
            raise ShapeError(
                f"DiagonalNormal needs (2, latent_dim) from its network for each datum, got {tuple(parameters.shape)}; "
                "give the network that out_shape"
            )
        loc, log_scale = parameters.unbind(-2)
        return distributions.DiagonalNormal(loc, log_scale)


class FullNormal(Conditional):
    """q(z|x) = N(z; m(x), L(x) L(x)^T); the network gives m and the lower triangle of L, its diagonal in logs.

    Args:
        network: From the context to (*batch, latent_dim + latent_dim (latent_dim + 1) / 2): the location, the
            logarithms of the diagonal of L, then what is below the diagonal row by row.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    @staticmethod
    def parameter_shape(latent_dim: int) -> tuple[int, ...]:
        """What the network has to return for one datum."""
        return (latent_dim + latent_dim * (latent_dim + 1) // 2,)

    def forward(self, context: Tensor | None = None) -> MultivariateNormal:
        """The posterior given the data."""
        parameters = self.network(given(context, self))
        # d locations, d log-diagonals and d (d - 1) / 2 below make n = d (d + 3) / 2 numbers.
        n = parameters.shape[-1]
        latent_dim = round(((9 + 8 * n) ** 0.5 - 3) / 2)
        if latent_dim * (latent_dim + 3) != 2 * n:
            raise ShapeError(
                f"FullNormal needs d (d + 3) / 2 numbers (2, 5, 9, ...) from its network for d latents of a datum, got "
                f"{n}; give the network the out_shape FullNormal.parameter_shape(latent_dim)"
            )
        loc, log_diagonal, below = parameters.tensor_split((latent_dim, 2 * latent_dim), -1)
        rows, columns = torch.tril_indices(latent_dim, latent_dim, -1, device=parameters.device)
        scale_tril = torch.diag_embed(log_diagonal.exp())
        scale_tril[..., rows, columns] = below
        return MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False)
