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


def taken(values: Tensor, index: Tensor) -> Tensor:
    """Values at places on the last axis; on the processor ``gather`` takes a third of the time of indexing."""
    return values.gather(-1, index.expand(*values.shape[:-1], -1))


class Tables:
    """Log-tables of one shape, factors last, that turn messages to factors into messages from them.

    For pairs the exponentials are taken once, so that a message costs a product and two functions of a vector.

    Args:
        log_tables: (*states, factors).
    """

    def __init__(self, log_tables: Tensor) -> None:
        self.log_tables = log_tables
        self.axes = log_tables.ndim - 1
        self._pairs: list[tuple[Tensor, Tensor]] = []
        if self.axes == 2:
            for other in (1, 0):
                top = log_tables.amax(other)
                top = torch.where(top == -torch.inf, 0.0, top)
                self._pairs.append((top, (log_tables - top.unsqueeze(other)).exp()))

    def with_messages(self, told: list[Tensor], but: int | None = None) -> Tensor:
        """The log-tables with what the variables told, (states, factors) for each axis, added on all axes but one."""
        result = self.log_tables
        for axis, message in enumerate(told):
            if axis != but:
                shape = [1] * self.axes + [message.shape[1]]
                shape[axis] = message.shape[0]
                result = result + message.reshape(shape)
        return result

    def send(self, told: list[Tensor], axis: int) -> Tensor:
        """Log-messages to the variable on one axis, (states, factors), up to a constant for each factor."""
        if self._pairs:
            other = 1 - axis
            top, weights = self._pairs[axis]
            largest = told[other].amax(0)
            largest = torch.where(largest == -torch.inf, 0.0, largest)
            share = (told[other] - largest).exp()
            total = weights.select(other, 0) * share[0]
            for state in range(1, len(share)):
                total = torch.addcmul(total, weights.select(other, state), share[state])
            # Where products of extremes vanish (or there are zeros) the sum is made in logarithms.
            if float(total.min() if total.numel() else 1.0) > 0:
                return total.log() + top + largest
        others = tuple(other for other in range(self.axes) if other != axis)
        table = self.with_messages(told, but=axis)
        return log_sum_exp(table, others) if others else table


def expected_log_tables(
    log_tables: Tensor, variables: Tensor, q: Float[Tensor, "states restarts variables"], but: int | None
) -> Tensor:
    """Expectations of log-tables under independent variables, over all axes but one, or over all.

    Factors come last in these arrays, and sums over states are made one state at a time: inner loops are then long.

    Args:
        log_tables: Finite, (*states, factors).
        variables: (factors, axes).
        q: Distributions.
        but: The axis that is left, or None.

    Returns:
        (states of that axis, restarts, factors) or (restarts, factors).
    """
    result = log_tables[..., None, :]
    for axis in reversed(range(variables.shape[1])):
        if axis != but:
            weight = taken(q, variables[:, axis])
            total = result.select(axis, 0) * weight[0]
            for state in range(1, log_tables.shape[axis]):
                total = torch.addcmul(total, result.select(axis, state), weight[state])
            result = total
    return result.expand(*result.shape[:-2], q.shape[1], -1)


def without_zeros(group: Group) -> tuple[Tensor, Tensor | None]:
    """The log-tables, factors last, with 0 for -inf; and 1 where they are -inf, or None if they nowhere are."""
    tables = group.log_tables.movedim(0, -1).contiguous()
    zero = tables == -torch.inf
    if not bool(zero.any()):
        return tables, None
    return torch.where(zero, 0.0, tables), zero.double()


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
