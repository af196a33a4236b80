"""Networks without probability: from events of one shape to events of another."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

from jensen.nets.activations import ACTIVATIONS
from jensen.nets.convolutional import ConvolutionalDecoder, ConvolutionalEncoder
from jensen.nets.economy import Checkpointed, HalfPrecision, compiled
from jensen.nets.log1p import Log1p
from jensen.nets.mlp import MLP
from jensen.nets.rescale import DropInputs, Rescale
from jensen.nets.residual import Residual, ResidualMLP
from jensen.registry import Registry


@dataclass(frozen=True)
class Architecture:
    """A pair of networks: from data to parameters of the posterior, from latents to those of the likelihood.

    Attributes:
        encoder: Called with in_shape, out_shape and options by name.
        decoder: Likewise.
        options: What both take: "hidden" for widths, "channels" for images.
        images: Whether data has to have the shape of an image.
    """

    encoder: Callable[..., nn.Module]
    decoder: Callable[..., nn.Module]
    options: tuple[str, ...]
    images: bool = False


_convolutional = ("channels", "activation", "dropout")

ARCHITECTURES: Registry[Architecture] = Registry(
    "network",
    {
        "mlp": Architecture(MLP, MLP, ("hidden", "activation", "dropout")),
        "conv": Architecture(ConvolutionalEncoder, ConvolutionalDecoder, _convolutional, images=True),
        "residual": Architecture(
            partial(ConvolutionalEncoder, blocks=2),
            partial(ConvolutionalDecoder, blocks=2),
            _convolutional,
            images=True,
        ),
        "residual-mlp": Architecture(ResidualMLP, ResidualMLP, ("width", "blocks", "activation", "dropout")),
    },
)
"""Networks by name."""

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "MLP",
    "Architecture",
    "Checkpointed",
    "ConvolutionalDecoder",
    "ConvolutionalEncoder",
    "DropInputs",
    "HalfPrecision",
    "Log1p",
    "Rescale",
    "Residual",
    "ResidualMLP",
    "compiled",
]
