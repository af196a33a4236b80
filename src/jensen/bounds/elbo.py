"""The evidence lower bound."""

from jaxtyping import Float
from torch import Tensor

from jensen.bounds.terms import Terms


def elbo(terms: Terms) -> Float[Tensor, " batch"]:
    r"""The evidence lower bound, to be maximised.

    .. math::
        \mathcal{L} = E_{q(z|x)}[\log p(x|z)] - \sum_g KL(q(z_g|x) \,\|\, p(z_g)) \le \log p(x)

    The gap is KL(q(z|x) || p(z|x)). Groups with a closed-form KL use it, the others are averaged over the
    samples.

    Args:
        terms: One pass over a model.

    Returns:
        Nats for each datum, (batch,), every constant kept.

    Raises:
        BoundError: If a density that is needed doesn't exist.

    Source: Auto-encoding variational Bayes, 2013, https://arxiv.org/abs/1312.6114.

    Example:
        >>> import torch
        >>> elbo(Terms(torch.tensor([[-3.0], [-1.0]])))
        tensor([-2.])
    """
    result = terms.average(terms.log_likelihood)
    for group in terms.log_prior:
        result = result - terms.average(terms.divergence(group))
    return result
