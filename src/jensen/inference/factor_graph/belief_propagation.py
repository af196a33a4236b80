"""Loopy belief propagation and the Bethe approximation of log Z."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.errors import ConfigError, DataError
from jensen.inference.factor_graph.arrays import is_forest, log_sum_exp, on_axis, valid_states
from jensen.inference.factor_graph.beliefs import Beliefs
from jensen.inference.factor_graph.graph import FactorGraph, Group

_DAMPING = 0.5


@dataclass(frozen=True)
class BeliefPropagation:
    """What belief propagation found.

    Attributes:
        log_z_estimate: The Bethe approximation of log Z, nats. Exact without cycles; otherwise it bounds nothing.
        beliefs: Approximate marginals; exact without cycles.
        converged: Whether the messages stopped changing. If they didn't, mistrust the rest.
        iterations: How often all messages were sent.
        residual: The largest change of a message's probability in the last iteration.
    """

    log_z_estimate: float
    beliefs: Beliefs
    converged: bool
    iterations: int
    residual: float


def belief_propagation(
    graph: FactorGraph, *, iterations: int = 1000, tolerance: float = 1e-9, damping: float | None = None
) -> BeliefPropagation:
    r"""Sends messages between variables and factors until they agree.

    .. math::
        m_{f \to i}(x_i) \propto \sum_{x_f \setminus x_i} \phi_f(x_f) \prod_{j \in f \setminus i} n_{j \to f}(x_j),
        \qquad n_{i \to f} = \prod_{g \ni i, g \ne f} m_{g \to i}

    .. math::
        \log Z_{Bethe} = \sum_f \log Z_f + \sum_i (1 - d_i) \log Z_i

    with Z_f the sum of a factor times the messages to it, Z_i that of the product of the messages to a variable
    with d_i factors. All messages are sent at once.

    Args:
        graph: Factors; entries may be -inf.
        iterations: At most so many.
        tolerance: Stop when no message's probability changes by more.
        damping: Share of the old message in the new one's logarithm, in 0..1 without 1. None takes 0 where there is
            no cycle, so that the answer is exact after as many iterations as the longest path has variables, and
            one half otherwise.

    Returns:
        Estimate, beliefs, and whether it converged.

    Raises:
        ConfigError: If damping or the number of iterations is out of range.
        DataError: If the factors contradict each other, so that every configuration is impossible.

    Source: Understanding belief propagation and its generalizations, 2003; Constructing free-energy approximations
    and generalized belief propagation algorithms, 2005, https://doi.org/10.1109/TIT.2005.850085.

    Example:
        >>> from jensen.inference import Factor
        >>> chain = FactorGraph({"a": 2, "b": 2}, [Factor.from_table(("a", "b"), [[3.0, 1.0], [1.0, 3.0]])])
        >>> round(float(torch.tensor(belief_propagation(chain).log_z_estimate).exp()), 6)
        8.0
    """
    if damping is None:
        damping = 0.0 if is_forest(graph) else _DAMPING
    if not 0 <= damping < 1 or iterations < 1:
        raise ConfigError(
            f"wanted damping at least 0 and less than 1, and at least one iteration; got {damping} and {iterations}"
        )
    zeros = graph.has_zeros or graph.log_constant == -torch.inf
    messages = [
        [
            torch.full(
                (len(group.variables), states), -float(torch.tensor(states).log()), dtype=torch.float64
            )
            for states in group.log_tables.shape[1:]
        ]
        for group in graph.groups
    ]
    residual, count = torch.inf, 0
    while residual > tolerance and count < iterations:
        residual, count = 0.0, count + 1
        total, excluded = _totals(graph, messages, zeros)
        fresh: list[list[Tensor]] = []
        for group, old in zip(graph.groups, messages, strict=True):
            sent = [_cavity(total, excluded, group, axis, message) for axis, message in enumerate(old)]
            new = [_send(group, sent, axis) for axis in range(group.axes)]
            for a, b in zip(new, old, strict=True):
                residual = max(residual, float((a.exp() - b.exp()).abs().max()))
            if damping > 0:
                new = [_normalised((1 - damping) * a + damping * b) for a, b in zip(new, old, strict=True)]
            fresh.append(new)
        messages = fresh
    total, excluded = _totals(graph, messages, zeros)
    if excluded is not None:
        total = torch.where(excluded > 0, -torch.inf, total)
    total = torch.where(valid_states(graph), total, -torch.inf)
    log_z = _bethe(graph, messages, total, zeros)
    return BeliefPropagation(
        log_z, Beliefs(graph, _normalised(total).exp()), residual <= tolerance, count, residual
    )


def _send(group: Group, sent: list[Tensor], axis: int) -> Tensor:
    """Messages (factors, states) from factors to the variable on one axis, normalised."""
    table = group.log_tables
    for other in range(group.axes):
        if other != axis:
            table = table + on_axis(sent[other], other, group.axes, 1)
    others = tuple(other + 1 for other in range(group.axes) if other != axis)
    return _normalised(log_sum_exp(table, others) if others else table)


def _totals(graph: FactorGraph, messages: list[list[Tensor]], zeros: bool) -> tuple[Tensor, Tensor | None]:
    """For each variable the sum of the finite log-messages, and how many messages exclude a state."""
    total = torch.zeros(valid_states(graph).shape, dtype=torch.float64)
    excluded = torch.zeros_like(total) if zeros else None
    for group, found in zip(graph.groups, messages, strict=True):
        for axis, message in enumerate(found):
            states = message.shape[1]
            if excluded is not None:
                never = message == -torch.inf
                excluded[:, :states].index_add_(0, group.variables[:, axis], never.double())
                message = torch.where(never, 0.0, message)
            total[:, :states].index_add_(0, group.variables[:, axis], message)
    return total, excluded


def _cavity(total: Tensor, excluded: Tensor | None, group: Group, axis: int, message: Tensor) -> Tensor:
    """What the variables on one axis tell their factors: the product of what the others told them, unnormalised."""
    index, states = group.variables[:, axis], message.shape[1]
    if excluded is None:
        return total[index, :states] - message
    never = message == -torch.inf
    others = excluded[index, :states] - never.double()
    return torch.where(others > 0, -torch.inf, total[index, :states] - torch.where(never, 0.0, message))


def _normalised(log_weights: Tensor) -> Tensor:
    size = log_sum_exp(log_weights, 1)
    if bool((size == -torch.inf).any()):
        raise DataError("the factors contradict each other: every configuration is impossible")
    return log_weights - size[:, None]


def _bethe(graph: FactorGraph, messages: list[list[Tensor]], total: Tensor, zeros: bool) -> float:
    finite, excluded = _totals(graph, messages, zeros)
    degree = torch.zeros(len(graph.names), dtype=torch.float64)
    log_z = graph.log_constant
    for group, found in zip(graph.groups, messages, strict=True):
        table = group.log_tables
        for axis, message in enumerate(found):
            sent = _cavity(finite, excluded, group, axis, message)
            table = table + on_axis(sent, axis, group.axes, 1)
            degree.index_add_(0, group.variables[:, axis], torch.ones(len(message), dtype=torch.float64))
        log_z += float(log_sum_exp(table, tuple(range(1, table.ndim))).sum())
    return log_z + float(((1 - degree) * log_sum_exp(total, 1)).sum())
