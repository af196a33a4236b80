"""Loopy belief propagation and the Bethe approximation of log Z."""

from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.errors import ConfigError, DataError
from jensen.inference.factor_graph.arrays import Tables, is_forest, log_sum_exp, taken, valid_states
from jensen.inference.factor_graph.beliefs import Beliefs
from jensen.inference.factor_graph.graph import FactorGraph, Group

_DAMPING = 0.5
_LEAN = 0.7
_SAME_BELIEFS = 1e-6
_CONTRADICTION = (
    "the factors contradict each other: every configuration is impossible; look for zeros in the tables"
)


@dataclass(frozen=True)
class BeliefPropagation:
    """What belief propagation found.

    Attributes:
        log_z_estimate: The Bethe approximation of log Z, nats. Exact without cycles; otherwise it bounds nothing.
        beliefs: Approximate marginals; exact without cycles.
        converged: Whether the messages stopped changing. If they didn't, mistrust the rest.
        iterations: How often all messages were sent.
        residual: The largest change of a log-message in the last iteration.
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
    with d_i factors. All messages are sent at once. With cycles there may be several fixed points: messages start from
    saying nothing, from leaning to the first states and to the last, and of those that converged the one with the
    largest estimate (the lowest Bethe free energy) is returned.

    Args:
        graph: Factors; entries may be -inf.
        iterations: At most so many, from each start.
        tolerance: Stop when no log-message changes by more.
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
    forest = is_forest(graph)
    found: list[BeliefPropagation] = []
    for lean in (None, -1, 0):
        found.append(_run(graph, _start(graph, lean), zeros, iterations, tolerance, damping))
        if forest or (len(found) == 2 and _agree(*found)):
            break
    # The largest estimate is the lowest Bethe free energy.
    return max(found, key=lambda one: (one.converged, one.log_z_estimate))


def _agree(one: BeliefPropagation, other: BeliefPropagation) -> bool:
    """Whether two starts ended at one fixed point."""
    distance = float((one.beliefs.padded - other.beliefs.padded).abs().max())
    return one.converged and other.converged and distance < _SAME_BELIEFS


def _start(graph: FactorGraph, lean: int | None) -> list[list[Tensor]]:
    """For each group and axis log-messages (states, factors) that say nothing or lean to one state."""
    found: list[list[Tensor]] = []
    for group in graph.groups:
        each: list[Tensor] = []
        for states in group.log_tables.shape[1:]:
            message = torch.zeros(states, len(group.variables), dtype=torch.float64)
            if lean is not None:
                message[:] = -_LEAN
                message[lean] = 0.0
            each.append(message)
        found.append(each)
    return found


def _run(
    graph: FactorGraph,
    messages: list[list[Tensor]],
    zeros: bool,
    iterations: int,
    tolerance: float,
    damping: float,
) -> BeliefPropagation:
    """Sends messages from one start until they stop changing."""
    tables = [Tables(group.log_tables.movedim(0, -1).contiguous()) for group in graph.groups]
    residual, count = torch.inf, 0
    while residual > tolerance and count < iterations:
        residual, count = 0.0, count + 1
        total, excluded = _totals(graph, messages, zeros)
        fresh: list[list[Tensor]] = []
        for group, table, old in zip(graph.groups, tables, messages, strict=True):
            told = [_cavity(total, excluded, group, axis, message) for axis, message in enumerate(old)]
            each: list[Tensor] = []
            for axis, before in enumerate(old):
                message = _scaled(table.send(told, axis))
                same = message == before
                change = torch.where(same, 0.0, message - before).abs() if zeros else (message - before).abs()
                residual = max(residual, float(change.max()))
                if damping > 0:
                    message = _scaled((1 - damping) * message + damping * before)
                each.append(message)
            fresh.append(each)
        messages = fresh
    total, excluded = _totals(graph, messages, zeros)
    log_z = graph.log_constant
    degree = torch.zeros(len(graph.names), dtype=torch.float64)
    for group, table, found in zip(graph.groups, tables, messages, strict=True):
        told = [_cavity(total, excluded, group, axis, message) for axis, message in enumerate(found)]
        log_z += float(log_sum_exp(table.with_messages(told), tuple(range(group.axes))).sum())
        degree.index_add_(
            0, group.variables.flatten(), torch.ones(group.variables.numel(), dtype=torch.float64)
        )
    if excluded is not None:
        total = torch.where(excluded > 0, -torch.inf, total)
    total = torch.where(valid_states(graph).T, total, -torch.inf)
    size = log_sum_exp(total, 0)
    if bool((size == -torch.inf).any()) or log_z == -torch.inf:
        raise DataError(_CONTRADICTION)
    log_z += float(((1 - degree) * size).sum())
    beliefs = Beliefs(graph, (total - size).exp().T)
    return BeliefPropagation(log_z, beliefs, residual <= tolerance, count, residual)


def _totals(graph: FactorGraph, messages: list[list[Tensor]], zeros: bool) -> tuple[Tensor, Tensor | None]:
    """For each variable the sum of the finite log-messages, and how many messages exclude a state."""
    total = torch.zeros(valid_states(graph).T.shape, dtype=torch.float64)
    excluded = torch.zeros_like(total) if zeros else None
    for group, found in zip(graph.groups, messages, strict=True):
        for axis, message in enumerate(found):
            states, index = len(message), group.variables[:, axis]
            if excluded is not None:
                never = message == -torch.inf
                excluded[:states].index_add_(1, index, never.double())
                message = torch.where(never, 0.0, message)
            total[:states].index_add_(1, index, message)
    return total, excluded


def _cavity(total: Tensor, excluded: Tensor | None, group: Group, axis: int, message: Tensor) -> Tensor:
    """What the variables on one axis tell their factors: the product of what the others told them, unnormalised."""
    index, states = group.variables[:, axis], len(message)
    if excluded is None:
        return taken(total[:states], index) - message
    never = message == -torch.inf
    others = taken(excluded[:states], index) - never.double()
    return torch.where(
        others > 0, -torch.inf, taken(total[:states], index) - torch.where(never, 0.0, message)
    )


def _scaled(log_message: Tensor) -> Tensor:
    """Log-messages whose largest is zero."""
    top = log_message.amax(0)
    if bool((top == -torch.inf).any()):
        raise DataError(_CONTRADICTION)
    return log_message - top
