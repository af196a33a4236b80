"""Likelihoods of cells in {0, 1} and in [0, 1]."""

from typing import ClassVar

import torch
from torch import Tensor

from jensen.distributions import Bernoulli as BernoulliDistribution
from jensen.distributions import ContinuousBernoulli as ContinuousBernoulliDistribution
from jensen.likelihoods.likelihood import Likelihood


class Bernoulli(Likelihood):
    """p(x_d = 1 | z) = sigmoid(logit_d(z)) for binary cells.

    Args:
        network: From the latents to (*batch, 1, *event_shape) logits.
        event_shape: Shape of one datum.
    """

    support: ClassVar[str] = "0 or 1"

    @staticmethod
    def output_count() -> int:
        """How many numbers a cell the network has to return."""
        return 1

    def cells(self, outputs: Tensor) -> BernoulliDistribution:
        """One Bernoulli a cell."""
        return BernoulliDistribution(logits=self._only(outputs), validate_args=False)

    def supports(self, x: Tensor) -> Tensor:
        """True where a cell is 0 or 1."""
        return (x == 0) | (x == 1)


class ContinuousBernoulli(Likelihood):
    """p(x_d | z) = exp(l_d x_d) l_d / (exp(l_d) - 1), a density on [0, 1], with logits l_d(z).

    Args:
        network: From the latents to (*batch, 1, *event_shape) logits.
        event_shape: Shape of one datum.

    Source: The continuous Bernoulli: fixing a pervasive error in variational autoencoders, 2019,
    https://arxiv.org/abs/1907.06845.
    """

    support: ClassVar[str] = "between 0 and 1"

    @staticmethod
    def output_count() -> int:
        """How many numbers a cell the network has to return."""
        return 1

    def cells(self, outputs: Tensor) -> ContinuousBernoulliDistribution:
        """One continuous Bernoulli a cell."""
        return ContinuousBernoulliDistribution(self._only(outputs), validate_args=False)

    def supports(self, x: Tensor) -> Tensor:
        """True where a cell is between 0 and 1."""
        return (x >= 0) & (x <= torch.ones_like(x))
