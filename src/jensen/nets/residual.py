"""Blocks that add to what they are given."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from jensen.nets.activations import ACTIVATIONS
from jensen.nets.mlp import wrong_inputs


class Residual(nn.Module):
    """x + f(x).

    Args:
        change: The network f, which keeps the shape.
    """

    def __init__(self, change: nn.Module) -> None:
        super().__init__()
        self.change = change

    def forward(self, x: Tensor) -> Tensor:
        """Maps x to x + f(x)."""
        return x + self.change(x)


def convolutional_block(channels: int, activation: str, dropout: float) -> Residual:
    """A residual block of two 3 x 3 convolutions, normalised in groups, that keeps an image's shape."""
    act = ACTIVATIONS[activation]
    groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
    return Residual(
        nn.Sequential(
            nn.GroupNorm(groups, channels),
            act(),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.GroupNorm(groups, channels),
            act(),
            nn.Dropout(dropout),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
    )


class ResidualMLP(nn.Module):
    """Residual blocks of two linear layers between a linear layer in and one out.

    Args:
        in_shape: Shape of one input.
        out_shape: Shape of one output.
        width: Width of the blocks.
        blocks: Number of blocks.
        activation: Name of the activation.
        dropout: Probability with which a hidden unit is dropped in training.

    Raises:
        ShapeError: When it is called with inputs of another number of cells.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        width: int = 256,
        blocks: int = 2,
        activation: str = "silu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.in_dims = len(in_shape)
        self.in_width = prod(in_shape)
        self.out_shape = tuple(out_shape)
        act = ACTIVATIONS[activation]

        def block() -> Residual:
            first = nn.Linear(width, width)
            return Residual(
                nn.Sequential(
                    nn.LayerNorm(width), act(), first, act(), nn.Dropout(dropout), nn.Linear(width, width)
                )
            )

        self.layers = nn.Sequential(
            nn.Linear(prod(in_shape), width),
            *[block() for _ in range(blocks)],
            act(),
            nn.Linear(width, prod(out_shape)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (*batch, *in_shape) to (*batch, *out_shape)."""
        if prod(x.shape[x.ndim - self.in_dims :]) != self.in_width:
            raise wrong_inputs(x, self.in_shape)
        out: Tensor = self.layers(x.reshape(*x.shape[: x.ndim - self.in_dims], -1))
        return out.reshape(*out.shape[:-1], *self.out_shape)
