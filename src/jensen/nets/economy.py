"""Networks that take less memory or time in training, and are the same network."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from jensen.errors import ConfigError
from jensen.seeding import shared_rows, sharing


class Checkpointed(nn.Module):
    """A network that keeps few activations for the backward pass and computes the others again; same gradients.

    A network that has its layers in a row, as ours do, is cut into segments: what enters each of them is kept, and
    what is within is computed again, one segment at a time. Of another network nothing is kept and all of it is
    computed again at once, which helps where there are several networks.

    Args:
        network: The network; its layers are put into segments, under the same names.
        whole: Whether to compute all of it again at once in any case.

    Source: Training deep nets with sublinear memory cost, 2016, https://arxiv.org/abs/1604.06174.
    """

    def __init__(self, network: nn.Module, *, whole: bool = False) -> None:
        super().__init__()
        layers = getattr(network, "layers", None)
        self.whole = whole or not isinstance(layers, nn.Sequential)
        if isinstance(layers, nn.Sequential) and not self.whole:
            network.layers = _Segments(*layers)
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Maps as the network does."""
        return _again(self.network, x) if self.whole else self.network(x)


class _Segments(nn.Sequential):
    """Layers in a row, of which only the inputs of segments are kept for the backward pass."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*layers)
        self.segments = segments([_maps(layer) for layer in layers])

    def forward(self, input: Tensor) -> Tensor:
        """Maps as the layers do, one after the other."""
        layers = list(self)
        for segment in self.segments:
            input = _again(partial(_through, layers[segment.start : segment.stop]), input)
        return input


def segments(costs: Sequence[int]) -> list[range]:
    """Cuts layers in a row into segments so that few activations are held at once.

    While the backward pass is in a segment, what enters each segment is held, and all that is within this one.

    Args:
        costs: How many activations each layer would keep.

    Returns:
        The places of the layers of each segment; of all ways to cut, one with the least of the number of segments
        plus the most that one of them holds.

    Example:
        >>> segments([1, 1, 1, 1, 1, 1, 1, 1, 1])
        [range(0, 3), range(3, 6), range(6, 9)]
        >>> segments([7, 7])
        [range(0, 1), range(1, 2)]
    """
    most = [sum(costs[i:j]) for i in range(len(costs)) for j in range(i + 1, len(costs) + 1)]
    ways = [_packed(costs, limit) for limit in sorted(set(most)) if limit >= max(costs)]
    return min(ways, key=lambda way: len(way) + max(sum(costs[i] for i in part) for part in way), default=[])


def _packed(costs: Sequence[int], limit: int) -> list[range]:
    """As few segments as can be of which none holds more than a limit."""
    found, start, held = list[range](), 0, 0
    for place, cost in enumerate(costs):
        if held + cost > limit and place > start:
            found.append(range(start, place))
            start, held = place, 0
        held += cost
    return [*found, range(start, len(costs))]


def _maps(layer: nn.Module) -> int:
    """About how many activations a layer keeps: one for each of its parts that computes something."""
    views = nn.Flatten | nn.Unflatten | nn.Identity
    return sum(not isinstance(part, views) for part in layer.modules() if not any(part.children()))


def _through(layers: Sequence[nn.Module], x: Tensor) -> Tensor:
    for layer in layers:
        x = layer(x)
    return x


def _again(network: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """What a network makes of x; in the backward pass it does so again, for what it needs there."""
    if not torch.is_grad_enabled():
        return network(x)
    rows = shared_rows()
    # A part of a batch takes its rows of what the whole would draw the second time too, in whatever thread.
    return cast(
        Tensor,
        checkpoint(network, x, use_reentrant=False, context_fn=lambda: (nullcontext(), sharing(rows))),
    )


class HalfPrecision(nn.Module):
    """A network whose products are made in bfloat16 in training; what it returns is in the precision of its input.

    Weights and their gradients keep float32, and so does all that is made of the outputs: probabilities and sums
    over many cells need its digits. Outside training the network is as precise as ever.

    Args:
        network: The network.

    Source: Mixed precision training, 2018, https://arxiv.org/abs/1710.03740.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Maps as the network does, within the precision of bfloat16 in training."""
        if not self.training:
            return self.network(x)
        with torch.autocast(x.device.type, torch.bfloat16):
            return self.network(x).to(x.dtype)


def compiled(network: nn.Module) -> nn.Module:
    """The network, which torch.compile turns into code of its own at its first call.

    Raises:
        ConfigError: If this machine has no compiler for that.
    """
    if shutil.which("c++") is None and shutil.which("g++") is None and shutil.which("clang++") is None:
        raise ConfigError(
            "compile=true needs a C++ compiler, and none was found; install one, or leave compile=false: it is "
            "never needed"
        )
    network.compile()
    return network
