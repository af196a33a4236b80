"""Outputs of a network that is linear in its weights around the most probable ones: normal, in closed form."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.linalg import Factor
from jensen.weights.curvature import Block, Precision
from jensen.weights.curvature.kronecker import input_rows
from jensen.weights.curvature.layers import Watch
from jensen.weights.curvature.rows import jacobian
from jensen.weights.likelihoods import BernoulliLikelihood, CategoricalLikelihood, Likelihood
from jensen.weights.network import FunctionalNetwork, Values
from jensen.weights.predictive import MixturePredictive, Predictive, linearised


@dataclass(frozen=True)
class NormalOutputs:
    """Normal outputs for each of n data.

    Attributes:
        loc: Means, (n, outputs).
        covariance: (n, outputs, outputs).
    """

    loc: Float[Tensor, "n outputs"]
    covariance: Float[Tensor, "n outputs outputs"]

    def predictive(self, likelihood: Likelihood, values: Values, link: str, samples: int) -> Predictive:
        """What is expected of targets, from torch's generator as it is."""
        return linearised(
            likelihood, self.loc, self.covariance, values, link=link, samples=samples, seed=None
        )


@dataclass(frozen=True)
class RotatedOutputs:
    """Normal outputs whose covariances share one eigenbasis: U diag(v) U^T, never formed where it needn't be.

    Attributes:
        loc: Means, (n, outputs).
        values: v, (n, outputs).
        factor: Whose eigenvectors U are.
    """

    loc: Float[Tensor, "n outputs"]
    values: Float[Tensor, "n outputs"]
    factor: Factor

    @property
    def variance(self) -> Float[Tensor, "n outputs"]:
        """Of each output, (n, outputs)."""
        squares = self.factor.squares
        return (self.values if squares is None else self.values @ squares.T).to(self.loc)

    def predictive(self, likelihood: Likelihood, values: Values, link: str, samples: int) -> Predictive:
        """What is expected of targets, from torch's generator as it is."""
        classes = isinstance(likelihood, CategoricalLikelihood | BernoulliLikelihood)
        basis = self.factor.vectors
        if link == "probit" and classes:
            shrunk = self.loc / (1 + torch.pi / 8 * self.variance).sqrt()
            return MixturePredictive(likelihood, shrunk[None], values, point=True)
        if classes and link in ("auto", "monte-carlo"):
            noise = torch.randn(samples, *self.loc.shape, dtype=self.loc.dtype, device=self.loc.device)
            noise = noise * self.values.sqrt().to(self.loc)
            turned = noise if basis is None else noise @ basis.T.to(self.loc)
            spread = {name: value.expand(samples) for name, value in values.items()}
            return MixturePredictive(likelihood, self.loc + turned, spread)
        return NormalOutputs(self.loc, self.covariance()).predictive(likelihood, values, link, samples)

    def covariance(self) -> Float[Tensor, "n outputs outputs"]:
        """Of the outputs of each datum, (n, outputs, outputs)."""
        basis = self.factor.vectors
        whole = self.values.diag_embed() if basis is None else (basis * self.values[:, None]) @ basis.T
        return whole.to(self.loc)


def linearised_outputs(
    network: FunctionalNetwork, precision: Precision, x: Tensor, memory: int
) -> NormalOutputs | RotatedOutputs:
    r"""F ~ N(f(x; w*), J Lambda^-1 J^T) for each datum, J the Jacobian of its outputs at w*.

    For a last layer with a Kronecker product, J is x-tilde in each row, so that the covariance is a number for each
    eigenvector of the output factor; neither J nor the product is formed.

    Args:
        network: With w* as its weights.
        precision: Lambda.
        x: Data (n, \*event).
        memory: Bytes of intermediate results at once.
    """
    block = _last_layer(network, precision, x)
    if block is not None:
        return _through_features(network, block, x, memory)
    weights = {name: network.weights[name] for name in precision.names}
    row = network.row_bytes(x)
    with torch.no_grad():
        width = network.single({}, x[:1]).shape[1]
    entries = width * sum(value.numel() for value in weights.values())
    size = max(1, memory // (width * row + 24 * entries))
    locs: list[Tensor] = []
    covariances: list[Tensor] = []
    for part in x.split(size):
        with torch.no_grad():
            locs.append(network.single(weights, part))
        rows = jacobian(network, weights, part, width)
        covariances.append(precision.inverse_gram(rows).to(network.dtype))
    return NormalOutputs(torch.cat(locs), torch.cat(covariances))


def _last_layer(network: FunctionalNetwork, precision: Precision, x: Tensor) -> Block | None:
    """The one block, if it is that of the layer that gives the outputs."""
    block = precision.blocks[0]
    if len(precision.blocks) > 1 or len(block.matrix.factors) != 2:
        return None
    with torch.no_grad(), Watch({name: network.weights[name] for name in block.packing.names}) as seen:
        outputs = network.single(seen.weights, x[:1])
    alone = len(seen.uses) == 1 and seen.uses[0].counts is None
    return block if alone and seen.uses[0].ends(outputs) else None


@torch.no_grad()
def _through_features(network: FunctionalNetwork, block: Block, x: Tensor, memory: int) -> RotatedOutputs:
    size = max(1, memory // network.row_bytes(x))
    locs: list[Tensor] = []
    values: list[Tensor] = []
    for part in x.split(size):
        with Watch({name: network.weights[name] for name in block.packing.names}) as seen:
            locs.append(network.single(seen.weights, part))
        features = input_rows(seen.uses[0]).to(block.units.dtype) * block.units
        values.append(block.matrix.contracted_inverse(features))
    return RotatedOutputs(torch.cat(locs), torch.cat(values), block.matrix.factors[0])
