"""Layers whose weights are normal and independent: noise on their outputs in place of draws of their weights."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from jensen.weights.network import FunctionalNetwork

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_TINY = 1e-16
"""Added to variances, whose square root has no slope at zero."""


class LocalLinear(nn.Module):
    r"""A linear layer whose outputs are drawn for each datum, from what normal weights make of them.

    For w_oi ~ N(m_oi, s_oi^2) the outputs of one datum are independent normals:

    .. math::
        a_o \sim N\Big(\sum_i m_{oi} x_i,\; \sum_i s_{oi}^2 x_i^2\Big)

    Args:
        layer: Whose parameters are the means m.
        noisy_bias: Whether the bias is normal too.

    Source: Variational dropout and the local reparameterization trick, 2015, https://arxiv.org/abs/1506.02557.
    """

    weight_scale: Tensor
    bias_scale: Tensor | None

    def __init__(self, layer: nn.Linear, noisy_bias: bool) -> None:
        super().__init__()
        _adopt(self, layer, noisy_bias)

    def forward(self, x: Tensor) -> Tensor:
        """Draws the outputs."""
        mean = functional.linear(x, self.weight, self.bias)  # pyright: ignore[reportArgumentType]
        offset = None if self.bias_scale is None else self.bias_scale.square()
        variance = functional.linear(x.square(), self.weight_scale.square(), offset)
        return torch.addcmul(mean, (variance + _TINY).sqrt(), torch.randn_like(mean))


class FlipoutLayer(nn.Module):
    """A linear layer over several positions, or a convolution, with one draw of its weights whose signs vary by datum.

    All positions of a datum have the same weights, so their outputs can't be drawn apart. With signs r and q, drawn
    for each datum's inputs and outputs, (E * q r^T) is distributed as a draw E that is symmetric about zero, and
    differs from datum to datum.

    Args:
        layer: Whose parameters are the means.
        noisy_bias: Whether the bias is normal too.

    Source: Flipout: efficient pseudo-independent weight perturbations on mini-batches, 2018,
    https://arxiv.org/abs/1803.04386.
    """

    weight_scale: Tensor
    bias_scale: Tensor | None

    def __init__(self, layer: nn.Module, noisy_bias: bool) -> None:
        super().__init__()
        _adopt(self, layer, noisy_bias)
        self.channel = -1 if isinstance(layer, nn.Linear) else 1
        self.apply_weights: Callable[[Tensor, Any, Any], Tensor]
        if isinstance(layer, nn.Linear):
            self.apply_weights = functional.linear
        else:
            self.apply_weights = layer._conv_forward  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, x: Tensor) -> Tensor:
        """Draws the outputs."""
        mean = self.apply_weights(x, self.weight, self.bias)
        noise = torch.randn_like(self.weight_scale) * self.weight_scale
        drawn = self.apply_weights(x * _signs(x, self.channel), noise, None)
        result = torch.addcmul(mean, drawn, _signs(mean, self.channel))
        if self.bias_scale is None:
            return result
        shape = [len(x), *[1] * (result.ndim - 1)]
        shape[self.channel] = len(self.bias_scale)
        return result + (torch.randn_like(mean.flatten(1)[:, : len(self.bias_scale)]) * self.bias_scale).view(
            shape
        )


def _signs(like: Tensor, channel: int) -> Tensor:
    """A sign for each datum and channel."""
    shape = [len(like), *[1] * (like.ndim - 1)]
    shape[channel] = like.shape[channel]
    cells = like.movedim(channel, 1).flatten(2)[..., 0] if like.ndim > 2 else like
    return torch.bernoulli(torch.full_like(cells, 0.5)).mul(2).sub(1).view(shape)


def _adopt(module: nn.Module, layer: nn.Module, noisy_bias: bool) -> None:
    """Takes over a layer's parameters, and adds places for their standard deviations."""
    module.register_parameter("weight", layer.weight)  # pyright: ignore[reportArgumentType]
    module.register_parameter("bias", layer.bias)  # pyright: ignore[reportArgumentType]
    module.register_buffer("weight_scale", torch.empty_like(layer.weight))  # pyright: ignore[reportArgumentType]
    bias = layer.bias
    scale = torch.empty_like(bias) if noisy_bias and isinstance(bias, Tensor) else None
    module.register_buffer("bias_scale", scale)


def suited(network: FunctionalNetwork, x: Tensor) -> dict[str, str]:
    """The layers that noise on the outputs serves, and by which of the two ways.

    Linear layers that see one vector a datum are "local"; linear ones over several positions and convolutions are
    "flipout". A layer that is called several times in one pass must have the same weights each time, as must tied
    ones: their weights are drawn, like those of all other kinds of modules.

    Args:
        network: Whose unknown weights count.
        x: Data, of which the first two are looked at.

    Returns:
        Names of modules and "local" or "flipout".

    Example:
        >>> net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(2, 2), nn.LayerNorm(2))
        >>> suited(FunctionalNetwork(net), torch.zeros(2, 1, 3, 3))
        {'0': 'flipout', '2': 'local'}
    """
    calls: dict[str, list[int]] = {}
    handles: list[Any] = []
    owners: dict[int, int] = {}
    for name, module in network.skeleton.named_modules():
        for parameter in module.parameters(recurse=False):
            owners[id(parameter)] = owners.get(id(parameter), 0) + 1
        if type(module) is nn.Linear or type(module) in _CONVOLUTIONS:
            handles.append(module.register_forward_pre_hook(_counting(calls, name)))
    try:
        with torch.no_grad():
            network.single({}, x[:2])
    finally:
        for handle in handles:
            handle.remove()
    found: dict[str, str] = {}
    for name, ranks in calls.items():
        layer = network.skeleton.get_submodule(name)
        shared = any(owners[id(parameter)] > 1 for parameter in layer.parameters(recurse=False))
        if len(ranks) == 1 and not shared and _parameter(name, "weight") in network.weights:
            local = isinstance(layer, nn.Linear) and ranks[0] == 2
            found[name] = "local" if local else "flipout"
    return found


def _counting(calls: dict[str, list[int]], name: str) -> Callable[[nn.Module, Any], None]:
    def note(module: nn.Module, inputs: Any) -> None:
        calls.setdefault(name, []).append(inputs[0].ndim)

    return note


def _parameter(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def exchanged(root: nn.Module, name: str, module: nn.Module) -> nn.Module:
    """The root, whose module of that name is another one now; the empty name is the root itself."""
    if not name:
        return module
    parent, _, child = name.rpartition(".")
    setattr(root.get_submodule(parent), child, module)
    return root


def noisy(network: FunctionalNetwork, layers: dict[str, str]) -> tuple[FunctionalNetwork, dict[str, str]]:
    """The network with such layers in place of plain ones.

    Args:
        network: With plain layers.
        layers: As ``suited`` finds them.

    Returns:
        The network, and for each parameter that became the mean of a noisy one the name of its standard deviation among
        the buffers.
    """
    scales: dict[str, str] = {}
    kinds: dict[str, type[LocalLinear] | type[FlipoutLayer]] = {"local": LocalLinear, "flipout": FlipoutLayer}

    def change(skeleton: nn.Module) -> nn.Module:
        for name, kind in layers.items():
            layer: Any = skeleton.get_submodule(name)
            bias = _parameter(name, "bias") in network.weights
            made = kinds[kind](layer, bias).train(layer.training)
            for part in ("weight", "bias") if bias else ("weight",):
                scales[_parameter(name, part)] = _parameter(name, f"{part}_scale")
            skeleton = exchanged(skeleton, name, made)
        return skeleton

    return network.rebuilt(change), scales
