"""What algorithms on factor graphs share: arithmetic on arrays that hold -inf, and who neighbours whom."""

import numpy as np
import torch
from jaxtyping import Bool, Float
from numpy.typing import NDArray
from torch import Tensor

from jensen.inference.factor_graph.graph import FactorGraph, Group


def log_sum_exp(x: Tensor, axes: int | tuple[int, ...]) -> Tensor:
    """The log of a sum of exponentials; where all are zero it is -inf, and its gradient is zero and not NaN."""
    top = x.detach().amax(axes, keepdim=True)
    top = torch.where(top == -torch.inf, 0.0, top)
    total = (x - top).exp().sum(axes)
    possible = total > 0
    return torch.where(
        possible, torch.where(possible, total, 1.0).log() + top.reshape(total.shape), -torch.inf
    )


def valid_states(graph: FactorGraph) -> Bool[Tensor, "variables states"]:
    """Which cells of an array (variables, largest number of states) are states."""
    most = int(graph.states.max()) if len(graph.states) else 1
    return torch.arange(most) < graph.states[:, None]


def on_axis(values: Tensor, axis: int, axes: int, batch: int) -> Tensor:
    """Values (*batch axes, states) as an array that broadcasts to a table, with the states on one axis of it."""
    shape = [1] * axes
    shape[axis] = values.shape[-1]
    return values.reshape(*values.shape[:batch], *shape)


def entropies(q: Tensor) -> Float[Tensor, "*batch"]:
    """Entropy of the distributions on the last axis, nats."""
    return -torch.xlogy(q, q).sum(-1)


def expected_log_tables(
    log_tables: Tensor, variables: Tensor, q: Float[Tensor, "restarts variables states"], but: int | None
) -> Tensor:
    """Expectations of log-tables under independent variables, over all axes but one, or over all.

    Args:
        log_tables: Finite, (factors, *states).
        variables: (factors, axes).
        q: Distributions.
        but: The axis that is left, or None.

    Returns:
        (restarts, factors, states of that axis) or (restarts, factors).
    """
    axes = variables.shape[1]
    result = log_tables[None]
    for axis in reversed(range(axes)):
        if axis != but:
            weight = q[:, variables[:, axis], : log_tables.shape[axis + 1]]
            left = result.ndim - 2
            result = (result * on_axis(weight, axis, left, 2)).sum(axis + 2)
    return result


def without_zeros(group: Group) -> tuple[Tensor, Tensor | None]:
    """The log-tables with 0 for -inf, and 1 where they are -inf, or None if they nowhere are."""
    zero = group.log_tables == -torch.inf
    if not bool(zero.any()):
        return group.log_tables, None
    return torch.where(zero, 0.0, group.log_tables), zero.double()


def neighbours(graph: FactorGraph) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of variables that share a factor, both ways and each once, sorted: (pairs,) and (pairs,)."""
    found = [np.zeros((0, 2), dtype=np.int64)]
    for group in graph.groups:
        index = group.variables.numpy()
        for first in range(group.axes):
            found += [index[:, [first, second]] for second in range(group.axes) if first != second]
    pairs = np.unique(np.concatenate(found), axis=0)
    return pairs[:, 0], pairs[:, 1]


def colours(graph: FactorGraph) -> NDArray[np.int64]:
    """A colour for each variable, (variables,), such that two of one colour share no factor; two on a grid."""
    first, second = neighbours(graph)
    starts = np.searchsorted(first, np.arange(len(graph.names) + 1)).tolist()
    others = second.tolist()
    found = [-1] * len(graph.names)
    for place in range(len(found)):
        taken = {found[other] for other in others[starts[place] : starts[place + 1]]}
        colour = 0
        while colour in taken:
            colour += 1
        found[place] = colour
    return np.array(found, dtype=np.int64)


def is_forest(graph: FactorGraph) -> bool:
    """Whether the graph of variables and factors has no cycle, so that passing messages is exact."""
    count = len(graph.names)
    root = list(range(count))

    def find(place: int) -> int:
        while root[place] != place:
            root[place] = root[root[place]]
            place = root[place]
        return place

    for group in graph.groups:
        for index in group.variables.tolist():
            first = find(index[0])
            for other in index[1:]:
                second = find(other)
                if first == second:
                    return False
                root[second] = first
    return True
