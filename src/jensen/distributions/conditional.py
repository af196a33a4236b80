"""The one kind of part that models are assembled from."""

from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.errors import ShapeError


class Conditional(nn.Module, ABC):
    """A module that takes a context, which may be None, and returns a distribution given that context.

    Priors p(z), posteriors q(z|x) and likelihoods p(x|z) are all Conditionals. The leading dimensions of the
    context become the batch shape of the distribution; the event is what is modelled jointly.

    Families whose parameters come from a network say by ``parameter_shape`` which shape the network has to
    return for one context; any module that returns it will do.
    """

    @abstractmethod
    def forward(self, context: Tensor | None = None) -> Distribution:
        """The distribution given the context (*batch, *context_event), or the only one if it is None."""

    def __call__(self, context: Tensor | None = None) -> Distribution:
        """Same as ``forward``, through torch's hooks."""
        result: Any = super().__call__(context)
        return result


def given(context: Tensor | None, owner: nn.Module) -> Tensor:
    """The context, for a Conditional that can't do without one.

    Raises:
        ShapeError: If it is None.
    """
    if context is None:
        raise ShapeError(f"{type(owner).__name__} needs a context, got None; call it with a tensor")
    return context
