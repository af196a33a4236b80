"""Fully connected networks."""

from collections.abc import Sequence
from itertools import pairwise
from math import prod

from torch import Tensor, nn

from jensen.errors import ShapeError
from jensen.nets.activations import ACTIVATIONS


class MLP(nn.Module):
    """Linear layers with an activation between them, from events of one shape to events of another.

    Args:
        in_shape: Shape of one input.
        out_shape: Shape of one output.
        hidden: Widths of the hidden layers; none makes it linear.
        activation: Name of the activation.
        dropout: Probability with which a hidden unit is dropped in training.

    Raises:
        ShapeError: When it is called with inputs of another number of cells.

    Example:
        >>> import torch
        >>> MLP((28, 28), (2, 16), hidden=(64,))(torch.zeros(5, 3, 28, 28)).shape
        torch.Size([5, 3, 2, 16])
    """

    def __init__(
        self,
        in_shape: Sequence[int],
        out_shape: Sequence[int],
        hidden: Sequence[int] = (400,),
        activation: str = "relu",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_shape = tuple(in_shape)
        self.in_dims = len(in_shape)
        self.in_width = prod(in_shape)
        self.out_shape = tuple(out_shape)
        widths = [self.in_width, *hidden]
        layers: list[nn.Module] = []
        for narrow, wide in pairwise(widths):
            layers += [nn.Linear(narrow, wide), ACTIVATIONS[activation]()]
            if dropout > 0:
                layers.append(nn.Dropout(dropout))
        layers.append(nn.Linear(widths[-1], prod(out_shape)))
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (*batch, *in_shape) to (*batch, *out_shape)."""
        if prod(x.shape[x.ndim - self.in_dims :]) != self.in_width:
            raise wrong_inputs(x, self.in_shape)
        batch = x.shape[: x.ndim - self.in_dims]
        # Matrices are faster than stacks of them, for which torch reshapes around every layer.
        rows = x if x.ndim == self.in_dims + 1 == 2 else x.reshape(batch.numel(), self.in_width)
        out: Tensor = self.layers(rows)
        return out.view(*batch, *self.out_shape)


def wrong_inputs(x: Tensor, shape: tuple[int, ...]) -> ShapeError:
    """The error for inputs of another number of cells than those of a shape.

    Args:
        x: The inputs.
        shape: That of one input should have been.
    """
    return ShapeError(
        f"this network takes inputs of shape (..., {', '.join(map(str, shape))}), got {tuple(x.shape)}; give data, "
        "latents or a context of that shape, or build it with another in_shape"
    )
