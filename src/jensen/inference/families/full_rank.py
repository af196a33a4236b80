"""Normals with any covariance."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jensen.distributions import TriangularNormal
from jensen.inference.families.family import Draws, Family, equal_weights, log_normal
from jensen.inference.families.frame import Frame


class FullRank(Family):
    r"""q(u) = N(location + S m, S T T^T S^T) with T lower triangular, its diagonal kept in logarithms.

    Args:
        frame: Location and S; a number stands for that many plain coordinates.

    Example:
        >>> q = FullRank.around(torch.ones(2), torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
        >>> q(None).covariance_matrix.tolist()
        [[1.0, 1.0], [1.0, 2.0]]
    """

    def __init__(self, frame: Frame | int) -> None:
        super().__init__()
        self.frame = Frame.standard(frame) if isinstance(frame, int) else frame
        dim = self.noise_dim = self.frame.dim
        self.loc = nn.Parameter(torch.zeros_like(self.frame.location))
        self.log_diagonal = nn.Parameter(torch.zeros_like(self.frame.location))
        self.below = nn.Parameter(self.loc.new_zeros(dim * (dim - 1) // 2))

    @classmethod
    def around(cls, location: Float[Tensor, " dim"], scale_tril: Tensor) -> "FullRank":
        """One that starts at N(location, scale_tril scale_tril^T).

        Args:
            location: (dim,).
            scale_tril: Lower triangle (dim, dim), or its diagonal (dim,).
        """
        return cls(Frame(location, scale_tril))

    @property
    def triangle(self) -> Float[Tensor, "dim dim"]:
        """The matrix T."""
        return triangle(self.log_diagonal, self.below)

    def forward(self, context: Tensor | None = None) -> TriangularNormal:
        """The normal."""
        scale_tril = self.frame.scaled(self.triangle)
        return TriangularNormal(self.frame(self.loc), scale_tril)

    def transform(self, noise: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Points made of standard normals."""
        return self.frame(self.loc + noise @ self.triangle.T)

    def draw(self, noise: Float[Tensor, "n dim"]) -> Draws:
        """Points made of standard normals (n, dim), with their densities."""
        points = self.transform(noise)
        log_prob = log_normal(noise) - self.log_diagonal.sum() - self.frame.log_det
        return Draws(points, log_prob, equal_weights(points))


def triangle(
    log_diagonal: Float[Tensor, "*k dim"], below: Float[Tensor, "*k m"]
) -> Float[Tensor, "*k dim dim"]:
    """Lower triangular matrices from the logarithms of their diagonals and what is below them, row by row."""
    dim = log_diagonal.shape[-1]
    rows, columns = torch.tril_indices(dim, dim, -1)
    result = torch.diag_embed(log_diagonal.exp())
    result[..., rows, columns] = below
    return result
