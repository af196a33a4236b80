"""Normals whose covariance is a diagonal and a few directions."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, LowRankMultivariateNormal

from jensen.errors import ConfigError
from jensen.inference.families.family import Draws, Family, equal_weights
from jensen.inference.families.frame import Frame, Framed
from jensen.seeding import seeded


class LowRank(Family):
    r"""q(u) = N(location + S m, S (diag(s^2) + F F^T) S^T) with F (dim, rank).

    It has dim (rank + 2) parameters, and densities cost dim rank^2.

    Args:
        frame: Location and S; a number stands for that many plain coordinates.
        rank: Columns of F.
        seed: Of the columns' first directions, which are short: at zero F would have no gradient.

    Raises:
        ConfigError: If the rank is below one.

    Example:
        >>> LowRank(5, rank=2)(None).sample().shape
        torch.Size([5])
    """

    def __init__(self, frame: Frame | int, rank: int = 2, seed: int | None = 0) -> None:
        super().__init__()
        if rank < 1:
            raise ConfigError(
                f"the low-rank family needs a rank of at least 1, got {rank}; use the mean field"
            )
        self.frame = Frame.standard(frame) if isinstance(frame, int) else frame
        dim = self.frame.dim
        self.noise_dim = dim + rank
        self.loc = nn.Parameter(torch.zeros_like(self.frame.location))
        self.log_scale = nn.Parameter(torch.zeros_like(self.frame.location))
        with seeded(seed):
            self.factor = nn.Parameter(0.1 * torch.randn(dim, rank, dtype=torch.float64) / dim**0.5)

    @classmethod
    def around(
        cls, location: Float[Tensor, " dim"], scale_tril: Tensor, rank: int = 2, seed: int | None = 0
    ) -> "LowRank":
        """One that starts near N(location, scale_tril scale_tril^T).

        Args:
            location: (dim,).
            scale_tril: Lower triangle (dim, dim), or a diagonal (dim,).
            rank: Columns of F.
            seed: Of the first directions.
        """
        return cls(Frame(location, scale_tril), rank, seed)

    def _inner(self) -> LowRankMultivariateNormal:
        return LowRankMultivariateNormal(
            self.loc, self.factor, (2 * self.log_scale).exp(), validate_args=False
        )

    def forward(self, context: Tensor | None = None) -> Distribution:
        """The normal."""
        if not self.frame.diagonal:
            return Framed(self._inner(), self.frame)
        scale = self.frame.scale
        diagonal = (2 * (self.log_scale + scale.log())).exp()
        return LowRankMultivariateNormal(
            self.frame(self.loc), scale[:, None] * self.factor, diagonal, validate_args=False
        )

    def transform(self, noise: Float[Tensor, "n noise"]) -> Float[Tensor, "n dim"]:
        """Points made of dim + rank standard normals."""
        own, shared = noise.tensor_split((self.frame.dim,), -1)
        return self.frame(self.loc + self.log_scale.exp() * own + shared @ self.factor.T)

    def draw(self, noise: Float[Tensor, "n noise"]) -> Draws:
        """Points made of standard normals (n, dim + rank), with their densities."""
        points = self.transform(noise)
        return Draws(points, self.log_prob(points), equal_weights(points))
