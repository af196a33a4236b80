"""Which networks probabilistic backpropagation knows, and how their weights lie in its vectors."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jensen.errors import ConfigError
from jensen.weights.network import FunctionalNetwork, Values
from jensen.weights.pbp.moments import Layer


@dataclass(frozen=True)
class ReluChain:
    """Linear layers with biases and ReLU between them, and one output.

    Attributes:
        names: Of the linear modules, from the first to the last, each with a dot behind it.
        shapes: (out, in + 1) of each.
    """

    names: tuple[str, ...]
    shapes: tuple[tuple[int, int], ...]

    def layers(self, values: Mapping[str, Tensor], power: int) -> list[Tensor]:
        """Weights, or their variances, by name as scaled layers (..., out, in + 1).

        Args:
            values: By name, (..., *shape).
            power: 1 for weights, 2 for variances: of the scale sqrt(in + 1).
        """
        return [
            torch.cat([values[f"{name}weight"], values[f"{name}bias"][..., None]], -1).double()
            * shape[1] ** (power / 2)
            for name, shape in zip(self.names, self.shapes, strict=True)
        ]

    def values(self, vectors: Float[Tensor, "*sets p"], power: int) -> Values:
        """Scaled weights, or their variances, as the network's by name."""
        parts = vectors.split([out * width for out, width in self.shapes], -1)
        found: Values = {}
        for name, shape, part in zip(self.names, self.shapes, parts, strict=True):
            layer = part.unflatten(-1, shape) / shape[1] ** (power / 2)
            found[f"{name}weight"] = layer[..., :-1]
            found[f"{name}bias"] = layer[..., -1]
        return found

    def vectors(self, values: Mapping[str, Tensor], power: int) -> Float[Tensor, "*sets p"]:
        """The network's weights, or their variances, by name as scaled vectors."""
        return torch.cat([layer.flatten(-2) for layer in self.layers(values, power)], -1)

    def moments_of(self, mean: Mapping[str, Tensor], variance: Mapping[str, Tensor]) -> list[Layer]:
        """Layers for ``output_moments``."""
        return list(zip(self.layers(mean, 1), self.layers(variance, 2), strict=True))


def relu_chain(network: FunctionalNetwork) -> ReluChain:
    """The chain that a network is.

    Raises:
        ConfigError: If it is anything else; the message names the first module that doesn't fit.
    """
    found: list[tuple[str, nn.Linear]] = []
    expects_linear = True
    for name, module in _flat(network.skeleton, ""):
        if isinstance(module, nn.Identity) or (isinstance(module, nn.Dropout) and module.p == 0):
            continue
        wanted = "a Linear layer with a bias" if expects_linear else "ReLU"
        fits = (
            isinstance(module, nn.Linear) and dict(module.named_parameters()).get("bias") is not None
            if expects_linear
            else isinstance(module, nn.ReLU)
        )
        if not fits:
            raise ConfigError(
                f"method='pbp' knows chains of Linear layers with biases and ReLU between them; module '{name}' is "
                f"{type(module).__name__} where {wanted} was wanted. Use such a network, or method='laplace'"
            )
        if isinstance(module, nn.Linear):
            found.append((name, module))
        expects_linear = not expects_linear
    if not found or expects_linear or found[-1][1].out_features != 1:
        width = found[-1][1].out_features if found else 0
        raise ConfigError(
            f"method='pbp' needs a network that ends with a Linear layer of one output; this one has {width}"
            f"{' and ends with ReLU' if expects_linear and found else ''}. For several outputs use method='laplace'"
        )
    names = tuple(f"{name}." if name else "" for name, _ in found)
    missing = [n for name in names for n in (f"{name}weight", f"{name}bias") if n not in network.weights]
    if missing:
        raise ConfigError(
            f"method='pbp' is over all weights of the network; '{missing[0]}' is frozen. Unfreeze it by "
            "requires_grad_(True), or use method='laplace'"
        )
    return ReluChain(names, tuple((m.out_features, m.in_features + 1) for _, m in found))


def _flat(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    if isinstance(module, nn.Sequential):
        return [
            pair
            for child, part in module.named_children()
            for pair in _flat(part, f"{name}.{child}" if name else child)
        ]
    return [(name, module)]
