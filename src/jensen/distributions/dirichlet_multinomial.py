"""Counts of outcomes whose probabilities are themselves a Dirichlet's draw."""

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Dirichlet, Distribution, Multinomial, constraints


class DirichletMultinomial(Distribution):
    r"""Counts of n draws from classes with Dirichlet probabilities; with two classes a beta-binomial.

    .. math::
        \log p(x) = \log \frac{n!\, \Gamma(A)}{\Gamma(n + A)}
        + \sum_k \log \frac{\Gamma(x_k + a_k)}{x_k!\, \Gamma(a_k)}, \quad A = \sum_k a_k

    Args:
        total_count: Number of draws n.
        concentration: The Dirichlet's parameters a > 0, (*batch_shape, K).

    Example:
        >>> counts = DirichletMultinomial(3, torch.ones(2))  # every number of heads is as likely
        >>> counts.log_prob(torch.tensor([[0.0, 3.0], [1.0, 2.0]])).exp()
        tensor([0.2500, 0.2500])
    """

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What the parameters have to be."""
        return {"concentration": constraints.independent(constraints.positive, 1)}

    @property
    def support(self) -> constraints.Constraint:
        """What a value has to be."""
        return constraints.multinomial(self.total_count)

    def __init__(self, total_count: int, concentration: Tensor, validate_args: bool | None = None) -> None:
        self.total_count = total_count
        self.concentration = concentration
        super().__init__(concentration.shape[:-1], concentration.shape[-1:], validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DirichletMultinomial":
        """The same distribution with its parameters expanded to a batch shape."""
        concentration = self.concentration.expand(*batch_shape, *self.event_shape)
        return DirichletMultinomial(self.total_count, concentration, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass in nats of counts (*sample_shape, *batch_shape, K)."""
        if self._validate_args:
            self._validate_sample(value)
            if bool((value.sum(-1) != self.total_count).any()):
                raise ValueError(f"counts that don't sum to {self.total_count} are not within the support")
        value = value.to(self.concentration)
        total = self.concentration.sum(-1)
        n = torch.as_tensor(self.total_count, dtype=total.dtype, device=total.device)
        whole = torch.lgamma(n + 1) + torch.lgamma(total) - torch.lgamma(n + total)
        each = (
            torch.lgamma(value + self.concentration)
            - torch.lgamma(value + 1)
            - torch.lgamma(self.concentration)
        )
        return whole + each.sum(-1)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Counts as floats, (*sample_shape, *batch_shape, K)."""
        with torch.no_grad():
            probs = Dirichlet(self.concentration, validate_args=False).sample(Size(sample_shape))
            return Multinomial(self.total_count, probs=probs, validate_args=False).sample()

    @property
    def mean(self) -> Tensor:
        """Mean, (*batch_shape, K)."""
        return self.total_count * self.concentration / self.concentration.sum(-1, keepdim=True)

    @property
    def variance(self) -> Tensor:
        """Variance, (*batch_shape, K)."""
        total = self.concentration.sum(-1, keepdim=True)
        share = self.concentration / total
        return self.total_count * share * (1 - share) * (self.total_count + total) / (1 + total)
