"""Convolutional networks from images to vectors and back."""

from collections.abc import Sequence
from math import prod

from torch import Tensor, nn

from jensen.errors import ShapeError
from jensen.nets.activations import ACTIVATIONS
from jensen.nets.residual import convolutional_block


def _image_shape(shape: Sequence[int], what: str) -> tuple[int, int, int]:
    if len(shape) == 2:
        return (1, shape[0], shape[1])
    if len(shape) == 3:
        return (shape[0], shape[1], shape[2])
    raise ShapeError(
        f"a convolutional network needs {what} of shape (height, width) or (channels, height, width), got "
        f"{tuple(shape)}; reshape the data or use network='mlp'"
    )


def _unless_in_blocks(blocks: int, dropout: float) -> list[nn.Module]:
    return [nn.Dropout(dropout)] if dropout > 0 and blocks == 0 else []


class ConvolutionalEncoder(nn.Module):
    """From images to events of any shape: convolutions that halve the sides, then one linear layer.

    Args:
        in_shape: Shape of one image, (height, width) or (channels, height, width).
        out_shape: Shape of one output.
        channels: Channels after each halving.
        blocks: Residual blocks after each halving.
        activation: Name of the activation.
        dropout: Probability with which a hidden unit is dropped in training; where there are residual blocks,
            those inside them.

    Raises:
        ShapeError: If the inputs aren't images, or are too small to be halved that often.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (32, 64),
        blocks: int = 0,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_dims = len(in_shape)
        self.image_shape = _image_shape(in_shape, "inputs")
        self.out_shape = tuple(out_shape)
        layers: list[nn.Module] = []
        width, *sides = self.image_shape
        for wider in channels:
            layers += [nn.Conv2d(width, wider, 4, stride=2, padding=1)]
            layers += [convolutional_block(wider, activation, dropout) for _ in range(blocks)]
            layers += [ACTIVATIONS[activation](), *_unless_in_blocks(blocks, dropout)]
            width, sides = wider, [side // 2 for side in sides]
        if 0 in sides:
            raise ShapeError(
                f"images of shape {tuple(in_shape)} are too small to be halved {len(channels)} times; give "
                "fewer channels or use network='mlp'"
            )
        layers += [nn.Flatten(), nn.Linear(width * prod(sides), prod(out_shape))]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (*batch, *in_shape) to (*batch, *out_shape)."""
        batch = x.shape[: x.ndim - self.in_dims]
        return self.layers(x.reshape(-1, *self.image_shape)).reshape(*batch, *self.out_shape)


class ConvolutionalDecoder(nn.Module):
    """From vectors to stacks of images: one linear layer, then transposed convolutions that double the sides.

    Sides that aren't a multiple of two to the number of doublings are cut from a larger image.

    Args:
        in_shape: Shape of one input.
        out_shape: (outputs, height, width) or (outputs, channels, height, width).
        channels: Channels before each doubling.
        blocks: Residual blocks before each doubling.
        activation: Name of the activation.
        dropout: Probability with which a hidden unit is dropped in training; where there are residual blocks,
            those inside them.

    Raises:
        ShapeError: If the outputs aren't stacks of images.
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        channels: Sequence[int] = (64, 32),
        blocks: int = 0,
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_dims = len(in_shape)
        self.out_shape = tuple(out_shape)
        image_channels, *self.sides = _image_shape(out_shape[1:], "outputs")
        halved = 2 ** len(channels)
        small = [-(-side // halved) for side in self.sides]
        widths = [*channels, out_shape[0] * image_channels]
        layers: list[nn.Module] = [
            nn.Linear(prod(in_shape), widths[0] * prod(small)),
            nn.Unflatten(1, (widths[0], *small)),
            ACTIVATIONS[activation](),
            *_unless_in_blocks(blocks, dropout),
        ]
        for i, wide in enumerate(channels):
            layers += [convolutional_block(wide, activation, dropout) for _ in range(blocks)]
            layers += [nn.ConvTranspose2d(wide, widths[i + 1], 4, stride=2, padding=1)]
            if i + 1 < len(channels):
                layers += [ACTIVATIONS[activation](), *_unless_in_blocks(blocks, dropout)]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (*batch, *in_shape) to (*batch, *out_shape)."""
        batch = x.shape[: x.ndim - self.in_dims]
        images: Tensor = self.layers(x.reshape(batch.numel(), -1))
        height, width = self.sides
        return images[..., :height, :width].reshape(*batch, *self.out_shape)
