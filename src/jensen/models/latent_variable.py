"""A latent-variable model assembled from a prior, a posterior and a likelihood."""

from typing import Any, Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.bounds import PATHWISE, Deferred, Draw, HasTerms, Samples, Terms
from jensen.distributions import Conditional, closed_form_kl, detached, log_prob_observed, sample_common
from jensen.errors import BoundError, DataError, ShapeError


@runtime_checkable
class Model(HasTerms, Protocol):
    """What evaluation, coding and reports need of a model."""

    def encode(
        self, x: Tensor, context: Tensor | None = None, observed: Tensor | None = None
    ) -> Distribution:
        """The posterior of the latents given data."""
        ...

    def decode(self, z: Tensor, context: Tensor | None = None) -> Distribution:
        """The likelihood of data given latents."""
        ...

    def sample(self, n: int, context: Tensor | None = None) -> Tensor:
        """New data."""
        ...


@runtime_checkable
class Simulator(Protocol):
    """A model that gives new data together with the latents behind them, an exact draw of their posterior."""

    def simulate(self, n: int, context: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """New data and their latents."""
        ...


class LatentVariableModel(nn.Module):
    """p(x, z) = p(z) p(x|z) with the approximate posterior q(z|x).

    Args:
        prior: Conditional over latents (latent_dim,), given the context.
        posterior: Conditional over latents given a datum, joined with the context if there is one.
        likelihood: Conditional over data given latents, joined with the context if there is one.
        mask_as_input: Whether the posterior also gets which cells were observed, joined to the datum.

    Example:
        >>> from jensen.likelihoods import Bernoulli
        >>> from jensen.nets import MLP
        >>> from jensen.posteriors import DiagonalNormal
        >>> from jensen.priors import StandardNormal
        >>> model = LatentVariableModel(
        ...     StandardNormal(2), DiagonalNormal(MLP((6,), (2, 2))), Bernoulli(MLP((2,), (1, 6)), (6,))
        ... )
        >>> model.terms(torch.ones(5, 6), samples=8).log_likelihood.shape
        torch.Size([8, 5])
    """

    def __init__(
        self,
        prior: Conditional,
        posterior: Conditional,
        likelihood: Conditional,
        *,
        mask_as_input: bool = False,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.posterior = posterior
        self.likelihood = likelihood
        self.mask_as_input = mask_as_input

    def encode(
        self,
        x: Float[Tensor, "batch *event"],
        context: Float[Tensor, "batch *context"] | None = None,
        observed: Bool[Tensor, "batch *event"] | None = None,
    ) -> Distribution:
        """The posterior q(z | x, context) given the cells that were observed, of batch shape (batch,).

        Raises:
            DataError: If the data are no tensor.
        """
        if not isinstance(cast(Any, x), Tensor):
            raise DataError(
                f"a model takes a tensor of its own dtype and device, got {type(x).__name__}; use torch.as_tensor, or "
                "run.prepare(dataset) for the data of a Run"
            )
        if observed is not None:
            x = torch.where(observed, x, 0.0)
            if self.mask_as_input:
                x = _join(x, observed.to(x.dtype), 1)
        elif self.mask_as_input:
            x = _join(x, torch.ones_like(x), 1)
        return self.posterior(x if context is None else _join(x, context, 1))

    def decode(
        self, z: Float[Tensor, "*batch latent"], context: Float[Tensor, "batch_ *context"] | None = None
    ) -> Distribution:
        """The likelihood p(x | z, context), of the batch shape of z."""
        return self.likelihood(z if context is None else _join(z, context, z.ndim - 1))

    def terms(
        self,
        x: Float[Tensor, "batch *event"],
        context: Float[Tensor, "batch *context"] | None = None,
        observed: Bool[Tensor, "batch *event"] | None = None,
        samples: Samples = 1,
        *,
        draw: Draw = PATHWISE,
        encoded: Distribution | None = None,
    ) -> Terms:
        """One pass: draws latents from the posterior and scores them.

        Args:
            x: Data; cells that weren't observed may hold anything.
            context: What prior, posterior and likelihood are conditioned on beside it.
            observed: True where a cell was observed; None if all were.
            samples: Draws for each datum; "all" enumerates the latents of a discrete posterior.
            draw: How the latents are drawn; gradient estimators set it.
            encoded: What ``encode`` returned for the same data, to encode once and decode many times.

        Returns:
            Terms in nats with one group of latents, "z".

        Raises:
            BoundError: If the draws have to carry gradients that they can't, or can't be enumerated.
            ShapeError: If ``samples`` is no whole number above 0.
        """
        q = self.encode(x, context, observed) if encoded is None else encoded
        p = self.prior(context)
        z, log_weight = _latents(q, samples, draw, len(x))
        scored = q if draw.score else detached(q)

        def kl() -> Tensor | None:
            value = closed_form_kl(q, p) if draw.closed_form else None
            return None if value is None else value[None] if value.ndim else value.expand(1, len(x))

        return Terms(
            log_likelihood=log_prob_observed(self.decode(z, context), x, observed),
            log_prior=Deferred({"z": lambda: p.log_prob(z)}),
            log_posterior=Deferred({"z": lambda: scored.log_prob(z)}),
            kl=Deferred({"z": kl}),
            latents={"z": z},
            log_weight=log_weight,
        )

    def sample(
        self, n: int, context: Float[Tensor, "n_ *context"] | None = None
    ) -> Float[Tensor, "n *event"]:
        """New data: z from the prior, x from the likelihood given z.

        Args:
            n: How many.
            context: One for each of them.

        Returns:
            Draws of p(x), (n, *event).
        """
        with torch.inference_mode():
            return self.simulate(n, context)[0]

    def simulate(
        self, n: int, context: Float[Tensor, "n_ *context"] | None = None
    ) -> tuple[Float[Tensor, "n *event"], Float[Tensor, "n latent"]]:
        """New data with the latents behind them: z from the prior, x from the likelihood given z.

        Seen from x, its z is an exact draw of the true posterior p(z | x).

        Args:
            n: How many.
            context: One for each of them.

        Returns:
            Data (n, *event) and latents (n, latent_dim), draws of p(x, z) without gradients.

        Raises:
            ShapeError: If n is no whole number of at least 0.
        """
        if not isinstance(cast(Any, n), int | np.integer) or n < 0:
            raise ShapeError(f"n, how many data to draw, is a whole number of at least 0, got {n}")
        with torch.no_grad():
            p = self.prior(context)
            z = p.sample() if p.batch_shape else p.sample(torch.Size((n,)))
            return self.decode(z, context).sample(), z


def _latents(q: Distribution, samples: Samples, draw: Draw, batch: int) -> tuple[Tensor, Tensor | None]:
    if isinstance(samples, str):
        if not q.has_enumerate_support:
            raise BoundError(
                f"samples='all' needs a discrete posterior, got {type(q).__name__}; give a number"
            )
        z = q.enumerate_support(expand=True)
        return z, q.log_prob(z)
    if not isinstance(cast(Any, samples), int | np.integer) or samples < 1:
        raise ShapeError(f"samples has to be at least 1, a whole number, got {samples}")
    if draw.common_noise:
        return sample_common(q, samples), None
    if not draw.reparameterised:
        return q.sample((samples,)), None
    if q.has_rsample:
        return q.rsample((samples,)), None
    z = q.sample((samples,))
    if torch.is_grad_enabled() and q.log_prob(z).requires_grad:
        raise BoundError(
            f"draws of {type(q).__name__} carry no path-wise gradient; use gradient='score' or samples='all'"
        )
    return z, None


def _join(first: Tensor, second: Tensor, batch_dims: int) -> Tensor:
    """Flattens events behind the batch dimensions and puts them behind each other."""
    first = first.reshape(*first.shape[:batch_dims], -1)
    second = second.reshape(len(second), -1).expand(*first.shape[:-1], -1)
    return torch.cat([first, second], -1)
