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


@dataclass(frozen=True)
class MeanField:
    """What mean field found.

    Attributes:
        lower_bound: A lower bound on log Z, nats; -inf if no independent variables were found that avoid what is
            impossible.
        beliefs: The independent variables' probabilities.
        history: The bound before the first sweep and after each, (sweeps + 1,), of the start that ended best.
        converged: Whether the last sweep raised no start's bound by more than the tolerance.
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
    valid = valid_states(graph)
    steps = _steps(graph)
    with seeded(seed):
        q = _starts(valid, graph.states, restarts)
    history = [lower_bounds(graph, q)]
    converged = False
    while not converged and len(history) <= sweeps:
        for step in steps:
            _update(q, step, valid)
        history.append(lower_bounds(graph, q))
        rise = torch.where(history[-1] == history[-2], 0.0, history[-1] - history[-2])
        converged = bool((rise <= tolerance * (1 + history[-1].abs())).all())
    best = int(history[-1].argmax())
    bounds = torch.stack(history)[:, best]
    return MeanField(float(bounds[-1]), Beliefs(graph, q[best]), bounds, converged, len(history) - 1)


def _starts(valid: Tensor, states: Tensor, restarts: int) -> Tensor:
    """Distributions (restarts, variables, states)."""
    weights = torch.ones(restarts, *valid.shape, dtype=torch.float64)
    if restarts > 1:
        weights[1, :, 0] += 1
    if restarts > 2:
        weights[2, torch.arange(len(states)), states - 1] += 1
    if restarts > 3:
        weights[3:] = -torch.rand(restarts - 3, *valid.shape, dtype=torch.float64).log()
    weights = torch.where(valid, weights, 0.0)
    return weights / weights.sum(-1, keepdim=True)


def _steps(graph: FactorGraph) -> list[_Step]:
    colour = torch.from_numpy(colours(graph))
    tables = [without_zeros(group) for group in graph.groups]
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
                            finite[rows],
                            None if zeros is None else zeros[rows],
                            axis,
                        )
                    )
        steps.append(_Step(variables, parts))
    return steps


def _update(q: Tensor, step: _Step, valid: Tensor) -> None:
    """Sets the variables of one colour to their best distributions given the others."""
    score = torch.zeros(len(q), len(step.variables), q.shape[2], dtype=torch.float64)
    chance: Tensor | None = None
    for place, index, finite, zeros, axis in step.parts:
        states = finite.shape[axis + 1]
        score[..., :states].index_add_(
            1, place, expected_log_tables(finite, index, q, axis).expand(len(q), -1, -1)
        )
        if zeros is not None:
            chance = torch.zeros_like(score) if chance is None else chance
            impossible = expected_log_tables(zeros, index, q, axis).expand(len(q), -1, -1)
            chance[..., :states].index_add_(1, place, impossible)
    allowed = valid[step.variables].expand_as(score)
    if chance is not None:
        # As if impossible configurations cost a number that grows without limit: fewer of them come first.
        chance = torch.where(allowed, chance, torch.inf)
        allowed = chance <= chance.amin(-1, keepdim=True) + _SAME_CHANCE
    q[:, step.variables] = torch.softmax(torch.where(allowed, score, -torch.inf), -1)
