"""A posterior that consists of sets of weights: a point, an ensemble's members, the draws of a chain."""

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from jensen.errors import ConfigError
from jensen.weights.likelihoods import Likelihood
from jensen.weights.network import FunctionalNetwork, Values
from jensen.weights.optimise import History
from jensen.weights.posterior import Posterior
from jensen.weights.priors import Prior


class MembersPosterior(Posterior):
    """M sets of weights, alike or weighted.

    A predictive averages over all of them, or over the number asked for, spaced evenly, where that is fewer and all
    count alike.

    Args:
        members: Values by name, (M, *shape).
        log_member_weights: (M,), normalised; None: all alike.
        network, likelihood, prior, method, options, history: See ``Posterior``.

    Attributes:
        members: Likewise.
    """

    kind: ClassVar[str] = "members"

    def __init__(
        self,
        members: Mapping[str, Shaped[Tensor, "m *shape"]],
        network: FunctionalNetwork,
        likelihood: Likelihood,
        prior: Prior,
        method: str,
        options: Mapping[str, Any] | None = None,
        history: History | None = None,
        log_member_weights: Float[Tensor, " m"] | None = None,
    ) -> None:
        super().__init__(network, likelihood, prior, method, options, history)
        self.members = {name: value.detach() for name, value in members.items()}
        self.log_member_weights = log_member_weights

    def __len__(self) -> int:
        """Number of members."""
        return len(next(iter(self.members.values())))

    def draw(self, samples: int) -> Values:
        """Members, drawn with replacement by their weights."""
        if self.log_member_weights is None:
            index = torch.randint(len(self), (samples,))
        else:
            index = torch.multinomial(self.log_member_weights.exp().cpu(), samples, replacement=True)
        return {name: value[index.to(value.device)] for name, value in self.members.items()}

    def _used(self, samples: int) -> Tensor:
        if samples >= len(self) or self.log_member_weights is not None:
            return torch.arange(len(self))
        return torch.linspace(0, len(self) - 1, samples).round().long()

    def sets(self, samples: int, at_once: int) -> Iterator[Values]:
        """The members themselves."""
        for index in self._used(samples).split(at_once):
            yield {name: value[index.to(value.device)] for name, value in self.members.items()}

    def log_weights(self, samples: int) -> Tensor | None:
        """The members' own."""
        return self.log_member_weights

    @property
    def point(self) -> Values:
        """The values of a posterior that is a single point, without the dimension of sets.

        Raises:
            ConfigError: If it has several members.
        """
        if len(self) != 1:
            raise ConfigError(f"the posterior has {len(self)} members, not one; see members")
        return {name: value[0] for name, value in self.members.items()}

    def state(self) -> tuple[Values, dict[str, Any]]:
        """The members and their weights."""
        tensors = {f"member/{name}": value for name, value in self.members.items()}
        if self.log_member_weights is not None:
            tensors["log_member_weights"] = self.log_member_weights
        return tensors, {}

    @classmethod
    def restored(
        cls, common: Mapping[str, Any], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> "MembersPosterior":
        """The members again."""
        members = {k.removeprefix("member/"): v for k, v in tensors.items() if k.startswith("member/")}
        return cls(members, log_member_weights=tensors.get("log_member_weights"), **common)
