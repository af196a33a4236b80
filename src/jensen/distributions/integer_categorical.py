"""A categorical distribution over the integers 0, ..., K - 1, which are numbers and so have a mean."""

from typing import Any

import torch
from torch import Tensor
from torch.distributions import Categorical


class IntegerCategorical(Categorical):
    """A Categorical whose classes are the integers 0, ..., K - 1, as grey levels are: it has a mean.

    Args and densities are those of ``torch.distributions.Categorical``; draws are in the parameters' dtype.

    Example:
        >>> float(IntegerCategorical(probs=torch.tensor([0.5, 0.0, 0.5])).mean)
        1.0
    """

    @property
    def _integers(self) -> Tensor:
        return torch.arange(self._num_events, dtype=self.logits.dtype, device=self.logits.device)

    @property
    def mean(self) -> Tensor:
        """Expected integer, (*batch_shape)."""
        return (self.probs * self._integers).sum(-1)

    @property
    def variance(self) -> Tensor:
        """Variance of the integer, (*batch_shape)."""
        return (self.probs * (self._integers - self.mean[..., None]).square()).sum(-1)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "IntegerCategorical":
        """The same distribution with its parameters expanded to a batch shape."""
        logits = self.logits.expand(*batch_shape, self._num_events)
        return IntegerCategorical(logits=logits, validate_args=False)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Integers in the dtype of the parameters, (*sample_shape, *batch_shape)."""
        return super().sample(torch.Size(sample_shape)).to(self.logits.dtype)
