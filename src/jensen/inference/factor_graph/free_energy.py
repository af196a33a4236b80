"""The variational free energy of independent variables."""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from jensen.errors import ConfigError, ShapeError
from jensen.inference.factor_graph.arrays import expected_log_tables, valid_states, without_zeros
from jensen.inference.factor_graph.graph import FactorGraph
from jensen.information.tables import checked


def variational_free_energy(graph: FactorGraph, q: Mapping[str, ArrayLike | Tensor]) -> Float[Tensor, ""]:
    r"""The free energy of a distribution under which all variables are independent; minus a lower bound on log Z.

    .. math::
        F[p^*, q] = -\sum_f E_q[\log \phi_f] - H(q) = KL(q \| p) - \log Z \ge -\log Z

    Args:
        graph: Factors.
        q: For each variable its probabilities.

    Returns:
        Nats; inf if q allows what a factor excludes.

    Raises:
        ConfigError: If a variable is unknown or missing.
        ShapeError: If the number of probabilities isn't that of the states.
        DataError: If they are negative or don't sum to one.

    Source: An introduction to variational methods for graphical models, 1999,
    https://doi.org/10.1023/A:1007665907178.

    Example:
        >>> from jensen.inference import Factor
        >>> coin = FactorGraph({"a": 2}, [Factor.from_table(("a",), [1.0, 3.0])])
        >>> round(-float(variational_free_energy(coin, {"a": [0.25, 0.75]})), 6)  # log 4, the exact one
        1.386294
    """
    padded = torch.zeros(valid_states(graph).shape, dtype=torch.float64)
    graph.index(list(q))
    for place, name in enumerate(graph.names):
        if name not in q:
            raise ConfigError(
                f"q has no probabilities for the variable '{name}'; give them for each variable"
            )
        table = checked(q[name], name=f"table of '{name}'")
        states = int(graph.states[place])
        if table.shape != (states,):
            raise ShapeError(f"'{name}' has {states} states; q has shape {tuple(table.shape)} for it")
        padded[place, :states] = table
    return -lower_bounds(graph, [without_zeros(group) for group in graph.groups], padded.T[:, None])[0]


def lower_bounds(
    graph: FactorGraph,
    tables: list[tuple[Tensor, Tensor | None]],
    q: Float[Tensor, "states restarts variables"],
) -> Float[Tensor, " restarts"]:
    """Lower bounds on log Z of several q, minus their free energies: nats; -inf if q allows what is impossible.

    Args:
        graph: Factors.
        tables: Its groups ``without_zeros``.
        q: Distributions.
    """
    total = graph.log_constant - torch.xlogy(q, q).sum((0, 2))
    for group, (finite, zeros) in zip(graph.groups, tables, strict=True):
        total = total + expected_log_tables(finite, group.variables, q, None).sum(1)
        if zeros is not None:
            impossible = expected_log_tables(zeros, group.variables, q, None).sum(1)
            total = torch.where(impossible > 0, -torch.inf, total)
    return total
