"""Exact answers by summing variables out one after the other."""

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, DataError
from jensen.inference.factor_graph.arrays import log_sum_exp, neighbours, valid_states
from jensen.inference.factor_graph.beliefs import Beliefs
from jensen.inference.factor_graph.graph import FactorGraph

LARGEST_TABLE = 2**24
"""Entries of the largest table that may be made, if nothing else is said: 128 MiB."""


@dataclass(frozen=True)
class Exact:
    """Exact answers.

    Attributes:
        log_z: The logarithm of the sum over all configurations, nats.
        beliefs: Marginals.
    """

    log_z: float
    beliefs: Beliefs


def exact_log_z(graph: FactorGraph, *, largest_table: int = LARGEST_TABLE) -> float:
    """The exact log Z by variable elimination, the variable that joins the fewest others first (min-fill).

    Args:
        graph: Factors; entries may be -inf.
        largest_table: Entries of the largest table that may be made, 8 bytes each.

    Returns:
        Nats; -inf if every configuration is impossible.

    Raises:
        ConfigError: If a larger table were needed. Nothing is computed before that is known.

    Source: Bucket elimination: a unifying framework for reasoning, 1999,
    https://doi.org/10.1016/S0004-3702(99)00059-4.

    Example:
        >>> from jensen.inference import ising_grid
        >>> round(exact_log_z(ising_grid(2, 1, coupling=1.0)), 6)  # log(2 e + 2 / e)
        1.820075
    """
    order = elimination_order(graph, (), largest_table)
    with torch.no_grad():
        return float(_eliminate(graph, order, ()))


def exact(graph: FactorGraph, *, largest_table: int = LARGEST_TABLE) -> Exact:
    """The exact log Z and the marginals of all variables, which are its derivatives.

    Args:
        graph: Factors; entries may be -inf.
        largest_table: Entries of the largest table that may be made; a few such tables are kept at a time.

    Returns:
        Both.

    Raises:
        ConfigError: If a larger table were needed.
        DataError: If every configuration is impossible, so that there are no marginals.

    Example:
        >>> from jensen.inference import Factor
        >>> coin = FactorGraph({"a": 2}, [Factor.from_table(("a",), [1.0, 3.0])])
        >>> exact(coin).beliefs["a"]
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    order = elimination_order(graph, (), largest_table)
    # Marginals are derivatives of log Z by a field on each state.
    fields = torch.zeros(valid_states(graph).shape, dtype=torch.float64, requires_grad=True)
    with torch.enable_grad():
        log_z = _eliminate(graph, order, (), fields)
        _check_possible(log_z)
        beliefs = torch.autograd.grad(log_z, fields)[0] if len(graph.names) else fields.detach()
    return Exact(float(log_z.detach()), Beliefs(graph, beliefs))


def query(
    graph: FactorGraph,
    variables: str | Sequence[str],
    evidence: Mapping[str, int] | None = None,
    *,
    largest_table: int = LARGEST_TABLE,
) -> Float[Tensor, "*states"]:
    """The exact distribution of some variables where others were observed, p(query | evidence).

    Args:
        graph: Factors; entries may be -inf.
        variables: One name, or several for their joint table.
        evidence: Observed variables and their states.
        largest_table: Entries of the largest table that may be made.

    Returns:
        Probabilities, one axis for each variable in the order asked for; they sum to one.

    Raises:
        ConfigError: If a variable isn't in the graph, is asked for twice or observed too, or a table would be too
            large.
        SupportError: If an observed variable doesn't have that state.
        DataError: If the evidence has probability zero.

    Example:
        >>> from jensen.inference import Factor
        >>> same = FactorGraph({"a": 2, "b": 2}, [Factor.from_table(("a", "b"), [[3.0, 1.0], [1.0, 3.0]])])
        >>> query(same, "a", {"b": 1})
        tensor([0.2500, 0.7500], dtype=torch.float64)
    """
    asked = [variables] if isinstance(variables, str) else list(variables)
    evidence = evidence or {}
    graph.index(asked)
    twice = [name for place, name in enumerate(asked) if name in asked[:place] or name in evidence]
    if twice:
        raise ConfigError(
            f"the variable '{twice[0]}' is asked for twice, or asked for and observed; ask once"
        )
    rest = graph.condition(evidence)
    kept = rest.index(asked)
    order = elimination_order(rest, kept, largest_table)
    with torch.no_grad():
        table = _eliminate(rest, order, sorted(kept))
        log_z = log_sum_exp(table, tuple(range(table.ndim))) if table.ndim else table
        _check_possible(log_z, evidence)
        joint = (table - log_z).exp()
    ascending = sorted(kept)
    return joint.permute([ascending.index(place) for place in kept]) if kept else joint


def enumerated_log_z(graph: FactorGraph, *, largest_table: int = LARGEST_TABLE) -> float:
    """The exact log Z by a table of all configurations: the definition, for checks.

    Args:
        graph: Factors; entries may be -inf.
        largest_table: How many configurations there may be.

    Returns:
        Nats; -inf if every configuration is impossible.

    Raises:
        ConfigError: If there are more configurations.
    """
    states = graph.states.tolist()
    if prod(states) > largest_table:
        raise ConfigError(
            f"{len(states)} variables have {prod(states):.3g} configurations, more than largest_table={largest_table}; "
            "use exact_log_z, which sums them out one by one"
        )
    table = torch.full(states or [1], graph.log_constant, dtype=torch.float64)
    for scope, values in _factors(graph):
        table = table + _aligned(values, scope, range(len(states)), states)
    return float(log_sum_exp(table.flatten(), 0))


def elimination_order(graph: FactorGraph, kept: Iterable[int], largest_table: int) -> list[int]:
    """All variables but those kept, in the order that joins the fewest new pairs at each step (min-fill).

    Args:
        graph: Factors.
        kept: Variables to leave.
        largest_table: Entries of the largest table that may be made.

    Returns:
        Places of variables.

    Raises:
        ConfigError: If a larger table were needed.
    """
    states = graph.states.tolist()
    near: list[set[int]] = [set() for _ in states]
    for a, b in zip(*(ends.tolist() for ends in neighbours(graph)), strict=True):
        near[a].add(b)
    left = set(kept)
    _check_table([states[i] for i in left], largest_table)

    def fill(place: int) -> int:
        around = near[place]
        return sum(len(around) - 1 - len(near[other] & around) for other in around) // 2

    best = {place: (fill(place), len(near[place])) for place in range(len(states)) if place not in left}
    heap = [(*cost, place) for place, cost in best.items()]
    heapq.heapify(heap)
    order: list[int] = []
    while heap:
        missing, degree, place = heapq.heappop(heap)
        if best.get(place) != (missing, degree):
            continue
        around = near[place]
        _check_table([states[place], *(states[i] for i in around)], largest_table)
        order.append(place)
        del best[place]
        changed = set(around)
        for one in around:
            near[one].discard(place)
        if missing:
            for one in around:
                for other in around - near[one] - {one}:
                    # A pair that is new to each other is no longer missing around those near both.
                    changed |= near[one] & near[other]
                    near[one].add(other)
                    near[other].add(one)
        near[place] = set()
        for one in changed:
            if one in best:
                best[one] = (fill(one), len(near[one]))
                heapq.heappush(heap, (*best[one], one))
    return order


def _check_table(states: list[int], largest_table: int) -> None:
    entries = prod(states)
    if entries > largest_table:
        raise ConfigError(
            f"exact elimination needs a table over {len(states)} variables with {entries:.3g} entries "
            f"({8 * entries / 2**30:.3g} GiB), more than largest_table={largest_table}; use mean_field, "
            "belief_propagation or tree_reweighted, or allow a larger table"
        )


def _check_possible(log_z: Tensor, evidence: Mapping[str, int] | None = None) -> None:
    if bool(log_z == -torch.inf):
        what = (
            f"the evidence {dict(evidence)} has probability zero"
            if evidence
            else "every configuration is impossible"
        )
        raise DataError(f"{what}, so there is nothing to condition on; look for zeros in the tables")


def _factors(graph: FactorGraph) -> list[tuple[tuple[int, ...], Tensor]]:
    """The factors one by one, the axes in the order of the variables."""
    found: list[tuple[tuple[int, ...], Tensor]] = []
    for group in graph.groups:
        for index, table in zip(group.variables.tolist(), group.log_tables.unbind(), strict=True):
            order = sorted(range(len(index)), key=index.__getitem__)
            found.append((tuple(index[axis] for axis in order), table.permute(order)))
    return found


def _aligned(table: Tensor, scope: tuple[int, ...], target: Iterable[int], states: Sequence[int]) -> Tensor:
    """A table with an axis of length one for each variable of the target that it doesn't have."""
    have = set(scope)
    return table.reshape([states[place] if place in have else 1 for place in target])


def _eliminate(
    graph: FactorGraph, order: Sequence[int], kept: Sequence[int], fields: Tensor | None = None
) -> Tensor:
    """The log of the sum over all variables in the order, a table over those kept."""
    states = graph.states.tolist()
    having: list[dict[int, tuple[tuple[int, ...], Tensor]]] = [{} for _ in states]
    total = torch.tensor(graph.log_constant, dtype=torch.float64)
    count = 0
    for scope, table in _factors(graph):
        for place in scope:
            having[place][count] = (scope, table)
        count += 1
    for place in order:
        found = having[place]
        scope = tuple(sorted({place}.union(*(other for other, _ in found.values()))))
        joint = torch.zeros([states[i] if i == place else 1 for i in scope], dtype=torch.float64)
        if fields is not None:
            joint = joint + _aligned(fields[place, : states[place]], (place,), scope, states)
        for number, (other, table) in list(found.items()):
            joint = joint + _aligned(table, other, scope, states)
            for i in other:
                del having[i][number]
        axis = scope.index(place)
        rest = scope[:axis] + scope[axis + 1 :]
        summed = log_sum_exp(joint, axis)
        if not rest:
            total = total + summed
        for i in rest:
            having[i][count] = (rest, summed)
        count += 1
    table = total.reshape([1] * len(kept)).expand([states[i] for i in kept])
    left = {number: found for place in kept for number, found in having[place].items()}
    for scope, values in left.values():
        table = table + _aligned(values, scope, kept, states)
    return table
