"""Online learning: a normal posterior of any precision as the prior of the next data."""

from collections.abc import Mapping
from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from jensen.weights.curvature import Precision
from jensen.weights.laplace.joint import deviations
from jensen.weights.laplace.options import LaplaceOptions
from jensen.weights.laplace.settling import Settled, settle_further
from jensen.weights.likelihoods import NormalLikelihood
from jensen.weights.map import most_probable
from jensen.weights.network import Values, unflat
from jensen.weights.optimise import History
from jensen.weights.priors import Prior
from jensen.weights.problem import Problem


class PrecisionPrior(Prior):
    """N(m, P^-1) with a precision that isn't diagonal: an earlier posterior.

    Args:
        mean: m by name.
        precision: P.
    """

    name = "posterior"

    def __init__(self, mean: Values, precision: Precision) -> None:
        super().__init__({name: value.new_ones(()) for name, value in mean.items()})
        self.mean = mean
        self.precision = precision

    def cells(self, name: str, values: Tensor, scale: Tensor) -> Tensor:
        """There is no density of a single weight."""
        raise TypeError("weights that depend on each other have a density together alone; use log_prob")

    def log_prob(self, weights: Mapping[str, Float[Tensor, "s *shape"]]) -> Float[Tensor, " s"]:
        """Log-density of S sets of weights in nats, without the constant, (S,)."""
        if "" in weights:
            # Training keeps all of them in one tensor.
            weights = unflat(weights[""], self.mean)
        value = -0.5 * self.precision.quadratic(deviations(weights, self.mean))
        return value.to(next(iter(weights.values())).dtype)

    def with_scales(self, scales: Mapping[str, Tensor]) -> "PrecisionPrior":
        """The same; it has no scales."""
        return self


def continued(
    data: Problem, precision: Precision, log_noise: Tensor | None, options: LaplaceOptions
) -> tuple[Settled, History]:
    r"""The posterior after further data.

    .. math::
        \log p(w|D_1, D_2) = \log p(y_2|x_2, w) - \tfrac12 (w - w_1)^T \Lambda_1 (w - w_1) + const, \qquad
        \Lambda_2 = \Lambda_1 + \sum_{i \in D_2} J_i^T H_i J_i.

    Precisions with Kronecker products are added up as the nearest product. The noise keeps its scale.

    Args:
        data: The network with w_1 as its weights, the new data, and the likelihood.
        precision: Lambda_1.
        log_noise: Logarithm of the noise's scale; None where there is none.
        options: How to train, and what is kept of the curvature.

    Returns:
        The posterior, and what training recorded.

    Source: Online structured Laplace approximations for overcoming catastrophic forgetting, 2018,
    https://arxiv.org/abs/1805.07810.
    """
    mean = data.network.weights
    likelihood = data.likelihood if log_noise is None else NormalLikelihood(float(log_noise.exp()))
    problem = replace(data, likelihood=likelihood, prior=PrecisionPrior(mean, precision))
    masks = {name: mask for block in precision.blocks for name, mask in block.packing.masks().items()}
    found, _, history = most_probable(problem, options, masks=masks)
    return settle_further(found, mean, precision, log_noise, options), history
