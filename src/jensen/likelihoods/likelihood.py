"""What likelihoods share: cells that are independent given the latents, with parameters from a network."""

from abc import abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, Independent

from jensen.distributions import Conditional, given
from jensen.errors import ShapeError, SupportError


class Likelihood(Conditional):
    """p(x|z) = prod_d p(x_d | z), each cell with the same family and parameters of its own.

    Args:
        network: From the latents to (*batch, outputs, *event_shape).
        event_shape: Shape of one datum.
    """

    support: ClassVar[str]
    """In words, what a cell may hold."""
    output_count: ClassVar[Callable[..., int]]
    """Says how many numbers a cell the network has to return, given the family's options."""

    def __init__(self, network: nn.Module, event_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.network = network
        self.event_shape = tuple(event_shape)

    @abstractmethod
    def cells(self, outputs: Tensor) -> Distribution:
        """The distributions of the cells, (*batch, *event), from (*batch, outputs, *event) of the network."""

    @abstractmethod
    def supports(self, x: Tensor) -> Tensor:
        """True for each cell whose value can occur; the shape of x."""

    def forward(self, context: Tensor | None = None) -> Independent:
        """The likelihood given the latents (*batch, latent_dim)."""
        outputs = self.network(given(context, self))
        return Independent(self.cells(outputs), len(self.event_shape), validate_args=False)

    def check(self, x: Tensor) -> None:
        """Refuses data that this likelihood can't have made.

        Args:
            x: Data (n, *event); NaN is not looked at, cells that weren't observed may hold it.

        Raises:
            ShapeError: If a datum has another shape.
            SupportError: If a cell is outside the support.
        """
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(
                f"{type(self).__name__} models data of shape {self.event_shape}, got {tuple(x.shape[1:])}"
            )
        wrong = ~(self.supports(x) | x.isnan())
        if bool(wrong.any()):
            where = tuple(int(i) for i in wrong.nonzero()[0])
            raise SupportError(
                f"{type(self).__name__} needs cells that are {self.support}, got {float(x[where]):g} at {where} "
                f"({int(wrong.sum())} such cells); choose another likelihood or transform the data"
            )

    def _parameter_dim(self) -> int:
        return -1 - len(self.event_shape)

    def _checked(self, outputs: Tensor, count: int) -> Tensor:
        """The network's outputs, if there are as many numbers a cell as there should be."""
        if outputs.ndim <= len(self.event_shape) or outputs.shape[self._parameter_dim()] != count:
            raise ShapeError(
                f"{type(self).__name__} needs {(count, *self.event_shape)} from its network for each datum, got "
                f"{tuple(outputs.shape)}; give the network that out_shape"
            )
        return outputs

    def _only(self, outputs: Tensor) -> Tensor:
        return self._checked(outputs, 1).squeeze(self._parameter_dim())

    def _each(self, outputs: Tensor, count: int) -> tuple[Tensor, ...]:
        return self._checked(outputs, count).unbind(self._parameter_dim())


def is_integer(x: Tensor) -> Tensor:
    """True for each cell that holds an integer of at least zero."""
    return (x >= 0) & (x == torch.floor(x)) & torch.isfinite(x)
