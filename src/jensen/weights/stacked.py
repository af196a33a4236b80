"""Chains of plain layers for many sets of weights, in one batched product a layer."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn
from torch.nn import functional

_CELLWISE = (
    nn.ReLU,
    nn.Tanh,
    nn.Sigmoid,
    nn.Softplus,
    nn.ELU,
    nn.SELU,
    nn.GELU,
    nn.SiLU,
    nn.LeakyReLU,
    nn.Identity,
)

LARGE = 2**14
"""Weights of a layer from which the order of their slope counts for more than the calls of Python."""

Layer = Callable[[Mapping[str, Tensor], Tensor, bool], Tensor]


@runtime_checkable
class Stackable(Protocol):
    """A module that knows its own way in a chain of layers for many sets of weights."""

    def stacked(self, name: str) -> Layer | None:
        """The step, given the beginning of the names of its values; None: there is none."""
        ...


def stacked(network: nn.Module) -> Callable[[Mapping[str, Tensor], Tensor, bool, bool], Tensor] | None:
    """The function that a chain of linear layers, cell-wise activations and dropout is, for many sets of weights.

    ``vmap`` finds the same products, at a price of some hundred microseconds a call, which is most of the time that a
    small network takes. Networks with hooks or of other modules are left to it.

    Args:
        network: Whose structure counts, not its values.

    Returns:
        A function of values by name, each (S, *shape), data, whether each set has data of its own, and whether dropout
        is on; None if the network isn't such a chain.

    Example:
        >>> call = stacked(nn.Sequential(nn.Linear(3, 2), nn.Tanh()))
        >>> call({"0.weight": torch.ones(5, 2, 3), "0.bias": torch.ones(5, 2)}, torch.ones(4, 3), False, False).shape
        torch.Size([5, 4, 2])
    """
    layers = _layers(network, "", _Fresh())
    if layers is None or not any(isinstance(m, nn.Linear) for m in network.modules()):
        return None
    steps = layers

    def call(values: Mapping[str, Tensor], x: Tensor, each: bool, training: bool) -> Tensor:
        sets = len(next(iter(values.values())))
        result = x if each else x.expand(sets, *x.shape)
        for step in steps:
            result = step(values, result, training)
        return result

    return call


class Product(torch.autograd.Function):
    """x W^T + b for sets of each, whose slope by W comes in the order of W.

    The slope that ``baddbmm`` gives comes transposed, and is copied before the optimiser can use it: for large
    layers that costs as much as the optimiser itself.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The product (S, n, o) of (S, n, i) and (S, o, i), plus (S, o)."""
        return torch.baddbmm(bias[:, None], x, weight.mT)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Keeps what the slopes need."""
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """By x, W and b."""
        x, weight = ctx.saved_tensors
        by_x = torch.bmm(slope, weight) if ctx.needs_input_grad[0] else None
        return by_x, torch.bmm(slope.mT, x), slope.sum(1)


@dataclass
class _Fresh:
    """Whether what the last step made is a new tensor that only the next one sees."""

    fresh: bool = False


def _layers(module: nn.Module, name: str, last: _Fresh) -> list[Layer] | None:
    """The steps of a module, or None if one of them isn't known."""
    if module._forward_hooks or module._forward_pre_hooks:
        return None
    kind = type(module)
    if kind is nn.Sequential:
        found: list[Layer] = []
        for child, part in module.named_children():
            steps = _layers(part, f"{name}{child}.", last)
            if steps is None:
                return None
            found += steps
        return found
    before, last.fresh = last.fresh, kind is nn.Linear
    if isinstance(module, nn.Linear) and kind is nn.Linear:
        return [linear_layer(name, "bias" in dict(module.named_parameters()))]
    if kind is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
        return [lambda values, x, training: x.flatten(2)]
    if isinstance(module, nn.Dropout) and kind is nn.Dropout:
        p = module.p
        return [lambda values, x, training: functional.dropout(x, p, training)]
    if kind is nn.ReLU:
        # In place where nobody else needs what the linear layer made.
        return [lambda values, x, training: x.relu_() if before else x.relu()]
    if kind in _CELLWISE and not getattr(module, "inplace", False):
        return [lambda values, x, training: module(x)]
    if isinstance(module, Stackable):
        own = module.stacked(name)
        return None if own is None else [own]
    return None


def linear_layer(name: str, bias: bool) -> Layer:
    """A linear layer with a set of weights for each set of data."""
    weight, offset = f"{name}weight", f"{name}bias"

    def apply(values: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        # All positions of all data are rows of one product a set.
        rows = x if x.ndim == 3 else x.flatten(1, -2)
        if bias and values[weight][0].numel() >= LARGE:
            result: Tensor = Product.apply(rows, values[weight], values[offset])  # pyright: ignore[reportAssignmentType]
        elif bias:
            result = torch.baddbmm(values[offset][:, None], rows, values[weight].mT)
        else:
            result = torch.bmm(rows, values[weight].mT)
        return result if x.ndim == 3 else result.unflatten(1, x.shape[1:-1])

    return apply
