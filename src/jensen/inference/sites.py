"""Sites: the numbers of discrete parameters that have too many configurations to sum over."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from jensen.errors import ConfigError, DataError
from jensen.inference.parameters import Parameter


@dataclass(frozen=True)
class Sites:
    """The numbers of discrete parameters, one after the other, in the parameters' order.

    Attributes:
        parameters: The discrete ones, by name.

    Example:
        >>> from jensen.inference import discrete
        >>> sites = Sites({"z": discrete(3, 2), "on": discrete(2)})
        >>> sites.names, sites.states.tolist()
        (['z[0]', 'z[1]', 'on'], [3, 3, 2])
        >>> sites.values(torch.tensor([2.0, 0.0, 1.0]))
        {'z': tensor([2, 0]), 'on': tensor(1)}
    """

    parameters: Mapping[str, Parameter]

    def __len__(self) -> int:
        """How many there are."""
        return len(self.states)

    @cached_property
    def states(self) -> Int[Tensor, " sites"]:
        """How many values each can take."""
        counts = [[parameter.states] * prod(parameter.shape) for parameter in self.parameters.values()]
        return torch.tensor([count for part in counts for count in part])

    @property
    def possible(self) -> Bool[Tensor, "sites most"]:
        """Which values each can take, of as many as the site with most has."""
        return torch.arange(int(self.states.max())) < self.states[:, None]

    @property
    def names(self) -> list[str]:
        """Such as ``z[3]``."""
        return [
            name + (f"[{','.join(map(str, index))}]" if index else "")
            for name, parameter in self.parameters.items()
            for index in product(*map(range, parameter.shape))
        ]

    @property
    def configurations(self) -> str:
        """How many joint values the parameters have, in words."""
        total = prod(self.states.tolist())
        return f"{total:,}" if total < 10**12 else f"about 10^{len(str(total)) - 1}"

    def refusal(self, what: str) -> ConfigError:
        """What is said by methods that need real coordinates.

        Args:
            what: Such a method, as in "the method 'laplace'".
        """
        names = ", ".join(f"'{name}'" for name in self.parameters)
        return ConfigError(
            f"{what} needs a density over real coordinates, but this target keeps the discrete {names} with "
            f"{self.configurations} configurations instead of summing over them: use jensen.inference.fit(target) with "
            "method='auto', 'mean-field' or 'full-rank', or mcmc.metropolis_within_gibbs; or sum those of each datum "
            "in the log-joint itself (logsumexp), or raise largest_sum"
        )

    def parts(self) -> Iterator[tuple[str, Parameter, slice]]:
        """Each parameter with the place of its sites among all."""
        start = 0
        for name, parameter in self.parameters.items():
            stop = start + prod(parameter.shape)
            yield name, parameter, slice(start, stop)
            start = stop

    def values(self, columns: Float[Tensor, "*n sites"]) -> dict[str, Tensor]:
        """The parameters' values, integers (*n, *shape), of the sites' states as floating-point numbers."""
        states = columns.round().long()
        lead = columns.shape[:-1]
        return {
            name: states[..., where].reshape(lead + parameter.shape)
            for name, parameter, where in self.parts()
        }

    def random(self, *n: int) -> Float[Tensor, "*n sites"]:
        """States that are all equally probable, from torch's generator."""
        return (torch.rand(*n, len(self), dtype=torch.float64) * self.states).floor()

    def check(self, columns: Float[Tensor, "n sites"]) -> None:
        """Looks whether columns are states.

        Raises:
            DataError: If they aren't whole numbers, or one is none of its site's.
        """
        wrong = ((columns != columns.round()) | (columns < 0) | (columns >= self.states)).any(0)
        if bool(wrong.any()):
            place = int(wrong.nonzero()[0])
            raise DataError(
                f"'{self.names[place]}' is a whole number from 0 to {int(self.states[place]) - 1}, got "
                f"{columns[:, place].tolist()[:3]}: discrete parameters that aren't summed over can't be moved like "
                "real ones; use jensen.inference.fit or mcmc.metropolis_within_gibbs"
            )
