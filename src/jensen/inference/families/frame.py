"""Coordinates in which a family lives: centred and scaled, or whitened."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.distributions import VectorDistribution
from jensen.errors import ShapeError


class Frame(nn.Module):
    r"""The map u = location + S z from a family's own coordinates z to the target's u; it is not learned.

    Where S S^T is about the posterior's covariance, the family starts at a standard normal, and step sizes suit all
    of its parameters.

    Args:
        location: Where z is zero, (dim,).
        scale: S: its positive diagonal (dim,), or a lower triangle (dim, dim).

    Raises:
        ShapeError: If shapes don't agree.

    Example:
        >>> frame = Frame(torch.ones(2), torch.tensor([1.0, 2.0]))
        >>> frame(torch.ones(1, 2)).tolist(), float(frame.log_det.exp())
        ([[2.0, 3.0]], 2.0)
    """

    location: Tensor
    scale: Tensor

    def __init__(self, location: Tensor, scale: Tensor) -> None:
        super().__init__()
        dim = len(location)
        if location.ndim != 1 or tuple(scale.shape) not in {(dim,), (dim, dim)}:
            raise ShapeError(
                "a frame has a location (dim,) and a scale (dim,) or (dim, dim), got "
                f"{tuple(location.shape)} and {tuple(scale.shape)}"
            )
        self.register_buffer("location", location.detach().double())
        self.register_buffer("scale", scale.detach().double())

    @classmethod
    def standard(cls, dim: int) -> "Frame":
        """The one that changes nothing."""
        return cls(torch.zeros(dim, dtype=torch.float64), torch.ones(dim, dtype=torch.float64))

    @property
    def dim(self) -> int:
        """Number of coordinates."""
        return len(self.location)

    @property
    def diagonal(self) -> bool:
        """Whether each coordinate is scaled by itself."""
        return self.scale.ndim == 1

    @property
    def log_det(self) -> Tensor:
        """The log-determinant of S, nats."""
        return (self.scale if self.diagonal else self.scale.diagonal()).log().sum()

    def forward(self, z: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n dim"]:
        """From the family's coordinates to the target's."""
        return self.location + (z * self.scale if self.diagonal else z @ self.scale.T)

    def back(self, u: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n dim"]:
        """From the target's coordinates to the family's."""
        centred = u - self.location
        if self.diagonal:
            return centred / self.scale
        flat = centred.reshape(-1, self.dim)
        return torch.linalg.solve_triangular(self.scale, flat.T, upper=False).T.reshape(u.shape)

    def scaled(self, factor: Float[Tensor, "dim dim"]) -> Float[Tensor, "dim dim"]:
        """S times a matrix."""
        return self.scale[:, None] * factor if self.diagonal else self.scale @ factor


class Framed(VectorDistribution):
    """A distribution over a frame's coordinates, seen in the target's.

    Args:
        base: Over z, (dim,).
        frame: From z to u.
    """

    has_rsample = True

    def __init__(self, base: Distribution, frame: Frame) -> None:
        self.base, self.frame = base, frame
        super().__init__(base.batch_shape, base.event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Means, where the base knows its own."""
        return self.frame(self.base.mean)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with a path to the parameters, (*sample, dim)."""
        return self.frame(self.base.rsample(sample_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of points (*sample, dim)."""
        return self.base.log_prob(self.frame.back(value)) - self.frame.log_det
