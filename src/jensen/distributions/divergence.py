"""Kullback-Leibler divergences in closed form, where there is one."""

from typing import TypeGuard

import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    kl_divergence,
    register_kl,
)


@register_kl(MultivariateNormal, Independent)
def _kl_full_normal_diagonal_normal(q: MultivariateNormal, p: Independent) -> Tensor:
    """KL of a normal with full covariance from one with independent dimensions."""
    base = p.base_dist
    if not isinstance(base, Normal) or p.reinterpreted_batch_ndims != 1:
        raise NotImplementedError
    log_determinants = (base.scale.log() - q.scale_tril.diagonal(dim1=-2, dim2=-1).log()).sum(-1)
    variance = q.scale_tril.square().sum(-1)
    squares = (variance + (q.loc - base.loc).square()) / base.scale.square()
    return log_determinants + 0.5 * (squares - 1).sum(-1)


def _is_diagonal_normal(distribution: Distribution) -> TypeGuard[Independent]:
    return (
        isinstance(distribution, Independent)
        and distribution.reinterpreted_batch_ndims == 1
        and type(distribution.base_dist) is Normal
    )


def _kl_diagonal_normals(q: Normal, p: Normal) -> Tensor:
    """What torch has too; here the arithmetic broadcasts, and every training step passes through it."""
    ratio = q.scale / p.scale
    shift = (q.loc - p.loc) / p.scale
    return (0.5 * (ratio * ratio + shift * shift - 1) - ratio.log()).sum(-1)


def closed_form_kl(q: Distribution, p: Distribution) -> Tensor | None:
    """The divergence KL(q || p) = E_q[log q(z) - log p(z)] where a closed form is known, else None.

    Args:
        q: A distribution.
        p: Another one over the same event.

    Returns:
        The divergence in nats, of the broadcast batch shape; None where none is known.

    Example:
        >>> one = torch.ones(())
        >>> float(closed_form_kl(Normal(one, one), Normal(0 * one, one)))
        0.5
    """
    if _is_diagonal_normal(q) and _is_diagonal_normal(p):
        return _kl_diagonal_normals(q.base_dist, p.base_dist)
    if q.batch_shape != p.batch_shape:
        # Some of torch's divergences, as that of Bernoullis, don't broadcast.
        shape = torch.broadcast_shapes(q.batch_shape, p.batch_shape)
        q, p = q.expand(shape), p.expand(shape)
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return None


__all__ = ["closed_form_kl"]
