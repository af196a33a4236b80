"""Points whose last columns are states of independent sites: a continuous distribution times categoricals."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, kl_divergence, register_kl

from jensen.distributions import VectorDistribution


class Mixed(VectorDistribution):
    r"""The density :math:`q(u) \prod_s \pi_s(z_s)` of vectors (u, z), with states z as whole numbers.

    Args:
        continuous: Over u, (dim,); None where there is no u.
        log_probs: Of each site's states, nats, (sites, states); -inf for those that it can't take. They are
            normalised.

    Example:
        >>> q = Mixed(None, torch.tensor([[0.25, 0.75]]).log())
        >>> q.log_prob(torch.tensor([[0.0], [1.0]])).exp(), q.mean
        (tensor([0.2500, 0.7500]), tensor([0.7500]))
    """

    has_rsample = False

    def __init__(self, continuous: Distribution | None, log_probs: Float[Tensor, "sites states"]) -> None:
        self.continuous = continuous
        self.log_probs = log_probs
        self.size = 0 if continuous is None else continuous.event_shape[0]
        super().__init__(event_shape=torch.Size([self.size + len(log_probs)]), validate_args=False)

    @property
    def probs(self) -> Float[Tensor, "sites states"]:
        """Of each site's states."""
        return self.log_probs.exp()

    @property
    def mean(self) -> Float[Tensor, " dim"]:
        """Means, of states as numbers."""
        sites = self.probs @ self._numbers
        return sites if self.continuous is None else torch.cat([self.continuous.mean, sites])

    @property
    def variance(self) -> Float[Tensor, " dim"]:
        """Variances, of states as numbers."""
        sites = self._site_variance
        return sites if self.continuous is None else torch.cat([self.continuous.variance, sites])

    @property
    def covariance_matrix(self) -> Float[Tensor, "dim dim"]:
        """Of states as numbers; zero between sites, and between these and u."""
        sites = self._site_variance.diag()
        if self.continuous is None:
            return sites
        known: Any = getattr(self.continuous, "covariance_matrix", None)
        return torch.block_diag(self.continuous.variance.diag() if known is None else known, sites)

    @property
    def site_entropy(self) -> Tensor:
        """Of all sites together, nats."""
        return -_weighted(self.probs, self.log_probs).sum()

    @property
    def _numbers(self) -> Tensor:
        return torch.arange(self.log_probs.shape[1], dtype=self.log_probs.dtype)

    @property
    def _site_variance(self) -> Tensor:
        mean = self.probs @ self._numbers
        return (self.probs * (self._numbers - mean[:, None]).square()).sum(1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample, dim)."""
        shape = torch.Size(sample_shape)
        with torch.no_grad():
            places = torch.rand(*shape, len(self.log_probs), dtype=self.log_probs.dtype)
            states = self.states_at(places)
            if self.continuous is None:
                return states
            return torch.cat([self.continuous.sample(shape), states], -1)

    def states_at(self, places: Float[Tensor, "*n sites"]) -> Float[Tensor, "*n sites"]:
        """The states where uniform numbers between 0 and 1 fall, by the inverse of the distribution function."""
        reached = self.probs.detach().cumsum(-1)
        # What rounding has left of one belongs to the last state that can be taken.
        reached = reached / reached[:, -1:]
        flat = places.reshape(-1, len(reached)).T.contiguous()
        found = torch.searchsorted(reached, flat, right=True).to(places.dtype)
        last = torch.where(self.log_probs > -torch.inf, self._numbers, 0.0).amax(-1)
        return torch.minimum(found, last[:, None]).T.reshape(places.shape)

    def log_prob(self, value: Float[Tensor, "*n dim"]) -> Float[Tensor, "*n"]:
        """Log-density in nats of points (*n, dim)."""
        states = value[..., self.size :].long()
        flat = states.reshape(-1, states.shape[-1]).T
        found = self.log_probs.gather(1, flat).sum(0).reshape(states.shape[:-1])
        return found if self.continuous is None else found + self.continuous.log_prob(value[..., : self.size])


@register_kl(Mixed, Mixed)
def _kl_mixed(p: Mixed, q: Mixed) -> Tensor:
    sites = _weighted(p.probs, p.log_probs - q.log_probs).sum()
    if p.continuous is None or q.continuous is None:
        return sites
    return kl_divergence(p.continuous, q.continuous) + sites


def _weighted(probs: Tensor, values: Tensor) -> Tensor:
    """Their product, zero (and without a gradient) where a probability is zero, whatever the value."""
    some = probs > 0
    return torch.where(some, probs, 0.0) * torch.where(some, values, 0.0)
