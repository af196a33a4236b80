"""Discrete directed networks: a conditional table for each variable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

import torch
from jaxtyping import Float, Int64
from numpy.typing import ArrayLike
from torch import Tensor

from jensen.errors import ConfigError, ShapeError, unknown
from jensen.inference.factor_graph.elimination import LARGEST_TABLE, query
from jensen.inference.factor_graph.factor import Factor
from jensen.inference.factor_graph.graph import FactorGraph
from jensen.information.tables import checked
from jensen.seeding import seeded


@dataclass(frozen=True)
class ConditionalTable:
    """p(variable | parents).

    Attributes:
        parents: Names of the parents.
        probabilities: One axis for each parent, then one for the variable itself, which sums to one.

    Raises:
        ShapeError: If the axes aren't as many as the parents and one more.
        DataError: If a number is negative, or a row doesn't sum to one.

    Example:
        >>> ConditionalTable(["rain"], [[0.9, 0.1], [0.2, 0.8]]).probabilities.shape
        torch.Size([2, 2])
    """

    parents: tuple[str, ...]
    probabilities: Float[Tensor, "*parents states"]

    def __init__(self, parents: Sequence[str], probabilities: ArrayLike | Tensor) -> None:
        parents = (parents,) if isinstance(parents, str) else tuple(parents)
        table = checked(probabilities, name=f"table given ({', '.join(parents)})")
        if table.ndim != len(parents) + 1:
            raise ShapeError(
                f"the table given ({', '.join(parents)}) has shape {tuple(table.shape)}; wanted one axis for each "
                "parent and a last one for the variable"
            )
        object.__setattr__(self, "parents", parents)
        object.__setattr__(self, "probabilities", table)


class BayesianNetwork:
    r"""A directed network of discrete variables, :math:`p(x) = \prod_i p(x_i \mid x_{parents(i)})`.

    Args:
        tables: For each variable its conditional table, in any order.

    Raises:
        ConfigError: If a parent is unknown, or the arrows go round in a cycle.
        ShapeError: If a table doesn't have a row for each state of its parents.

    Source: Probabilistic reasoning in intelligent systems, 1988.

    Example:
        >>> network = BayesianNetwork(
        ...     {
        ...         "rain": ConditionalTable([], [0.8, 0.2]),
        ...         "wet": ConditionalTable(["rain"], [[0.9, 0.1], [0.0, 1.0]]),
        ...     }
        ... )
        >>> round(float(network.query("rain", {"wet": 1})[1]), 6)  # .2 / (.2 + .08)
        0.714286
    """

    def __init__(self, tables: Mapping[str, ConditionalTable]) -> None:
        self.tables = dict(tables)
        for name, table in self.tables.items():
            for parent in table.parents:
                if parent not in self.tables:
                    raise ConfigError(f"'{name}' has the parent: {unknown('variable', parent, self.tables)}")
            wanted = tuple(self._states(parent) for parent in table.parents)
            if tuple(table.probabilities.shape[:-1]) != wanted:
                raise ShapeError(
                    f"the table of '{name}' has shape {tuple(table.probabilities.shape)}; its parents "
                    f"({', '.join(table.parents)}) have {wanted} states"
                )
        try:
            self._order = list(
                TopologicalSorter({name: table.parents for name, table in self.tables.items()}).static_order()
            )
        except CycleError as error:
            raise ConfigError(
                f"the arrows go round in a cycle: {' -> '.join(error.args[1])}; leave out one of them"
            ) from None
        self.graph = FactorGraph(
            {name: self._states(name) for name in self.tables},
            [
                Factor.from_table((*table.parents, name), table.probabilities)
                for name, table in self.tables.items()
            ],
        )

    def _states(self, name: str) -> int:
        return self.tables[name].probabilities.shape[-1]

    def query(
        self,
        variables: str | Sequence[str],
        evidence: Mapping[str, int] | None = None,
        *,
        largest_table: int = LARGEST_TABLE,
    ) -> Float[Tensor, "*states"]:
        """The exact p(variables | evidence) by variable elimination.

        Variables that are neither asked for nor observed, nor lead to one that is, are left out first: they sum to
        one.

        Args:
            variables: One name, or several for their joint table.
            evidence: Observed variables and their states.
            largest_table: Entries of the largest table that may be made.

        Returns:
            Probabilities, one axis for each variable in the order asked for.

        Raises:
            ConfigError: If a variable is unknown, asked for twice or observed too, or a table would be too large.
            SupportError: If an observed variable doesn't have that state.
            DataError: If the evidence has probability zero.
        """
        asked = [variables] if isinstance(variables, str) else list(variables)
        self.graph.evidence(evidence or {})
        self.graph.index(asked)
        return query(
            self._leading_to([*asked, *(evidence or {})]), asked, evidence, largest_table=largest_table
        )

    def _leading_to(self, names: Sequence[str]) -> FactorGraph:
        """The graph of some variables and their ancestors."""
        found: set[str] = set()
        stack = list(names)
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack.extend(self.tables[name].parents)
        if len(found) == len(self.tables):
            return self.graph
        tables = {name: table for name, table in self.tables.items() if name in found}
        return BayesianNetwork(tables).graph

    def log_prob(
        self, values: Mapping[str, int] | Int64[Tensor, "*batch variables"]
    ) -> Float[Tensor, "*batch"]:
        r"""Log p(x) of complete configurations.

        Args:
            values: A state for each variable by name, or states in the order of ``tables``, (\*batch, variables).

        Returns:
            Nats, (\*batch).

        Raises:
            ConfigError: If a name is unknown or missing.
            SupportError: If a variable doesn't have that state.
        """
        return self.graph.log_score(values)

    def sample(self, n: int, *, seed: int | None = 0) -> dict[str, Int64[Tensor, " n"]]:
        """Draws from the network, parents before children.

        Args:
            n: How many.
            seed: The seed; None goes on with torch's generators.

        Returns:
            For each variable its states, (n,).

        Raises:
            ConfigError: If n is negative.

        Example:
            >>> coin = BayesianNetwork({"coin": ConditionalTable([], [0.0, 1.0])})
            >>> coin.sample(3)["coin"]
            tensor([1, 1, 1])
        """
        if n < 0:
            raise ConfigError(f"the number of draws can't be negative; got n={n}")
        found: dict[str, Tensor] = {}
        with seeded(seed):
            for name in self._order:
                table = self.tables[name]
                rows = table.probabilities[tuple(found[parent] for parent in table.parents)]
                rows = rows.expand(n, -1)
                found[name] = torch.multinomial(rows, 1)[:, 0] if n else torch.zeros(0, dtype=torch.int64)
        return {name: found[name] for name in self.tables}
