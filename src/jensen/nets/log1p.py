"""Counts in the units that networks like."""

import torch
from torch import Tensor, nn


class Log1p(nn.Module):
    """log(1 + x), before another network.

    Args:
        network: What gets the result.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        """The network's output for the logarithm."""
        return self.network(torch.log1p(x))
