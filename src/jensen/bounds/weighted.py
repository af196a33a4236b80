"""The ELBO with its KL weighed: what training may minimise, but not a bound."""

from jaxtyping import Float
from torch import Tensor

from jensen.bounds.terms import Terms


def weighted_elbo(
    terms: Terms, beta: float | Tensor = 1.0, free_bits: float = 0.0
) -> Float[Tensor, " batch"]:
    r"""Log-likelihood less beta times the KL of each group, of which free_bits nats aren't punished.

    .. math::
        E_q[\log p(x|z)] - \beta \sum_g \max(\lambda, \overline{KL}_g)

    where the bar is the mean over the batch; groups below lambda get no gradient. With beta > 1 it still lies
    below log p(x), with beta < 1 it may not.

    Args:
        terms: One pass over a model.
        beta: Weight of the KL.
        free_bits: The lambda of each group, in nats despite its name.

    Returns:
        Nats for each datum, (batch,).

    Raises:
        BoundError: If a density that is needed doesn't exist.

    Source: beta-VAE: learning basic visual concepts with a constrained variational framework, 2017,
    https://openreview.net/forum?id=Sy2fzU9gl; Improved variational inference with inverse autoregressive flow,
    2016, https://arxiv.org/abs/1606.04934.

    Example:
        >>> import torch
        >>> one = torch.ones(1, 1)
        >>> weighted_elbo(Terms(-one, {"z": None}, {"z": None}, {"z": one}), beta=4.0)
        tensor([-5.])
    """
    result = terms.average(terms.log_likelihood)
    for group in terms.log_prior:
        kl = terms.average(terms.divergence(group))
        if free_bits > 0:
            kl = kl.mean().clamp(min=free_bits).expand_as(kl)
        result = result - beta * kl
    return result
