"""Dense blocks of the curvature, or their diagonals, from the gradients of each datum."""

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from jensen.errors import ConfigError
from jensen.linalg import Factor, Kronecker
from jensen.weights.curvature.packing import Packing
from jensen.weights.curvature.precision import Block, Precision
from jensen.weights.curvature.problem import CurvatureProblem
from jensen.weights.curvature.rows import gradient_rows
from jensen.weights.network import Values

FULL_BYTES = 2**31
"""Largest dense matrix."""


def squared_rows(
    problem: CurvatureProblem, packings: Sequence[Packing], weights: Values, *, diagonal: bool = False
) -> list[Block]:
    """Exact blocks sum_i J_i^T H_i J_i over the data, or their diagonals.

    Args:
        problem: Network, weights and data.
        packings: Which weights share a block.
        weights: The ones that the packings are over.
        diagonal: Whether only diagonals are wanted.

    Returns:
        One block a packing.
    """
    network = problem.network.changed(problem.weights, list(weights))
    sizes = [prod(packing.shape) for packing in packings]
    sums = [
        torch.zeros(size, dtype=torch.float64, device=network.device)
        if diagonal
        else torch.zeros(size, size, dtype=torch.float64, device=network.device)
        for size in sizes
    ]
    count = 1 if problem.curvature == "empirical" else problem.outputs()
    entries = sum(value.numel() for value in weights.values())
    row_bytes = count * (problem.network.row_bytes(problem.x) + 24 * entries)
    for x, y in problem.chunks(row_bytes):
        with torch.no_grad():
            outputs = network.single(weights, x)
        rows = gradient_rows(network, weights, x, problem.columns(outputs, y))
        for packing, total in zip(packings, sums, strict=True):
            packed = packing.pack(rows).flatten(0, 1).double()
            total += packed.square().sum(0) if diagonal else packed.T @ packed
    return [
        Block(packing, Kronecker([Factor(total)]), total.new_ones(()))
        for packing, total in zip(packings, sums, strict=True)
    ]


def vectors(problem: CurvatureProblem, *, one: bool) -> list[Packing]:
    """All weights as one vector, or each as its own; with the entries that masks leave."""
    groups = [list(problem.weights)] if one else [[name] for name in problem.weights]
    found: list[Packing] = []
    for names in groups:
        shapes = tuple(tuple(problem.weights[name].shape) for name in names)
        index: Tensor | None = None
        if problem.masks:
            kept = torch.cat(
                [
                    problem.masks.get(
                        name, torch.ones_like(problem.weights[name], dtype=torch.bool)
                    ).flatten()
                    for name in names
                ]
            )
            index = None if bool(kept.all()) else kept.nonzero()[:, 0]
        if index is None or len(index):
            found.append(Packing(tuple(names), shapes, index=index))
    return found


def full(problem: CurvatureProblem) -> Precision:
    """The whole curvature, one dense block.

    Raises:
        ConfigError: If the matrix would take more than two gigabytes.
    """
    packings = vectors(problem, one=True)
    size = sum(prod(packing.shape) for packing in packings)
    if 8 * size**2 > FULL_BYTES:
        raise ConfigError(
            f"structure='full' over {size:,} weights is a matrix of {8 * size**2 / 2**30:,.0f} GiB, and is formed "
            f"up to {FULL_BYTES / 2**30:.0f}; take structure='kronecker' or 'diagonal', or a smaller subset such as "
            "'last-layer'"
        )
    return Precision(squared_rows(problem, packings, problem.weights))
