"""Networks that take less memory or time in training, and are the same network."""

import shutil
from contextlib import nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from jensen.errors import ConfigError
from jensen.seeding import shared_rows, sharing


class Checkpointed(nn.Module):
    """A network that keeps no activations for the backward pass but computes them again; same gradients.

    Args:
        network: The network.

    Source: Training deep nets with sublinear memory cost, 2016, https://arxiv.org/abs/1604.06174.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """Maps as the network does."""
        if not torch.is_grad_enabled():
            return self.network(x)
        rows = shared_rows()
        # A part of a batch takes its rows of what the whole would draw the second time too, in whatever thread.
        return cast(
            Tensor,
            checkpoint(
                self.network, x, use_reentrant=False, context_fn=lambda: (nullcontext(), sharing(rows))
            ),
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
