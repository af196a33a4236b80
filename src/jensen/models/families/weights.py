"""Weights of components: by maximum likelihood, uniform, with a Dirichlet prior, or by breaking sticks."""

from math import log
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Dirichlet as DirichletDistribution
from torch.distributions import kl_divergence

from jensen.registry import Registry


@runtime_checkable
class WeightFamily(Protocol):
    """Weights pi of K components; the optimal q(pi) is a function of the expected counts."""

    def expected_log(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """E_q[log pi], (..., K)."""
        ...

    def negative_kl(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
        """-KL(q(pi) || p(pi)) in nats; zero where there is no prior."""
        ...

    def mean(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """E_q[pi], (..., K)."""
        ...


class Weights:
    """Weights at their maximum likelihood, N_k / N; a component without data gets none.

    Example:
        >>> Weights().mean(torch.tensor([1.0, 3.0])).tolist()
        [0.25, 0.75]
    """

    def __init__(self, concentration: float | None = None) -> None:
        self.concentration = concentration

    def mean(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """N_k / N; uniform without data."""
        total = counts.sum(-1, keepdim=True)
        return torch.where(total > 0, counts / total.clamp(min=1e-300), 1 / counts.shape[-1])

    def expected_log(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """Log of the weights."""
        return self.mean(counts).log()

    def negative_kl(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
        """Zero: there is no prior."""
        return counts.new_zeros(counts.shape[:-1])


class Uniform:
    """Weights 1 / K, known."""

    def __init__(self, concentration: float | None = None) -> None:
        self.concentration = concentration

    def mean(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """1 / K."""
        return torch.full_like(counts, 1 / counts.shape[-1])

    def expected_log(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """-log K."""
        return torch.full_like(counts, -log(counts.shape[-1]))

    def negative_kl(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
        """Zero: nothing is unknown."""
        return counts.new_zeros(counts.shape[:-1])


class Dirichlet:
    """Weights with the prior Dirichlet(a, ..., a).

    Args:
        concentration: a; None: 1 / K, which leaves components empty that aren't needed.
    """

    def __init__(self, concentration: float | None = None) -> None:
        self.concentration = concentration

    def _prior(self, counts: Tensor) -> float:
        return 1 / counts.shape[-1] if self.concentration is None else self.concentration

    def mean(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """Of the Dirichlet."""
        alpha = counts + self._prior(counts)
        return alpha / alpha.sum(-1, keepdim=True)

    def expected_log(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """Digamma of each parameter less that of their sum."""
        alpha = counts + self._prior(counts)
        return torch.digamma(alpha) - torch.digamma(alpha.sum(-1, keepdim=True))

    def negative_kl(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
        """Of the two Dirichlets."""
        prior = torch.full_like(counts, self._prior(counts))
        q = DirichletDistribution(counts + prior, validate_args=False)
        return -kl_divergence(q, DirichletDistribution(prior, validate_args=False))


class Sticks:
    r"""A Dirichlet process cut off after K components: pi_k = v_k prod_{j<k} (1 - v_j), v_k ~ Beta(1, g), v_K = 1.

    Args:
        concentration: g; None: 1.

    Source: Variational inference for Dirichlet process mixtures, 2006, https://doi.org/10.1214/06-BA104.
    """

    def __init__(self, concentration: float | None = None) -> None:
        self.concentration = 1.0 if concentration is None else concentration

    def _posterior(self, counts: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters of the K - 1 Betas."""
        later = counts.flip(-1).cumsum(-1).flip(-1) - counts
        return 1 + counts[..., :-1], self.concentration + later[..., :-1].clamp(min=0)

    def mean(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """Product of the expected sticks, which are independent."""
        a, b = self._posterior(counts)
        one = counts.new_ones(*counts.shape[:-1], 1)
        return torch.cat([a / (a + b), one], -1) * torch.cat([one, (b / (a + b)).cumprod(-1)], -1)

    def expected_log(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
        """Sum of the expected logarithms of the sticks."""
        a, b = self._posterior(counts)
        total = torch.digamma(a + b)
        zero = counts.new_zeros(*counts.shape[:-1], 1)
        taken = torch.cat([torch.digamma(a) - total, zero], -1)
        return taken + torch.cat([zero, (torch.digamma(b) - total).cumsum(-1)], -1)

    def negative_kl(self, counts: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch"]:
        """Of the Betas."""
        a, b = self._posterior(counts)
        q = torch.distributions.Beta(a, b, validate_args=False)
        p = torch.distributions.Beta(
            torch.ones_like(a), torch.full_like(b, self.concentration), validate_args=False
        )
        return -kl_divergence(q, p).sum(-1)


WEIGHTS: Registry[type[Weights] | type[Uniform] | type[Dirichlet] | type[Sticks]] = Registry(
    "prior of the weights",
    {"none": Weights, "uniform": Uniform, "dirichlet": Dirichlet, "dirichlet-process": Sticks},
)
"""Families of weights by name; "none" is maximum likelihood."""
