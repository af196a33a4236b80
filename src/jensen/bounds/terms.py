"""What one pass over a model yields, and how the pass draws its latents."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from math import log
from typing import Literal, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from jensen.errors import BoundError

Samples = int | Literal["all"]
"""How many latents are drawn for a datum; "all" enumerates those that a discrete posterior can draw."""


class Deferred(Mapping[str, Tensor | None]):
    """Densities by the name of their group, each computed when it is first asked for.

    A bound asks for the closed-form KL or for the two densities, seldom for both; what isn't asked for costs
    nothing.

    Args:
        densities: For each group a function that computes its density.
    """

    def __init__(self, densities: Mapping[str, Callable[[], Tensor | None]]) -> None:
        self._densities = dict(densities)
        self._known: dict[str, Tensor | None] = {}

    def __getitem__(self, group: str) -> Tensor | None:
        """The density of that group; None if there is none."""
        if group not in self._known:
            self._known[group] = self._densities[group]()
        return self._known[group]

    def __iter__(self) -> Iterator[str]:
        """The groups' names."""
        return iter(self._densities)

    def __len__(self) -> int:
        """How many groups there are."""
        return len(self._densities)


@dataclass(frozen=True)
class Terms:
    r"""What one pass over a model yields: all in nats, every constant kept.

    With latents z drawn from q(z|x) for S samples and B data:

    Attributes:
        log_likelihood: log p(x|z), (S, B).
        log_prior: For each group of latents log p(z_g | groups above), (S, B) or broadcastable; None where the
            density doesn't exist.
        log_posterior: For each group log q(z_g | x, groups above), likewise.
        kl: For each group KL(q || p) given the groups above, where it is known in closed form, else None.
        latents: For each group the draws themselves, (S, B, *event) or (S, 1, *event).
        log_weight: Log-weights of the samples that sum to one for each datum, (S, B); None where samples count
            alike. Enumeration weighs every latent with its posterior probability.
        scale: N / B for unknowns that all data share: size of the data set over size of the batch.
        shared: The groups that all data share. Their KL counts once for the data set, so each datum bears 1/N
            of it, and the bounds of an epoch's data sum to a bound on the log-evidence of the data set.
    """

    log_likelihood: Float[Tensor, "samples batch"]
    log_prior: Mapping[str, Tensor | None] = field(default_factory=dict[str, Tensor | None])
    log_posterior: Mapping[str, Tensor | None] = field(default_factory=dict[str, Tensor | None])
    kl: Mapping[str, Tensor | None] = field(default_factory=dict[str, Tensor | None])
    latents: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    log_weight: Float[Tensor, "samples batch"] | None = None
    scale: float = 1.0
    shared: frozenset[str] = frozenset()

    @property
    def samples(self) -> int:
        """Number of samples S."""
        return self.log_likelihood.shape[0]

    @property
    def batch(self) -> int:
        """Number of data B."""
        return self.log_likelihood.shape[1]

    def density(self, name: Literal["log_prior", "log_posterior"], group: str) -> Tensor:
        """A density that has to exist.

        Raises:
            BoundError: If it doesn't.
        """
        value = (self.log_prior if name == "log_prior" else self.log_posterior)[group]
        if value is None:
            what = "prior" if name == "log_prior" else "posterior"
            raise BoundError(
                f"this bound needs the density of the {what} of '{group}', which doesn't exist; use a bound on "
                "closed forms or an objective that only samples"
            )
        return value

    def divergence(self, group: str) -> Tensor:
        """KL of a group in closed form, or log q - log p at each sample, whose average estimates it.

        Returns:
            Nats for each datum, (1 or S, 1 or B). Of a shared group each datum bears one part in N.
        """
        value = self.kl.get(group)
        if value is None:
            value = self.density("log_posterior", group) - self.density("log_prior", group)
        if group in self.shared:
            value = value / (self.scale * self.batch)
        return value

    def average(self, values: Float[Tensor, "any_samples any_batch"]) -> Float[Tensor, " batch"]:
        """The average over the samples, each with its weight."""
        if values.shape != self.log_likelihood.shape:
            values = values.expand(self.samples, self.batch)
        if self.log_weight is not None:
            return (self.log_weight.exp() * values).sum(0)
        return values.squeeze(0) if self.samples == 1 else values.mean(0)

    def log_ratio(self) -> Float[Tensor, "samples batch"]:
        """Log p(x, z) - log q(z|x), the logarithms of the importance weights.

        Raises:
            BoundError: If a density doesn't exist or a group is shared, so that the weights of the data are not
                independent.
        """
        if self.shared:
            raise BoundError(
                f"importance weights need latents of each datum's own; {sorted(self.shared)} are shared by all data; "
                "use the ELBO"
            )
        result = self.log_likelihood
        for group in self.log_prior:
            result = result + self.density("log_prior", group) - self.density("log_posterior", group)
        return result

    def log_mean_exp(self, values: Float[Tensor, "samples batch"]) -> Float[Tensor, " batch"]:
        """Log of the average over the samples of exp(values)."""
        if self.log_weight is None:
            return torch.logsumexp(values, 0) - log(self.samples)
        return torch.logsumexp(self.log_weight + values, 0)


@dataclass(frozen=True)
class Draw:
    """How a pass draws its latents and scores its posterior; a gradient estimator's instruction to the model.

    Attributes:
        reparameterised: Whether the draws carry gradients to the posterior's parameters.
        score: Whether log q carries gradients to them directly; if not, only through the draws.
        closed_form: Whether closed-form KLs may be used.
        common_noise: Whether all data of the batch share their noise.
    """

    reparameterised: bool = True
    score: bool = True
    closed_form: bool = True
    common_noise: bool = False


PATHWISE = Draw()


@runtime_checkable
class HasTerms(Protocol):
    """A model, as far as bounds and their gradients need it."""

    def terms(
        self,
        x: Tensor,
        context: Tensor | None = None,
        observed: Tensor | None = None,
        samples: Samples = 1,
        *,
        draw: Draw = PATHWISE,
        encoded: Distribution | None = None,
    ) -> Terms:
        """One pass over the model."""
        ...
