"""Predictions in the targets' own unit, of a network that was fitted to standardised targets."""

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor

from jensen.errors import ConfigError
from jensen.weights.likelihoods import NormalLikelihood
from jensen.weights.predictive import MixturePredictive, NormalPredictive, Predictive


class RescaledPredictive(Predictive):
    r"""The distribution of m + s t, where t has the predictive distribution that is given.

    .. math::
        \log p(y) = \log p_t\left(\frac{y - m}{s}\right) - \sum_d \log s_d

    Args:
        predictive: Of standardised targets with a density.
        shift: m, a number or one for each cell of a target.
        unit: s, likewise, above 0.

    Raises:
        ConfigError: If the targets have no density, or a unit isn't above 0.

    Example:
        >>> inner = MixturePredictive(NormalLikelihood(1.0), torch.zeros(1, 2, 1))
        >>> found = RescaledPredictive(inner, 10.0, 2.0)
        >>> found.mean, found.std
        (tensor([10., 10.]), tensor([2., 2.]))
    """

    def __init__(self, predictive: Predictive, shift: float | Tensor, unit: float | Tensor) -> None:
        if not (
            isinstance(predictive, MixturePredictive | NormalPredictive)
            and isinstance(predictive.likelihood, NormalLikelihood)
        ):
            raise ConfigError("only targets with normal noise have a unit; leave others as they are")
        mean = predictive.mean
        self.predictive = predictive
        self.samples = predictive.samples
        self.shift = torch.as_tensor(shift).to(mean)
        self.unit = torch.as_tensor(unit).to(mean)
        if not bool((self.unit > 0).all()):
            raise ConfigError(f"the targets' unit has to be above 0, got {unit}")

    def _means(self) -> tuple[Tensor, Tensor, Tensor]:
        mean, aleatoric, epistemic = self.predictive._means()
        return self.shift + self.unit * mean, aleatoric * self.unit**2, epistemic * self.unit**2

    @property
    def entropy(self) -> Tensor:
        """Of each cell, nats; differential, so it grows by log s."""
        return self.predictive.entropy + self.unit.log()

    @property
    def expected_entropy(self) -> Tensor:
        """The mean of the entropies of the sets, nats."""
        return self.predictive.expected_entropy + self.unit.log()

    def quantiles(self, levels: float | Sequence[float]) -> Tensor:
        """In the targets' unit."""
        return self.shift + self.unit * self.predictive.quantiles(levels)

    def log_prob(self, y: Any) -> Tensor:
        """The density in the targets' unit: that of the standardised targets less log s for each cell."""
        targets = torch.as_tensor(y)
        if not targets.is_floating_point():
            targets = targets.double()
        mean = self.predictive.mean
        standard = (targets.to(mean.device) - self.shift.to(targets.dtype)) / self.unit.to(targets.dtype)
        cells = prod(mean.shape[1:])
        change = cells * self.unit.log() if self.unit.ndim == 0 else self.unit.log().sum()
        return self.predictive.log_prob(standard) - change

    def sample(self, n: int, seed: int | None = 0) -> Tensor:
        """Draws of targets."""
        return self.shift + self.unit * self.predictive.sample(n, seed)
