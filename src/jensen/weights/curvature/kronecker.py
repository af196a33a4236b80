"""Kronecker-factored curvature: for each layer, what goes in times what comes back."""

from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from jensen.errors import ConfigError
from jensen.linalg import Factor, Kronecker
from jensen.weights.curvature.dense import squared_rows
from jensen.weights.curvature.layers import Use, Watch, leaves, output_gradients
from jensen.weights.curvature.packing import Packing
from jensen.weights.curvature.precision import Block, Precision
from jensen.weights.curvature.problem import CurvatureProblem
from jensen.weights.network import Values

DENSE_ENTRIES = 1024
"""Largest number of weights outside of known layers that get one dense block."""

Layer = tuple[str | None, str | None]


@dataclass
class _Sums:
    """What is summed over the data for one layer."""

    rows: int = 0
    inputs: Tensor = field(default_factory=lambda: torch.zeros(()))
    gradients: Tensor = field(default_factory=lambda: torch.zeros(()))


def kronecker(problem: CurvatureProblem) -> Precision:
    r"""One Kronecker product for each linear, convolutional or embedding layer, dense blocks for what is left.

    For a layer with weight and bias side by side, inputs a (a one appended) and gradients g at its output,

    .. math::
        \sum_i J_i^T H_i J_i \approx \Bigl(\frac{1}{M} \sum g g^T\Bigr) \otimes \Bigl(\sum a a^T\Bigr),

    sums over all M rows that its matrix is multiplied with: data, and places of a sequence or an image, taken for
    independent (the "expand" setting). It is exact for one datum of a plain network, and for a linear model with normal
    noise. Attention's projections are linear layers; an embedding's inputs are counts. Scales and shifts of
    normalisation layers, and other weights of at most 1,024 entries, have their exact dense block.

    Args:
        problem: Network, weights and data.

    Returns:
        The curvature, without a prior's shift.

    Raises:
        ConfigError: If larger weights are used in another way; it names them and says what to do.

    Source: Optimizing neural networks with Kronecker-factored approximate curvature, 2015,
    https://arxiv.org/abs/1503.05671; A Kronecker-factored approximate Fisher matrix for convolution layers, 2016,
    https://arxiv.org/abs/1602.01407; Kronecker-factored approximate curvature for modern neural network architectures,
    2023, https://arxiv.org/abs/2311.00636.
    """
    layers, last = _plan(problem)
    known = {name for layer in layers for name in layer if name}
    rest = {name: value for name, value in problem.weights.items() if name not in known}
    others = _other_packings(problem, rest)
    sums = {layer: _Sums() for layer in layers}
    row_bytes = 4 * problem.network.row_bytes(problem.x)
    for x, y in problem.chunks(row_bytes):
        if last:
            _add_last(problem, x, y, sums[layers[0]])
        elif layers:
            _add(problem, x, y, sums)
    blocks = [_block(problem, layer, sums[layer]) for layer in layers]
    if others:
        blocks += squared_rows(problem, others, rest)
    order = {name: place for place, name in enumerate(problem.weights)}
    return Precision(sorted(blocks, key=lambda block: order[block.packing.names[0]]))


def _plan(problem: CurvatureProblem) -> tuple[list[Layer], bool]:
    """Layers that a Kronecker product stands for, and whether there is only the one that gives the outputs."""
    with torch.enable_grad(), Watch(leaves(problem.weights)) as seen:
        outputs = problem.network.single(seen.weights, problem.x[:2])
    layers = list(dict.fromkeys((use.weight, use.bias) for use in seen.uses))
    kinds = {
        layer: {use.counts is None for use in seen.uses if (use.weight, use.bias) == layer}
        for layer in layers
    }
    names = [name for layer in layers for name in layer if name]
    odd = seen.others | {name for name in names if names.count(name) > 1}
    layers = [
        layer for layer in layers if len(kinds[layer]) == 1 and not odd.intersection(filter(None, layer))
    ]
    alone = len(seen.uses) == 1 and len(layers) == 1 and set(layers[0]) >= set(problem.weights)
    return layers, alone and seen.uses[0].counts is None and seen.uses[0].ends(outputs)


def input_rows(use: Use) -> Tensor:
    """What the packed matrix is multiplied with, (rows, in) with a one for the bias."""
    assert use.rows is not None
    rows = use.rows()
    parts = ([rows] if use.weight else []) + ([rows.new_ones(len(rows), 1)] if use.bias else [])
    return torch.cat(parts, 1)


def _add_inputs(use: Use, sums: _Sums) -> None:
    if use.counts is not None:
        counts = use.counts()
        sums.inputs = sums.inputs + counts.double()
        sums.rows += int(counts.sum())
        return
    rows = input_rows(use)
    sums.inputs = sums.inputs + (rows.T @ rows).double() / use.groups
    sums.rows += len(rows) // use.groups


@torch.no_grad()
def _add_last(problem: CurvatureProblem, x: Tensor, y: Tensor, sums: _Sums) -> None:
    """The layer whose outputs are the network's: nothing has to be propagated back."""
    with Watch(problem.weights) as seen:
        outputs = problem.network.single(seen.weights, x)
    _add_inputs(seen.uses[0], sums)
    sums.gradients = sums.gradients + problem.total(outputs, y).double()


def _add(problem: CurvatureProblem, x: Tensor, y: Tensor, sums: dict[Layer, _Sums]) -> None:
    with torch.enable_grad(), Watch(leaves(problem.weights)) as seen:
        outputs = problem.network.single(seen.weights, x)
    uses = [use for use in seen.uses if (use.weight, use.bias) in sums]
    with torch.no_grad():
        for use in uses:
            _add_inputs(use, sums[use.weight, use.bias])
    for back in output_gradients(outputs, uses, problem.columns(outputs.detach(), y)):
        for use, rows in back:
            mine = sums[use.weight, use.bias]
            mine.gradients = mine.gradients + _grouped(rows.T @ rows, use.groups).double()


def _grouped(square: Tensor, groups: int) -> Tensor:
    """Outputs of different groups of a convolution have no weights in common."""
    if groups == 1:
        return square
    group = torch.arange(len(square), device=square.device) // (len(square) // groups)
    return square * (group[:, None] == group)


def _block(problem: CurvatureProblem, layer: Layer, sums: _Sums) -> Block:
    names = tuple(name for name in layer if name)
    packing = Packing(names, tuple(tuple(problem.weights[name].shape) for name in names), columns=True)
    inputs, gradients = Factor(sums.inputs), Factor(sums.gradients / max(1, sums.rows))
    factors = [inputs, gradients] if inputs.diagonal else [gradients, inputs]
    return Block(packing, Kronecker(factors), sums.inputs.new_ones(()))


def _other_packings(problem: CurvatureProblem, rest: Values) -> list[Packing]:
    """Dense blocks, one a module where they are small enough; refuses larger ones."""
    found: list[Packing] = []
    owners: dict[str, list[str]] = {}
    for name in rest:
        owners.setdefault(name.rpartition(".")[0], []).append(name)
    for owner, names in owners.items():
        sizes = [rest[name].numel() for name in names]
        groups = [names] if sum(sizes) <= DENSE_ENTRIES else [[name] for name in names]
        for group in groups:
            if sum(rest[name].numel() for name in group) > DENSE_ENTRIES:
                raise ConfigError(_unsupported(problem, owner, group[0], rest[group[0]]))
            found.append(Packing(tuple(group), tuple(tuple(rest[name].shape) for name in group)))
    return found


def _unsupported(problem: CurvatureProblem, owner: str, name: str, value: Tensor) -> str:
    module = problem.network.skeleton.get_submodule(owner)
    hint = ""
    if isinstance(module, nn.MultiheadAttention):
        hint = " (attention is known where query, key and value are one tensor)"
    return (
        f"structure='kronecker' knows linear, convolutional, embedding and self-attention layers, and other weights of "
        f"at most {DENSE_ENTRIES} entries; '{name}' of {type(module).__name__} has {value.numel()} and is used in "
        f"another way{hint}. Take structure='diagonal', or leave it out: subset='last-layer' or a list of names"
    )
