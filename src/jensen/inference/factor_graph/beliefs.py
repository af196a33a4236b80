"""A probability for each state of each variable."""

from collections.abc import Iterator, Mapping

from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.inference.factor_graph.graph import FactorGraph


class Beliefs(Mapping[str, Tensor]):
    """Marginals by name; ``beliefs["a"]`` is (states of a,), float64.

    Attributes:
        padded: All of them in the order of the graph's variables, (variables, largest number of states), with zeros
            where a variable has fewer states.
    """

    def __init__(self, graph: FactorGraph, padded: Float[Tensor, "variables states"]) -> None:
        self._graph = graph
        self.padded = padded

    def __getitem__(self, name: str) -> Tensor:
        """The marginal of a variable.

        Raises:
            ConfigError: If the graph doesn't have it.
        """
        (place,) = self._graph.index([name])
        return self.padded[place, : int(self._graph.states[place])]

    def __contains__(self, name: object) -> bool:
        """Whether the graph has a variable of that name."""
        try:
            self._graph.index([str(name)])
        except ConfigError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        """The names."""
        return iter(self._graph.names)

    def __len__(self) -> int:
        """How many variables there are."""
        return len(self._graph.names)
