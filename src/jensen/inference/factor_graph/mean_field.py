"""Mean field: the best independent variables, by coordinate ascent."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.inference.factor_graph.arrays import colours, expected_log_tables, valid_states, without_zeros
from jensen.inference.factor_graph.beliefs import Beliefs
from jensen.inference.factor_graph.free_energy import lower_bounds
from jensen.inference.factor_graph.graph import FactorGraph
from jensen.seeding import seeded

# Chances of an impossible configuration that differ by less are the same but for rounding.
_SAME_CHANCE = 1e-12
_SWEEPS_WITHOUT_BOUND = 50


@dataclass(frozen=True)
class MeanField:
    """What mean field found.

    Attributes:
        lower_bound: A lower bound on log Z, nats; -inf if no independent variables were found that avoid what is
            impossible.
        beliefs: The independent variables' probabilities.
        history: The bound before the first sweep and after each, (sweeps + 1,), of the start that ended best.
        converged: Whether that start's bound has stopped rising.
        sweeps: How many passes over all variables were made.
    """

    lower_bound: float
    beliefs: Beliefs
    history: Float[Tensor, " sweeps"]
    converged: bool
    sweeps: int


@dataclass(frozen=True)
class _Step:
    """The update of the variables of one colour.

    Attributes:
        variables: Which, (m,).
        parts: For factors and one of their axes: where its variable is among them, the factors' variables, their
            log-tables without -inf and where these are, and the axis.
    """

    variables: Tensor
    parts: list[tuple[Tensor, Tensor, Tensor, Tensor | None, int]]


def mean_field(
    graph: FactorGraph,
    *,
    restarts: int = 4,
    sweeps: int = 500,
    tolerance: float = 1e-9,
    seed: int | None = 0,
) -> MeanField:
    r"""Maximises the lower bound on log Z over independent variables, :math:`q(x) = \prod_i q_i(x_i)`.

    .. math::
        \log Z \ge \sum_f E_q[\log \phi_f] + H(q), \qquad
        q_i(x_i) \propto \exp \sum_{f \ni i} E_{q_{-i}}[\log \phi_f]

    Variables that share no factor are updated at once, which is the same as one after the other, so the bound
    never falls. The starts are: uniform, leaning to the first state, leaning to the last, and then random ones;
    all are updated in one array and the best is returned.

    Args:
        graph: Factors; entries may be -inf.
        restarts: Number of starts.
        sweeps: At most so many passes over all variables.
        tolerance: Stop when a sweep raises no bound by more than this, relative to 1 + its size.
        seed: Of the random starts.

    Returns:
        The best start's bound and beliefs.

    Raises:
        ConfigError: If there are no starts or sweeps.

    Source: An introduction to variational methods for graphical models, 1999,
    https://doi.org/10.1023/A:1007665907178.

    Example:
        >>> from jensen.inference import ising_grid
        >>> found = mean_field(ising_grid(3, 3, coupling=0.1))
        >>> found.converged, bool((found.history.diff() >= -1e-12).all())
        (True, True)
    """
    if restarts < 1 or sweeps < 1:
        raise ConfigError(f"mean field needs at least one start and one sweep; got {restarts} and {sweeps}")
    valid = valid_states(graph).T[:, None]
    tables = [without_zeros(group) for group in graph.groups]
    steps = _steps(graph, tables)
    with seeded(seed):
        q = _starts(valid, graph.states, restarts)
    history = [lower_bounds(graph, tables, q)]
    moving = torch.ones(restarts, dtype=torch.bool)
    while bool(moving.any()) and len(history) <= sweeps:
        part = q[:, moving]
        for step in steps:
            _update(part, step, valid)
        q[:, moving] = part
        old = history[-1]
        new = old.clone()
        new[moving] = lower_bounds(graph, tables, part)
        # A start may need some sweeps to get out of what is impossible.
        rising = torch.where(
            new == -torch.inf, len(history) < _SWEEPS_WITHOUT_BOUND, new - old > tolerance * (1 + new.abs())
        )
        moving &= rising
        history.append(new)
    best = int(history[-1].argmax())
    bounds = torch.stack(history)[:, best]
    return MeanField(
        float(bounds[-1]), Beliefs(graph, q[:, best].T), bounds, not bool(moving[best]), len(history) - 1
    )


def _starts(valid: Tensor, states: Tensor, restarts: int) -> Tensor:
    """Distributions (states, restarts, variables)."""
    most, _, variables = valid.shape
    weights = torch.ones(most, restarts, variables, dtype=torch.float64)
    if restarts > 1:
        weights[0, 1] += 1
    if restarts > 2:
        weights[states - 1, 2, torch.arange(variables)] += 1
    if restarts > 3:
        weights[:, 3:] = -torch.rand(most, restarts - 3, variables, dtype=torch.float64).log()
    weights = torch.where(valid, weights, 0.0)
    return weights / weights.sum(0)


def _steps(graph: FactorGraph, tables: list[tuple[Tensor, Tensor | None]]) -> list[_Step]:
    colour = torch.from_numpy(colours(graph))
    place = torch.zeros_like(colour)
    steps: list[_Step] = []
    for one in range(int(colour.max()) + 1 if len(colour) else 0):
        variables = torch.nonzero(colour == one)[:, 0]
        place[variables] = torch.arange(len(variables))
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor | None, int]] = []
        for group, (finite, zeros) in zip(graph.groups, tables, strict=True):
            for axis in range(group.axes):
                rows = torch.nonzero(colour[group.variables[:, axis]] == one)[:, 0]
                if len(rows):
                    index = group.variables[rows]
                    parts.append(
                        (
                            place[index[:, axis]],
                            index,
                            finite[..., rows],
                            None if zeros is None else zeros[..., rows],
                            axis,
                        )
                    )
        steps.append(_Step(variables, parts))
    return steps


def _update(q: Tensor, step: _Step, valid: Tensor) -> None:
    """Sets the variables of one colour to their best distributions given the others."""
    score = torch.zeros(*q.shape[:2], len(step.variables), dtype=torch.float64)
    chance: Tensor | None = None
    for place, index, finite, zeros, axis in step.parts:
        states = finite.shape[axis]
        score[:states].index_add_(2, place, expected_log_tables(finite, index, q, axis))
        if zeros is not None:
            chance = torch.zeros_like(score) if chance is None else chance
            chance[:states].index_add_(2, place, expected_log_tables(zeros, index, q, axis))
    allowed = valid[..., step.variables].expand_as(score)
    if chance is not None:
        # As if impossible configurations cost a number that grows without limit: fewer of them come first.
        chance = torch.where(allowed, chance, torch.inf)
        allowed = chance <= chance.amin(0) + _SAME_CHANCE
    q[..., step.variables] = torch.softmax(torch.where(allowed, score, -torch.inf), 0)
