"""Kullback-Leibler divergences in closed form, where there is one."""

import numpy as np
import torch
from torch import Tensor
from torch.distributions import Distribution, Independent, MultivariateNormal, kl_divergence, register_kl

from jensen.distributions.diagonal_normal import DiagonalNormal, diagonal_normal, kl_diagonal_normals


@register_kl(MultivariateNormal, DiagonalNormal)
def _kl_full_normal_diagonal_normal(q: MultivariateNormal, p: DiagonalNormal) -> Tensor:
    """KL of a normal with full covariance from one with independent dimensions."""
    log_determinants = (p.log_scale - q.scale_tril.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    variance = q.scale_tril.square().sum(-1)
    squares = (variance + (q.loc - p.loc).square()) * (-2 * p.log_scale).exp()
    return log_determinants + 0.5 * (squares - 1).sum(-1)


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """The divergence KL(q || p) = E_q[log q(z) - log p(z)] where a closed form is known, else None.

    Args:
        q: A distribution.
        p: Another one over the same event.

    Returns:
        The divergence in nats, of the broadcast batch shape; None where none is known.

    Example:
        >>> from torch.distributions import Normal
        >>> one = torch.ones(())
        >>> float(closed_form_kl(Normal(one, one), Normal(0 * one, one)))
        0.5
    """
    diagonal_q, diagonal_p = diagonal_normal(q), diagonal_normal(p)
    if diagonal_q is not None and diagonal_p is not None:
        # It broadcasts by itself, and every training step passes through it.
        return kl_diagonal_normals(diagonal_q, diagonal_p)
    if isinstance(q, MultivariateNormal) and diagonal_p is not None:
        p = diagonal_p
    elif isinstance(q, DiagonalNormal):
        # torch knows divergences of single normals from other families.
        q = Independent(q.cells, 1, validate_args=False)
    if q.batch_shape != p.batch_shape:
        # Some of torch's divergences, as that of Bernoullis, don't broadcast.
        shape = torch.Size(np.broadcast_shapes(q.batch_shape, p.batch_shape))
        q, p = q.expand(shape), p.expand(shape)
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


__all__ = ["closed_form_kl"]
