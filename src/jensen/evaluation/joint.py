"""log p(x, z) and its slope at latents of one's own choice, through nothing but the model's protocol."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from jensen.bounds import Draw, Terms, iwae
from jensen.distributions import Pinned
from jensen.errors import BoundError
from jensen.evaluation.estimate import exactly
from jensen.evaluation.memory import part
from jensen.information import Estimate
from jensen.models import Model, Simulator

_SCALE_DRAWS = 64
_DRAW = Draw(closed_form=False)


@dataclass(frozen=True)
class Joint:
    """p(x, z) of some data as a function of their latents, beside the density that chains start from.

    Attributes:
        model: The model.
        x: Data (B, *event).
        context: Their contexts.
        observed: Which cells were observed.
        posterior: What the model's encoder says of them.
        start: Whether chains start from that posterior or from the prior.
    """

    model: Model
    x: Tensor
    context: Tensor | None
    observed: Tensor | None
    posterior: Distribution
    start: str

    def densities(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Log-density of the start, and log p(x, z), at latents (S, B, D); both (S, B) in nats."""
        pinned = Pinned(z, self.posterior)
        terms = self.model.terms(self.x, self.context, self.observed, len(z), draw=_DRAW, encoded=pinned)
        if terms.shared:
            raise BoundError(
                f"annealing needs latents of each datum's own; {sorted(terms.shared)} are shared by all data"
            )
        if len(terms.latents) != 1 or next(iter(terms.latents.values())) is not z:
            raise BoundError(
                f"annealing needs one group of latents that the model takes from what it encoded; "
                f"{type(self.model).__name__} has {', '.join(terms.latents) or 'none'} and draws them itself; "
                "use method='is'"
            )
        (group,) = terms.latents
        log_prior = terms.density("log_prior", group)
        log_joint = terms.log_likelihood + log_prior
        log_start = log_prior if self.start == "prior" else terms.density("log_posterior", group)
        return log_start.expand(log_joint.shape), log_joint

    def draw(self, chains: int) -> Tensor:
        """Latents from the start, (chains, B, D)."""
        if self.start == "posterior":
            return self.posterior.sample(torch.Size((chains,)))
        context = self.context
        if context is not None:
            context = context.expand(chains, *context.shape).flatten(0, 1)
        _, z = simulator(self.model).simulate(chains * len(self.x), context)
        return z.reshape(chains, len(self.x), *z.shape[1:])

    def scales(self) -> tuple[Tensor, Tensor]:
        """Standard deviation of each latent under the start and under the posterior, (B, D)."""
        q = self.posterior.sample(torch.Size((_SCALE_DRAWS,))).std(0)
        return (q if self.start == "posterior" else self.draw(_SCALE_DRAWS).std(0)), q


def simulator(model: Model) -> Simulator:
    """The model, if it can draw latents together with data.

    Raises:
        BoundError: If it can't.
    """
    if not isinstance(model, Simulator):
        raise BoundError(
            f"{type(model).__name__} has no method simulate(n, context) that returns data with their latents; "
            "add it, or start from the posterior"
        )
    return model


def check_continuous(q: Distribution) -> None:
    """Refuses latents that Hamiltonian transitions can't move.

    Raises:
        BoundError: If they are discrete, or live on a surface such as a sphere.
    """
    try:
        support: Any = q.support
    except NotImplementedError:
        return
    if support.is_discrete:
        raise BoundError(
            f"the latents of a {type(q).__name__} are discrete and can't be enumerated: log p(x, z) has no gradient "
            "in them; use method='is'"
        )
    while isinstance(support, constraints.independent):
        support = support.base_constraint
    if support.event_dim > 0:
        raise BoundError(
            f"the latents of a {type(q).__name__} live on a curved or constrained set ({type(support).__name__}), "
            "where straight moves leave it; use method='is'"
        )


def can_be_enumerated(q: Distribution) -> bool:
    """Whether all values of the latents can be listed."""
    if not q.has_enumerate_support:
        return False
    try:
        q.enumerate_support(expand=False)
    except NotImplementedError:
        return False
    return True


def enumerated(
    model: Model,
    x: Tensor,
    context: Tensor | None,
    observed: Tensor | None,
    q: Distribution,
    rows: int,
    bound: Callable[[Terms], Tensor] = iwae,
) -> Estimate:
    """Log p(x), or another bound, with the latents summed out, so many rows at once; exact."""
    values = len(q.enumerate_support(expand=False))
    at_once = max(1, rows // values)
    found: list[Tensor] = []
    for first in range(0, len(x), at_once):
        few = slice(first, first + at_once)
        terms = model.terms(
            x[few], part(context, few), part(observed, few), "all", draw=Draw(closed_form=False)
        )
        found.append(bound(terms))
    return exactly(torch.cat(found))
