"""Bounds and estimates made of importance weights w = p(x, z) / q(z|x)."""

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.bounds.terms import Terms
from jensen.errors import BoundError

_NEAR_ELBO = 0.1


def iwae(terms: Terms) -> Float[Tensor, " batch"]:
    r"""The importance-weighted bound; it grows with the number of samples S and tends to log p(x).

    .. math::
        \mathcal{L}_S = E\left[\log \tfrac1S \sum_{s=1}^S \frac{p(x, z_s)}{q(z_s|x)}\right] \le \log p(x)

    Args:
        terms: One pass over a model.

    Returns:
        Nats for each datum, (batch,). With all latents enumerated it is log p(x) itself.

    Raises:
        BoundError: If a density doesn't exist or latents are shared by all data.

    Source: Importance weighted autoencoders, 2015, https://arxiv.org/abs/1509.00519.

    Example:
        >>> import torch
        >>> iwae(Terms(torch.tensor([[0.0], [0.0]])))
        tensor([0.])
    """
    return terms.log_mean_exp(terms.log_ratio())


def renyi(terms: Terms, alpha: float) -> Float[Tensor, " batch"]:
    r"""The Rényi bound of order alpha >= 0: the ELBO at 1, the importance-weighted bound at 0.

    .. math::
        \mathcal{L}_\alpha = \tfrac{1}{1 - \alpha} \log \tfrac1S \sum_{s=1}^S w_s^{1 - \alpha}

    Its expectation is a lower bound on log p(x) for any number of samples and decreases in alpha.

    Args:
        terms: One pass over a model.
        alpha: The order.

    Returns:
        Nats for each datum, (batch,).

    Raises:
        BoundError: If alpha is negative (see ``cubo_estimate``), a density doesn't exist, or latents are shared.

    Source: Rényi divergence variational inference, 2016, https://arxiv.org/abs/1602.02311.
    """
    if not alpha >= 0:
        raise BoundError(
            f"a Monte Carlo estimate of a Rényi bound of negative order {alpha:g} bounds nothing: it lies below its "
            f"target in expectation; use cubo_estimate(terms, order={1 - alpha:g}), which says so"
        )
    log_ratio = terms.log_ratio()
    power = 1 - alpha
    if power == 0:
        return terms.average(log_ratio)
    if abs(power) > _NEAR_ELBO:
        return terms.log_mean_exp(power * log_ratio) / power
    # The average of w^power is so near to one that its logarithm has lost its digits; that of w^power - 1 has them.
    largest = log_ratio.detach().amax(0) if power > 0 else log_ratio.detach().amin(0)
    largest = torch.where(largest.isfinite(), largest, 0.0)
    exponents = power * (log_ratio - largest)
    less_one = terms.average(torch.expm1(exponents))
    logarithm = torch.where(less_one > -0.5, torch.log1p(less_one), terms.log_mean_exp(exponents))
    return largest + logarithm / power


def cubo_estimate(terms: Terms, order: float = 2.0) -> Float[Tensor, " batch"]:
    r"""A Monte Carlo estimate of the chi upper bound, biased low: by itself it bounds nothing.

    .. math::
        \mathrm{CUBO}_n = \tfrac1n \log E_{q(z|x)}[w^n] \ge \log p(x), \quad n \ge 1

    The logarithm of an average lies below the logarithm of the expectation, so with few samples this estimate
    can lie below log p(x). Never take it for the upper side of a bracket.

    Args:
        terms: One pass over a model.
        order: The order n >= 1; at 1 it is the importance-weighted bound.

    Returns:
        Nats for each datum, (batch,).

    Raises:
        BoundError: If the order is less than one, a density doesn't exist, or latents are shared.

    Source: Variational inference via chi upper bound minimization, 2016, https://arxiv.org/abs/1611.00328.
    """
    if not order >= 1:
        raise BoundError(f"the chi bound needs an order of at least 1, got {order:g}")
    return terms.log_mean_exp(order * terms.log_ratio()) / order
