"""Outputs of a network that is linear in its weights around the most probable ones: normal, in closed form."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.linalg import Factor
from jensen.weights.curvature import Block, Precision
from jensen.weights.curvature.kronecker import input_rows
from jensen.weights.curvature.layers import Use, Watch
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
    eigenvector of the output factor; neither J nor the product is formed. Nor is J for other linear layers that see
    each datum once, where their structure is a product or a diagonal.

    Args:
        network: With w* as its weights.
        precision: Lambda.
        x: Data (n, \*event).
        memory: Bytes of intermediate results at once.
    """
    block = _last_layer(network, precision, x)
    if block is not None:
        return _through_features(network, block, x, memory)
    thin, rest = _thin_blocks(network, precision, x)
    weights = {name: network.weights[name] for block in rest for name in block.packing.names}
    with torch.no_grad():
        width = network.single({}, x[:1]).shape[1]
    entries = width * sum(value.numel() for value in weights.values())
    size = max(1, memory // ((4 if thin else width) * network.row_bytes(x) + 24 * entries + 8 * width**2))
    locs: list[Tensor] = []
    covariances: list[Tensor] = []
    for part in x.split(size):
        with torch.no_grad():
            locs.append(network.single({}, part))
        total = part.new_zeros(len(part), width, width, dtype=torch.float64)
        if thin:
            total = total + _through_layers(network, thin, part, width)
        if rest:
            total = total + Precision(rest).inverse_gram(jacobian(network, weights, part, width))
        covariances.append(total.to(network.dtype))
    return NormalOutputs(torch.cat(locs), torch.cat(covariances))


def _leaves(network: FunctionalNetwork, blocks: Sequence[Block]) -> Values:
    names = [name for block in blocks for name in block.packing.names]
    return {name: network.weights[name].detach().requires_grad_() for name in names}


def _names(use: Use) -> frozenset[str]:
    return frozenset(filter(None, (use.weight, use.bias)))


def _belongs(block: Block, use: Use) -> bool:
    """Whether the block is a layer's product, or the diagonal of its matrix or of its bias."""
    names = frozenset(block.packing.names)
    if len(block.matrix.factors) == 2:
        return names == _names(use)
    return block.matrix.factors[0].diagonal and len(names) == 1 and names <= _names(use)


def _thin_blocks(
    network: FunctionalNetwork, precision: Precision, x: Tensor
) -> tuple[list[Block], list[Block]]:
    """Blocks of linear layers that see each datum once, and the other ones."""
    candidates = [
        block
        for block in precision.blocks
        if len(block.matrix.factors) == 2 or block.matrix.factors[0].diagonal
    ]
    if not candidates:
        return [], list(precision.blocks)
    some = x[:2] if len(x) > 1 else torch.cat([x, x])
    with torch.enable_grad(), Watch(_leaves(network, candidates)) as seen:
        network.single(seen.weights, some)
    often = Counter(name for use in seen.uses for name in _names(use))
    plain = [
        use
        for use in seen.uses
        if use.counts is None
        and use.output.ndim == 2
        and len(use.output) == 2
        and not _names(use) & seen.others
        and all(often[name] == 1 for name in _names(use))
    ]
    kept = {id(block) for block in candidates if any(_belongs(block, use) for use in plain)}
    thin = [block for block in precision.blocks if id(block) in kept]
    return thin, [block for block in precision.blocks if id(block) not in kept]


def _spread(block: Block, use: Use) -> Float[Tensor, "n out"]:
    """The variances that a block alone gives a layer's output, in the basis of its outputs' factor."""
    if len(block.matrix.factors) == 2:
        return block.matrix.contracted_inverse(input_rows(use).to(block.units.dtype) * block.units)
    (name,) = block.packing.names
    variances = block.unpacked(block.matrix.inverse_diagonal() * block.units)[name]
    if name == use.bias:
        return variances.expand(len(use.output), -1)
    assert use.rows is not None
    return use.rows().to(variances.dtype).square() @ variances.T


def _through_layers(
    network: FunctionalNetwork, blocks: list[Block], x: Tensor, width: int
) -> Float[Tensor, "n outputs outputs"]:
    r"""The layers' part of J Lambda^-1 J^T, where each output's gradient in a layer's weights is g a^T.

    With v of ``contracted_inverse`` at the inputs a and U the eigenvectors of the outputs' factor, a layer gives
    G U diag(v) U^T G^T for the gradients G of all outputs at its own; the Jacobian in the weights isn't formed. Where
    only a diagonal is known, U is the identity and

    .. math::
        v_j = \sum_i \operatorname{Var}(W_{ji})\, a_i^2 + \operatorname{Var}(b_j).
    """
    with torch.enable_grad():
        with Watch(_leaves(network, blocks)) as seen:
            outputs = network.single(seen.weights, x)
        layers = [(use, [block for block in blocks if _belongs(block, use)]) for use in seen.uses]
        layers = [(use, own) for use, own in layers if own]
        columns = [
            torch.autograd.grad(
                outputs[:, c].sum(),
                [use.output for use, _ in layers],
                retain_graph=True,
                materialize_grads=True,
            )
            for c in range(width)
        ]
    total = x.new_zeros(len(x), width, width, dtype=torch.float64)
    with torch.no_grad():
        for place, (use, own) in enumerate(layers):
            spread = torch.stack([_spread(block, use) for block in own]).sum(0)
            gradients = torch.stack([column[place] for column in columns], 1).to(spread)
            factors = own[0].matrix.factors
            basis = factors[0].vectors if len(factors) == 2 else None
            white = (gradients if basis is None else gradients @ basis) * spread.sqrt()[:, None]
            gram = white @ white.mT
            total += (gram + gram.mT) / 2
    return total


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
