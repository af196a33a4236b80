"""Information of torch Distributions: in closed form, by enumeration, or by Monte Carlo with its error; in nats."""

from collections.abc import Callable
from contextlib import suppress
from math import log, sqrt

import numpy as np
import torch
from torch import Tensor
from torch.distributions import (
    ContinuousBernoulli,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    Uniform,
    constraints,
    kl_divergence,
)

from jensen.errors import ConfigError, ShapeError
from jensen.information.estimate import Estimate
from jensen.seeding import seeded

_LARGEST_SUPPORT = 1_000_000


def exact(value: Tensor) -> Estimate:
    """A value without error."""
    return Estimate(value, torch.zeros_like(value), 0)


def comparable(p: Distribution, q: Distribution) -> tuple[Distribution, Distribution]:
    """Two distributions over the same events, expanded to one batch shape.

    Raises:
        ShapeError: If the events have different shapes or the batches don't broadcast.
        ConfigError: If one has a density and the other a mass.
    """
    if p.event_shape != q.event_shape:
        raise ShapeError(
            f"{_name(p)} is over events of shape {tuple(p.event_shape)}, {_name(q)} over {tuple(q.event_shape)}; "
            "give distributions over the same events"
        )
    if _discrete(p) is not _discrete(q) and None not in (_discrete(p), _discrete(q)):
        raise ConfigError(
            f"one of {_name(p)} and {_name(q)} has a density and the other a mass; they can't be compared"
        )
    try:
        shape = torch.Size(np.broadcast_shapes(p.batch_shape, q.batch_shape))
    except ValueError:
        raise ShapeError(
            f"batches of shape {tuple(p.batch_shape)} and {tuple(q.batch_shape)} don't broadcast"
        ) from None
    return (p if p.batch_shape == shape else p.expand(shape)), (
        q if q.batch_shape == shape else q.expand(shape)
    )


def log_prob(p: Distribution, value: Tensor) -> Tensor:
    """The log-density, -inf outside the support, where torch raises or goes on regardless."""
    support = _support(p)
    if support is None:
        return p.log_prob(value)
    inside = support.check(value)
    if bool(inside.all()):
        return p.log_prob(value)
    # Values that it can have, in the places where it can't have those that were given.
    with seeded(0), torch.no_grad():
        stand_in = p.sample(value.shape[: value.ndim - len(p.batch_shape) - len(p.event_shape)])
    where = inside.reshape(*inside.shape, *[1] * len(p.event_shape))
    found = p.log_prob(torch.where(where, value, stand_in.to(value.dtype)))
    return torch.where(inside, found, -torch.inf)


def entropy(p: Distribution, samples: int, seed: int | None) -> Estimate:
    """Of one distribution; differential where it has a density."""
    closed = _closed_entropy(p)
    return expectation(p, lambda x: -log_prob(p, x), samples, seed) if closed is None else exact(closed)


def cross_entropy(p: Distribution, q: Distribution, samples: int, seed: int | None) -> Estimate:
    """E_p[-log q]."""
    p, q = comparable(p, q)
    own, divergence = _closed_entropy(p), _closed_kl(p, q)
    if own is None or divergence is None:
        return expectation(p, lambda x: -log_prob(q, x), samples, seed)
    return exact(own + divergence)


def kl(p: Distribution, q: Distribution, samples: int, seed: int | None) -> Estimate:
    """KL(p || q)."""
    p, q = comparable(p, q)
    closed = _closed_kl(p, q)
    if closed is None:
        return expectation(p, lambda x: _difference(log_prob(p, x), log_prob(q, x)), samples, seed)
    return exact(closed)


def _closed_entropy(p: Distribution) -> Tensor | None:
    """In closed form; None if none is known."""
    try:
        return p.entropy()
    except NotImplementedError:
        return None


def _closed_kl(p: Distribution, q: Distribution) -> Tensor | None:
    """In closed form; None if none is known."""
    if isinstance(p, Uniform) and isinstance(q, ContinuousBernoulli):
        # torch takes ends that coincide for ends that lie outside.
        return None
    # torch knows normals with independent cells, and those with dependent ones, but no pair of the two.
    for pair in ((p, q), (_with_covariance(p), _with_covariance(q))):
        with suppress(NotImplementedError):
            return kl_divergence(*pair)
    return None


def _with_covariance(p: Distribution) -> Distribution:
    """Independent normal cells as a normal vector; anything else as it is."""
    if not isinstance(p, Independent) or not isinstance(p.base_dist, Normal) or len(p.event_shape) != 1:
        return p
    return MultivariateNormal(p.base_dist.loc, scale_tril=torch.diag_embed(p.base_dist.scale))


def jensen_shannon(p: Distribution, q: Distribution, samples: int, seed: int | None) -> Estimate:
    """Half the divergences of both from their mixture."""
    p, q = comparable(p, q)

    def from_mixture(one: Distribution, other: Distribution) -> Callable[[Tensor], Tensor]:
        def ratio(x: Tensor) -> Tensor:
            here, there = log_prob(one, x), log_prob(other, x)
            return _difference(here, torch.logaddexp(here, there) - log(2))

        return ratio

    first = expectation(p, from_mixture(p, q), samples, seed)
    second = expectation(q, from_mixture(q, p), samples, None if seed is None else seed + 1)
    error = 0.5 * (first.standard_error.square() + second.standard_error.square()).sqrt()
    return Estimate(0.5 * (first.value + second.value), error, max(first.samples, second.samples))


def mutual_information(
    joint: Distribution,
    marginals: tuple[Distribution, Distribution] | None,
    split: int,
    samples: int,
    seed: int | None,
) -> Estimate:
    """Between the first cells of the event and the others."""
    _check_split(joint, split)
    if marginals is None and isinstance(joint, MultivariateNormal):
        covariance = joint.covariance_matrix
        parts = (covariance[..., :split, :split], covariance[..., split:, split:])
        logs = [torch.linalg.cholesky(part).diagonal(dim1=-2, dim2=-1).log().sum(-1) for part in parts]
        whole = joint.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return exact((logs[0] + logs[1] - whole).clamp(min=0))
    return expectation(joint, lambda value: pointwise(joint, marginals, split, value), samples, seed)


def pointwise(
    joint: Distribution, marginals: tuple[Distribution, Distribution] | None, split: int, value: Tensor
) -> Tensor:
    """The logarithm of p(x, y) / (p(x) p(y)) at one value of both."""
    _check_split(joint, split)
    if marginals is None:
        marginals = _normal_marginals(joint, split)
    parts = (value[..., :split], value[..., split:])
    logs = [
        log_prob(p, part if p.event_shape else part[..., 0]) for p, part in zip(marginals, parts, strict=True)
    ]
    return _difference(log_prob(joint, value), logs[0] + logs[1])


def _normal_marginals(joint: Distribution, split: int) -> tuple[Distribution, Distribution]:
    if not isinstance(joint, MultivariateNormal):
        raise ConfigError(
            f"the marginals of {_name(joint)} aren't known in closed form; give marginals=(p(x), p(y))"
        )
    mean, covariance = joint.mean, joint.covariance_matrix
    return (
        MultivariateNormal(mean[..., :split], covariance[..., :split, :split]),
        MultivariateNormal(mean[..., split:], covariance[..., split:, split:]),
    )


def _check_split(joint: Distribution, split: int) -> None:
    if len(joint.event_shape) != 1 or not 0 < split < joint.event_shape[0]:
        raise ShapeError(
            f"the joint distribution is over events of shape {tuple(joint.event_shape)}; x is the first {split} "
            "cells of a vector and y has to have at least one of its own"
        )


def expectation(
    p: Distribution, function: Callable[[Tensor], Tensor], samples: int, seed: int | None
) -> Estimate:
    """E_p[f(x)]: a sum where the outcomes can be listed, else the average over draws with its error."""
    support = _outcomes(p)
    if support is not None:
        weight = p.log_prob(support).exp()
        # An outcome that never comes counts nothing, whatever f is there.
        return exact(torch.where(weight > 0, weight * function(support), 0.0).sum(0))
    if samples < 2:
        raise ConfigError(f"an average needs at least two draws for its error, got samples={samples}")
    with seeded(seed):
        values = function(p.sample((samples,)))
    mean = values.mean(0)
    # One draw where it is infinite settles that the expectation is.
    error = torch.where(mean.isfinite(), values.std(0) / sqrt(samples), 0.0)
    return Estimate(mean, error, samples)


def _outcomes(p: Distribution) -> Tensor | None:
    if not p.has_enumerate_support:
        return None
    try:
        support = p.enumerate_support()
    except NotImplementedError:
        return None
    return support if support.numel() <= _LARGEST_SUPPORT else None


def _difference(a: Tensor, b: Tensor) -> Tensor:
    """A - b, where -inf less -inf, of an outcome that never comes, is 0."""
    return torch.where(a == -torch.inf, torch.where(b == -torch.inf, 0.0, -torch.inf), a - b)


def _discrete(p: Distribution) -> bool | None:
    support = _support(p)
    return None if support is None else bool(support.is_discrete)


def _support(p: Distribution) -> constraints.Constraint | None:
    """What a value may be, where the distribution says so."""
    try:
        return p.support
    except NotImplementedError:
        return None


def _name(p: Distribution) -> str:
    return type(p).__name__
