"""Normals with independent coordinates."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.distributions import DiagonalNormal, TriangularNormal
from jensen.inference.families.family import Draws, Family, equal_weights, log_normal
from jensen.inference.families.frame import Frame


class MeanField(Family):
    r"""q(u) = N(location + S m, S diag(s^2) S^T): independent in the coordinates of its frame.

    Args:
        frame: Location and S; a number stands for that many plain coordinates.

    Example:
        >>> q = MeanField.around(torch.ones(2), torch.diag(torch.tensor([1.0, 2.0])))
        >>> q(None).mean.tolist(), q(None).variance.tolist()
        ([1.0, 1.0], [1.0, 4.0])
    """

    def __init__(self, frame: Frame | int) -> None:
        super().__init__()
        self.frame = Frame.standard(frame) if isinstance(frame, int) else frame
        self.noise_dim = self.frame.dim
        self.loc = nn.Parameter(torch.zeros_like(self.frame.location))
        self.log_scale = nn.Parameter(torch.zeros_like(self.frame.location))

    @classmethod
    def around(cls, location: Float[Tensor, " dim"], scale_tril: Tensor) -> "MeanField":
        """One that starts at N(location, scale_tril scale_tril^T) and is independent in the whitened coordinates.

        Args:
            location: (dim,).
            scale_tril: Lower triangle (dim, dim), or a diagonal (dim,) for independence in the target's coordinates.
        """
        return cls(Frame(location, scale_tril))

    def forward(self, context: Tensor | None = None) -> Distribution:
        """The normal."""
        loc = self.frame(self.loc)
        if self.frame.diagonal:
            return DiagonalNormal(loc, self.log_scale + self.frame.scale.log())
        return TriangularNormal(loc, self.frame.scale * self.log_scale.exp())

    def transform(self, noise: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Points made of standard normals."""
        return self.frame(self.loc + self.log_scale.exp() * noise)

    def draw(self, noise: Float[Tensor, "n dim"]) -> Draws:
        """Points made of standard normals (n, dim), with their densities."""
        points = self.transform(noise)
        log_prob = log_normal(noise) - self.log_scale.sum() - self.frame.log_det
        return Draws(points, log_prob, equal_weights(points))
