"""What a sampler gives: chains of draws with their statistics."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import prod
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, unknown
from jensen.inference.mcmc.summary import Summary, summarise
from jensen.inference.target import Target
from jensen.seeding import seeded

_SAMPLER_STATS = {
    "log_prob": "lp",
    "acceptance": "acceptance_rate",
    "divergent": "diverging",
    "leapfrogs": "n_steps",
}
"""Names that ArviZ has for statistics of the same meaning."""


@dataclass(frozen=True)
class Draws:
    """Chains of draws from a target's posterior; ``draws["mu"]`` are those of a parameter, (chains, draws, *shape).

    Attributes:
        target: What was drawn from.
        positions: Unconstrained, (chains, draws, dim), float64.
        method: The sampler's name.
        stats: By draw, each (chains, draws): ``log_prob`` in nats of the unconstrained density, ``acceptance``, and for
            Hamiltonian samplers ``energy``, ``leapfrogs``, ``divergent``, for NUTS ``tree_depth``.
        settings: What was chosen or learnt, such as the step size.
        notes: Sentences that a reader of any result has to know, such as that a sampler isn't exact.

    Example:
        >>> from jensen.inference import Target, positive
        >>> from jensen.inference.mcmc import nuts
        >>> target = Target(lambda p: -p["rate"], {"rate": positive()})
        >>> draws = nuts(target, draws=200, chains=4)
        >>> draws["rate"].shape, draws.sample(10)["rate"].shape
        (torch.Size([4, 200]), torch.Size([10]))
    """

    target: Target = field(repr=False)
    positions: Float[Tensor, "chains draws dim"] = field(repr=False)
    method: str
    stats: Mapping[str, Tensor] = field(repr=False)
    settings: Mapping[str, Any]
    notes: tuple[str, ...] = ()

    @cached_property
    def values(self) -> dict[str, Tensor]:
        """Of each parameter its draws, (chains, draws, *shape); discrete ones given the others, seeded by 0."""
        with seeded(0):
            return self.target.complete(self.positions)

    def __getitem__(self, name: str) -> Tensor:
        """The draws of a parameter, (chains, draws, *shape).

        Raises:
            ConfigError: If there is none of that name.
        """
        if name not in self.values:
            raise ConfigError(unknown("parameter", name, self.values))
        return self.values[name]

    @property
    def chains(self) -> int:
        """How many chains there are."""
        return self.positions.shape[0]

    @property
    def draws(self) -> int:
        """Draws of each chain."""
        return self.positions.shape[1]

    @property
    def divergences(self) -> int:
        """How many transitions diverged."""
        return int(self.stats["divergent"].sum()) if "divergent" in self.stats else 0

    def sample(self, n: int | torch.Size = 1, seed: int | None = 0) -> dict[str, Tensor]:
        """Some of the draws of all chains, each at most once.

        Args:
            n: How many, as an int or a shape.
            seed: Of the choice.

        Returns:
            Of each parameter (*n, *shape).

        Raises:
            ConfigError: If there aren't so many.

        Example:
            See ``Draws``.
        """
        shape = (n,) if isinstance(n, int) else tuple(n)
        total = self.chains * self.draws
        if prod(shape) > total:
            raise ConfigError(f"asked for {prod(shape):,} of {total:,} draws; run the sampler for more")
        with seeded(seed):
            chosen = torch.randperm(total)[: prod(shape)]
        return {
            name: value.flatten(0, 1)[chosen].reshape(*shape, *value.shape[2:])
            for name, value in self.values.items()
        }

    def summary(self) -> Summary:
        """Prints a table of the parameters and one or two sentences about how far to trust them.

        Returns:
            The same as a record.
        """
        found = summarise(self.target, self.positions, self.values, self.stats, self.notes)
        print(found)
        return found

    def to_arviz(self) -> Any:
        """The draws as ArviZ's InferenceData, with ``posterior`` and ``sample_stats``.

        Raises:
            ConfigError: If ArviZ isn't installed.
        """
        try:
            import arviz
        except ImportError as error:
            raise ConfigError(
                "to_arviz needs ArviZ, which isn't installed: pip install 'jensen[diagnostics]'"
            ) from error
        return arviz.from_dict(
            posterior={name: value.numpy(force=True) for name, value in self.values.items()},
            sample_stats={
                _SAMPLER_STATS.get(name, name): value.numpy(force=True) for name, value in self.stats.items()
            }
            or None,
        )
