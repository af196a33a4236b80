"""How the gradient of a bound is estimated.

An estimator gets the model, a batch and the bound, and returns a surrogate: a number whose gradient is the
estimate. The surrogate's value means nothing; the bound itself is computed from the terms beside it.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.bounds.importance import iwae
from jensen.bounds.terms import PATHWISE, Draw, HasTerms, Samples, Terms
from jensen.errors import BoundError
from jensen.training import Batch

Bound = Callable[[Terms], Tensor]


class Estimate(NamedTuple):
    """What an estimator returns.

    Attributes:
        surrogate: For each datum a number whose gradient estimates that of the bound, (batch,).
        terms: The pass that it was made of.
    """

    surrogate: Float[Tensor, " batch"]
    terms: Terms


@runtime_checkable
class GradientEstimator(Protocol):
    """Estimates the gradient of a bound."""

    def __call__(self, model: HasTerms, batch: Batch, bound: Bound, samples: Samples) -> Estimate:
        """One estimate from ``samples`` draws for each datum."""
        ...


def _pass(model: HasTerms, batch: Batch, samples: Samples, draw: Draw) -> Terms:
    return model.terms(batch.x, batch.context, batch.observed, samples, draw=draw)


def pathwise(model: HasTerms, batch: Batch, bound: Bound, samples: Samples = 1) -> Estimate:
    """The path-wise gradient (reparameterisation): through the draws, z = g(x, noise).

    Unbiased for the expectation of any bound; for a discrete posterior only if all latents are enumerated.

    Args:
        model: What is fitted.
        batch: Data.
        bound: From terms to nats for each datum.
        samples: Draws for each datum.

    Returns:
        The surrogate, which is the bound itself, and the terms.

    Source: Auto-encoding variational Bayes, 2013, https://arxiv.org/abs/1312.6114.
    """
    terms = _pass(model, batch, samples, PATHWISE)
    return Estimate(bound(terms), terms)


def sticking_the_landing(model: HasTerms, batch: Batch, bound: Bound, samples: Samples = 1) -> Estimate:
    """The path-wise gradient without the score of q, whose expectation is zero for the ELBO.

    Its variance vanishes where q is the exact posterior. Unbiased for the ELBO; biased in the posterior's
    parameters for importance-weighted bounds (use ``doubly_reparameterised`` there).

    Args:
        model: What is fitted.
        batch: Data.
        bound: From terms to nats for each datum.
        samples: Draws for each datum.

    Returns:
        The surrogate, which has the value of the bound with sampled KL, and the terms.

    Source: Sticking the landing, 2017, https://arxiv.org/abs/1703.09194.
    """
    terms = _pass(model, batch, samples, Draw(score=False, closed_form=False))
    return Estimate(bound(terms), terms)


def doubly_reparameterised(model: HasTerms, batch: Batch, bound: Bound, samples: Samples = 1) -> Estimate:
    r"""The doubly reparameterised gradient of the importance-weighted bound (DReG).

    With normalised weights v_s, the model's parameters get sum_s v_s grad log w_s, and the posterior's get
    sum_s v_s^2 (d log w_s / dz_s) (dz_s / dphi), which doesn't lose its signal as the samples grow. Unbiased.

    Args:
        model: What is fitted, with one group of latents.
        batch: Data.
        bound: Has to be ``iwae``.
        samples: Draws for each datum.

    Returns:
        The surrogate and the terms.

    Raises:
        BoundError: For another bound, enumerated latents, or a model with several groups of them.

    Source: Doubly reparameterized gradient estimators for Monte Carlo objectives, 2018,
    https://arxiv.org/abs/1810.04152.
    """
    if bound is not iwae:
        raise BoundError("the doubly reparameterised gradient is that of the IWAE bound; use bound='iwae'")
    terms = _pass(model, batch, samples, Draw(score=False, closed_form=False))
    if len(terms.latents) != 1:
        raise BoundError(
            f"the doubly reparameterised gradient is derived for one group of latents, got {sorted(terms.latents)}; "
            "use the path-wise gradient"
        )
    if terms.log_weight is not None:
        raise BoundError(
            "the doubly reparameterised gradient is that of draws, but the latents were enumerated; with "
            "samples='all' use the path-wise gradient, which is exact there"
        )
    (latent,) = terms.latents.values()
    log_ratio = terms.log_ratio()
    weights = torch.softmax(log_ratio.detach(), 0)
    if latent.requires_grad:
        # What flows into z bears one factor of the weights already; the way on to q gets the second.
        # The hook must not hold the latent, which holds the hook: neither would ever be freed.
        second = weights.reshape(*weights.shape, *[1] * (latent.ndim - 2))
        latent.register_hook(lambda gradient: gradient * second)
    return Estimate((weights * log_ratio).sum(0), terms)


def score_function(model: HasTerms, batch: Batch, bound: Bound, samples: Samples = 8) -> Estimate:
    r"""The score-function gradient with a leave-one-out control variate; needs no path through the draws.

    Sample s gets the signal L - L_{-s}, where L_{-s} is the bound with the log-densities of sample s replaced
    by the mean of the others', that is its importance weight by their geometric mean:

    .. math::
        \nabla = \nabla_{\text{direct}} L + \sum_s (L - L_{-s}) \nabla \log q(z_s|x)

    For the ELBO this is REINFORCE with the leave-one-out baseline, for the importance-weighted bound it is
    VIMCO. Unbiased for any bound on a datum that is a function of this datum's densities. The direct part of
    the ELBO has -mean_s grad log q(z_s), whose expectation is zero; for every bound it is added back.

    Args:
        model: What is fitted; its posterior needs a density.
        batch: Data.
        bound: From terms to nats for each datum, in which no datum has a part in the bound on another.
        samples: Draws for each datum, at least two.

    Returns:
        The surrogate and the terms.

    Raises:
        BoundError: If there are fewer than two samples, they were enumerated, or a group is shared by all
            data.

    Source: Variational inference for Monte Carlo objectives, 2016, https://arxiv.org/abs/1602.06725; Buy 4
    REINFORCE samples, get a baseline for free!, 2019, https://openreview.net/forum?id=r1lgTGL5DE.
    """
    if not isinstance(samples, int) or samples < 2:
        raise BoundError(
            f"the score-function gradient leaves one sample out and needs at least 2 of them, got samples={samples}"
        )
    terms = _pass(model, batch, samples, Draw(reparameterised=False, closed_form=False))
    if terms.shared:
        raise BoundError(
            f"the score-function gradient needs latents of each datum's own; {sorted(terms.shared)} are shared "
            "by all data; use the path-wise gradient"
        )
    left_out = torch.eye(samples, dtype=torch.bool, device=terms.log_likelihood.device)[..., None]

    def replaced(density: Tensor) -> Tensor:
        # [s, k, b]: that of sample s and datum b where sample k is left out; k and b are then one batch.
        density = density.detach().expand(samples, terms.batch)
        others = (density.sum(0) - density) / (samples - 1)
        return torch.where(left_out, others, density[:, None]).flatten(1)

    log_prior = {group: terms.density("log_prior", group) for group in terms.log_prior}
    log_posterior = {group: terms.density("log_posterior", group) for group in terms.log_posterior}
    without = Terms(
        replaced(terms.log_likelihood),
        {group: replaced(density) for group, density in log_prior.items()},
        {group: replaced(density) for group, density in log_posterior.items()},
    )
    value = bound(terms)
    signal = value.detach() - bound(without).reshape(samples, -1)
    score = torch.zeros_like(signal)
    for density in log_posterior.values():
        score = score + density
    return Estimate(value + ((signal + 1 / samples) * score).sum(0), terms)
