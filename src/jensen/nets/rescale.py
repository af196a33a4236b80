"""Inputs in the units that networks like."""

import torch
from torch import Tensor, nn


class Rescale(nn.Module):
    """(x - shift) / unit, before another network.

    Args:
        network: What gets the result.
        shift: Broadcastable to one input; usually the mean of the data.
        unit: Likewise; usually their standard deviation.
    """

    shift: Tensor
    unit: Tensor

    def __init__(self, network: nn.Module, shift: Tensor | float, unit: Tensor | float) -> None:
        super().__init__()
        self.network = network
        self.register_buffer("shift", torch.as_tensor(shift, dtype=torch.get_default_dtype()))
        self.register_buffer("unit", torch.as_tensor(unit, dtype=torch.get_default_dtype()))

    def forward(self, x: Tensor) -> Tensor:
        """The network's output for the rescaled input."""
        return self.network((x - self.shift) / self.unit)


class DropInputs(nn.Module):
    """Sets inputs to zero at random in training, before another network, and scales up what is left.

    On the encoder's input this regularises amortised inference: the posterior may not hang on single cells.

    Args:
        network: What gets the result.
        probability: With which an input is set to zero.

    Source: Amortized inference regularization, 2018, https://arxiv.org/abs/1805.08913.
    """

    def __init__(self, network: nn.Module, probability: float) -> None:
        super().__init__()
        self.network = network
        self.drop = nn.Dropout(probability)

    def forward(self, x: Tensor) -> Tensor:
        """The network's output for what is left of the input."""
        return self.network(self.drop(x))
