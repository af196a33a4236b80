"""The diagonal of the curvature."""

import torch
from torch import Tensor

from jensen.linalg import Factor, Kronecker
from jensen.weights.curvature.dense import squared_rows, vectors
from jensen.weights.curvature.layers import Watch, leaves, output_gradients
from jensen.weights.curvature.precision import Block, Precision
from jensen.weights.curvature.problem import CurvatureProblem


def diagonal(problem: CurvatureProblem) -> Precision:
    r"""The diagonal of the curvature, one block a tensor.

    A linear layer that each datum goes through once has, with inputs a and gradients g at its output,

    .. math::
        \operatorname{diag} \sum_i J_i^T H_i J_i = \sum_i \Bigl(\sum_k g_{ik}^2\Bigr) (a_i^2)^T \quad
        \text{(squares by entry)},

    a product of matrices. All other weights take the gradients of each datum.

    Args:
        problem: Network, weights and data.

    Returns:
        The curvature, without a prior's shift.
    """
    packings = vectors(problem, one=False)
    known = _once(problem)
    sums = {name: torch.zeros_like(problem.weights[name], dtype=torch.float64) for name in known}
    if known:
        for x, y in problem.chunks(4 * problem.network.row_bytes(problem.x)):
            _add(problem, x, y, sums)
    blocks: dict[str, Block] = {}
    others = [packing for packing in packings if packing.names[0] not in known]
    if others:
        rest = {packing.names[0]: problem.weights[packing.names[0]] for packing in others}
        found = squared_rows(problem, others, rest, diagonal=True)
        blocks = {packing.names[0]: block for packing, block in zip(others, found, strict=True)}
    for packing in packings:
        name = packing.names[0]
        if name in known:
            total = packing.pack({name: sums[name]})
            blocks[name] = Block(packing, Kronecker([Factor(total)]), total.new_ones(()))
    return Precision([blocks[packing.names[0]] for packing in packings])


def _with_a_row_each(problem: CurvatureProblem, data: int) -> set[str]:
    """Weights that nothing is done with but that a matrix is multiplied, once, with as many rows as there are data."""
    with torch.enable_grad(), Watch(leaves(problem.weights)) as seen:
        problem.network.single(seen.weights, problem.x[:data])
    names = [name for use in seen.uses for name in (use.weight, use.bias) if name]
    found = {
        name
        for use in seen.uses
        if use.rows is not None and use.groups == 1 and len(use.rows()) == data
        for name in (use.weight, use.bias)
        if name
    }
    return {name for name in found if names.count(name) == 1 and name not in seen.others}


def _once(problem: CurvatureProblem) -> set[str]:
    """Weights of linear layers that each datum goes through once, and that nothing else is done with."""
    if len(problem.x) < 2:
        return set()
    # Rows that don't belong to data stay as many.
    return _with_a_row_each(problem, 1) & _with_a_row_each(problem, 2)


def _add(problem: CurvatureProblem, x: Tensor, y: Tensor, sums: dict[str, Tensor]) -> None:
    with torch.enable_grad(), Watch(leaves(problem.weights)) as seen:
        outputs = problem.network.single(seen.weights, x)
    uses = [use for use in seen.uses if use.weight in sums or use.bias in sums]
    squares: list[Tensor] = []
    for back in output_gradients(outputs, uses, problem.columns(outputs.detach(), y)):
        new = [rows.double().square() for _, rows in back]
        squares = [old + more for old, more in zip(squares, new, strict=True)] if squares else new
    for use, square in zip(uses, squares, strict=True):
        assert use.rows is not None
        if use.weight in sums:
            product = square.T @ use.rows().double().square()
            sums[use.weight] += product.reshape(sums[use.weight].shape)
        if use.bias in sums:
            sums[use.bias] += square.sum(0)
