"""A product of factors over discrete variables, factors of one shape kept in one array."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from jensen.errors import ConfigError, ShapeError, SupportError, unknown
from jensen.inference.factor_graph.factor import Factor

_NAMES_IN_MESSAGE = 20


@dataclass(frozen=True)
class Group:
    """Factors whose tables have one shape.

    Attributes:
        variables: Index of the variable on each axis, (factors, axes).
        log_tables: Nats, (factors, *states).
    """

    variables: Int64[Tensor, "factors axes"]
    log_tables: Float[Tensor, "factors *states"]

    @property
    def axes(self) -> int:
        """How many variables each factor has."""
        return self.variables.shape[1]


class FactorGraph:
    r"""An unnormalised distribution over named discrete variables, :math:`p^*(x) = \prod_f \phi_f(x_f)`.

    A variable that no factor mentions is independent of the others and uniform; it adds the logarithm of its number
    of states to log Z. Several factors may be over the same variables. A graph is a value: it never changes.

    Args:
        variables: Names and numbers of states.
        factors: Tables over them.

    Raises:
        ConfigError: If a factor names an unknown variable, or a variable has no state.
        ShapeError: If a table doesn't have an entry for each state.

    Example:
        >>> graph = FactorGraph({"a": 2, "b": 3}, [Factor(("a", "b"), torch.zeros(2, 3))])
        >>> float(graph.log_score({"a": 0, "b": 2}))
        0.0
    """

    names: tuple[str, ...]
    states: Int64[Tensor, " variables"]
    groups: tuple[Group, ...]
    log_constant: float

    def __init__(self, variables: Mapping[str, int], factors: Iterable[Factor] = ()) -> None:
        self._set(list(variables), torch.tensor(list(variables.values()), dtype=torch.int64), (), 0.0)
        rows: dict[tuple[int, ...], list[list[int]]] = {}
        tables: dict[tuple[int, ...], list[Tensor]] = {}
        for factor in factors:
            index = self.index(factor.variables)
            wanted = tuple(int(self.states[i]) for i in index)
            if tuple(factor.log_table.shape) != wanted:
                raise ShapeError(
                    f"the table over ({', '.join(factor.variables)}) has shape {tuple(factor.log_table.shape)}; "
                    f"these variables have {wanted} states"
                )
            rows.setdefault(wanted, []).append(index)
            tables.setdefault(wanted, []).append(factor.log_table)
        self.log_constant = float(sum(tables.pop((), [])))
        self.groups = tuple(
            Group(torch.tensor(rows[shape], dtype=torch.int64), torch.stack(found))
            for shape, found in tables.items()
        )

    def _set(
        self, names: Sequence[str], states: Tensor, groups: Iterable[Group], log_constant: float
    ) -> None:
        if bool((states < 1).any()):
            name = names[int(states.argmin())]
            raise ConfigError(f"the variable '{name}' has {int(states.min())} states; it needs at least one")
        self.names, self.states = tuple(names), states
        self.groups, self.log_constant = tuple(groups), log_constant
        self._places = {name: place for place, name in enumerate(names)}

    @classmethod
    def from_groups(
        cls, names: Sequence[str], states: Tensor, groups: Iterable[Group], log_constant: float = 0.0
    ) -> "FactorGraph":
        """A graph of arrays, which are taken as they are: for many factors of one shape.

        Args:
            names: Of the variables.
            states: How many each has, (variables,).
            groups: Factors by shape.
            log_constant: A factor without variables, nats.

        Returns:
            The graph.
        """
        result = cls.__new__(cls)
        result._set(names, states, groups, log_constant)
        return result

    @property
    def variables(self) -> dict[str, int]:
        """Names and numbers of states."""
        return dict(zip(self.names, self.states.tolist(), strict=True))

    @property
    def factors(self) -> list[Factor]:
        """The factors one by one."""
        found = [
            Factor([self.names[i] for i in index], table)
            for group in self.groups
            for index, table in zip(group.variables.tolist(), group.log_tables, strict=True)
        ]
        return [*found, Factor((), self.log_constant)] if self.log_constant != 0 else found

    @property
    def has_zeros(self) -> bool:
        """Whether a factor makes a configuration impossible."""
        return any(bool((group.log_tables == -torch.inf).any()) for group in self.groups)

    def index(self, names: Sequence[str]) -> list[int]:
        """Places of variables among the names.

        Raises:
            ConfigError: If one isn't in the graph; the message names the nearest.
        """
        for name in names:
            if name not in self._places:
                options = self.names
                if len(options) > _NAMES_IN_MESSAGE:
                    options = get_close_matches(name, options, n=3, cutoff=0.0)
                    options = [*options, f"... ({len(self.names)} variables in all)"]
                raise ConfigError(unknown("variable", name, options))
        return [self._places[name] for name in names]

    def evidence(self, values: Mapping[str, int]) -> dict[int, int]:
        """Places and states of observed variables.

        Raises:
            ConfigError: If a variable isn't in the graph.
            SupportError: If it doesn't have that state.
        """
        index = self.index(list(values))
        for place, state in zip(index, values.values(), strict=True):
            if not 0 <= state < int(self.states[place]):
                raise SupportError(
                    f"the variable '{self.names[place]}' has the states 0..{int(self.states[place]) - 1}; got {state}"
                )
        return {place: int(state) for place, state in zip(index, values.values(), strict=True)}

    def log_score(
        self, values: Mapping[str, int] | Int64[Tensor, "*batch variables"]
    ) -> Float[Tensor, "*batch"]:
        r"""The unnormalised log-probability, :math:`\log p^*(x)`.

        Args:
            values: A state for each variable by name, or states in the order of ``names``, (\*batch, variables).

        Returns:
            Nats, (\*batch); -inf where a factor is zero.

        Raises:
            ConfigError: If a name is unknown or missing.
            SupportError: If a variable doesn't have that state.
        """
        if isinstance(values, Mapping):
            found = self.evidence(values)
            missing = [name for place, name in enumerate(self.names) if place not in found]
            if missing:
                raise ConfigError(f"no state is given for the variable '{missing[0]}'; give one for each")
            values = torch.tensor([found[place] for place in range(len(self.names))], dtype=torch.int64)
        if values.shape[-1] != len(self.names) or bool(((values < 0) | (values >= self.states)).any()):
            raise SupportError(
                f"got states of shape {tuple(values.shape)}; wanted {len(self.names)} on the last axis, "
                "each at least 0 and less than its variable's number of states"
            )
        total = torch.full(values.shape[:-1], self.log_constant, dtype=torch.float64)
        for group in self.groups:
            entry = group.log_tables.expand(len(group.variables), *group.log_tables.shape[1:])
            rows = torch.arange(len(entry))
            total = total + entry[rows, *values[..., group.variables].unbind(-1)].sum(-1)
        return total

    def condition(self, values: Mapping[str, int]) -> "FactorGraph":
        r"""The graph of the other variables where some are observed, :math:`p^*(x_{rest}, x_{observed} = v)`.

        Its log Z is the logarithm of the (unnormalised) probability of what was observed.

        Args:
            values: Variables and their states.

        Returns:
            A graph without the observed variables. If a factor excludes the observation its constant is -inf.

        Raises:
            ConfigError: If a variable isn't in the graph.
            SupportError: If it doesn't have that state.

        Example:
            >>> graph = FactorGraph({"a": 2, "b": 2}, [Factor(("a", "b"), [[0.0, 1.0], [2.0, 3.0]])])
            >>> graph.condition({"a": 1}).factors[0].log_table
            tensor([2., 3.], dtype=torch.float64)
        """
        found = self.evidence(values)
        if not found:
            return self
        state = torch.full((len(self.names),), -1, dtype=torch.int64)
        state[list(found)] = torch.tensor(list(found.values()), dtype=torch.int64)
        kept = state < 0
        place = kept.cumsum(0) - 1
        constant = self.log_constant
        groups: list[Group] = []
        for group in self.groups:
            observed = state[group.variables] >= 0
            for pattern in torch.unique(observed, dim=0):
                rows = (observed == pattern).all(1)
                index, tables = group.variables[rows], group.log_tables[rows]
                for axis in reversed(range(group.axes)):
                    if pattern[axis]:
                        at = state[index[:, axis]]
                        tables = tables.movedim(axis + 1, 1)[torch.arange(len(tables)), at]
                if bool(pattern.all()):
                    constant += float(tables.sum())
                else:
                    groups.append(Group(place[index[:, ~pattern]], tables))
        names = [name for name, keep in zip(self.names, kept.tolist(), strict=True) if keep]
        return FactorGraph.from_groups(names, self.states[kept], groups, constant)
