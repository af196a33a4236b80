"""Laplace's approximation: the posterior as a normal around its most probable point."""

import torch
from torch import Tensor

from jensen.errors import ConfigError
from jensen.weights.laplace.joint import noise_of
from jensen.weights.laplace.options import LaplaceOptions
from jensen.weights.laplace.posterior import LaplacePosterior
from jensen.weights.laplace.settling import Settled, curvature_at, settle
from jensen.weights.likelihoods import NormalLikelihood
from jensen.weights.map import most_probable
from jensen.weights.network import Values
from jensen.weights.priors import NormalPrior
from jensen.weights.problem import Problem


def fit_laplace(problem: Problem, options: LaplaceOptions) -> LaplacePosterior:
    r"""Fits the most probable weights w* and takes the curvature of the joint density there.

    .. math::
        p(w|x, y) \approx N(w; w^*, \Lambda^{-1}), \qquad
        \Lambda = S^{-2} + \sum_i J_i^T H_i J_i,

    with the prior's scales S, the Jacobian J_i of the outputs for datum i and the Fisher information H_i of the
    likelihood in the outputs. The scale of the noise, where it isn't fixed, and those of the prior, where they are
    "learned" (one a block of the structure: a tensor, a layer, all), are those of the largest evidence.

    Args:
        problem: Network, data, likelihood and a normal prior.
        options: How to train, and what to keep of the curvature.

    Returns:
        The posterior.

    Raises:
        ConfigError: If the prior isn't normal, or the structure doesn't go with the subset or the network.
        FitError: If training can't go on.

    Source: A practical Bayesian framework for backpropagation networks, 1992,
    https://doi.org/10.1162/neco.1992.4.3.448; Laplace redux, 2021, https://arxiv.org/abs/2106.14806.
    """
    if not isinstance(problem.prior, NormalPrior):
        raise ConfigError(
            f"method='laplace' needs prior='normal', got '{problem.prior.name}'; for other priors use "
            "method='bayes-by-backprop'"
        )
    found, values, history = most_probable(problem, options)
    log_noise = noise_of(found, values)
    masks: dict[str, Tensor] | None = None
    if options.subset == "subnetwork":
        masks = _subnetwork(found, log_noise, options)
        part = found.restricted(list(masks))
    else:
        part = found if options.subset == "all" else found.restricted(options.subset)
    assert isinstance(part.prior, NormalPrior)
    mean = part.prior.loc or {name: torch.zeros_like(value) for name, value in part.network.weights.items()}
    settled = settle(
        part,
        mean,
        log_noise,
        options,
        tune_prior=part.prior.learned,
        tune_noise=isinstance(part.likelihood, NormalLikelihood) and part.likelihood.noise_scale == "learned",
        masks=masks,
    )
    return LaplacePosterior(
        settled.precision,
        settled.log_noise,
        settled.log_evidence,
        part.network.changed(settled.weights),
        part.likelihood,
        _tuned_prior(part.prior, settled),
        "laplace",
        options.model_dump(),
        history,
    )


def _tuned_prior(prior: NormalPrior, settled: Settled) -> NormalPrior:
    scales = dict(prior.scales)
    for block, log_shift in zip(settled.precision.blocks, settled.log_shifts, strict=True):
        for name in block.packing.names:
            scales[name] = prior.scales[name] * (-0.5 * log_shift).exp().to(prior.scales[name])
    return prior.with_scales(scales)


def _subnetwork(problem: Problem, log_noise: Tensor | None, options: LaplaceOptions) -> dict[str, Tensor]:
    """Masks of the weights of the largest variance in a diagonal posterior.

    Raises:
        ConfigError: If the structure is Kronecker's, which needs whole layers.

    Source: Bayesian deep learning via subnetwork inference, 2021, https://arxiv.org/abs/2010.14689.
    """
    if options.structure == "kronecker":
        raise ConfigError(
            "subset='subnetwork' picks single weights, and structure='kronecker' needs whole layers; take "
            "structure='full' or 'diagonal'"
        )
    diagonal = options.model_copy(update={"structure": "diagonal"})
    network = problem.network
    curved = curvature_at(problem, network.weights, diagonal).in_units(problem.prior.scales)
    scale = 1.0 if log_noise is None else (-2 * log_noise).exp()
    variances: Values = curved.with_scale(scale).with_shifts([1.0] * len(curved.blocks)).variances()
    together = torch.cat([variances[name].flatten() for name in network.weights])
    count = min(options.subnetwork_size, len(together))
    kept = torch.zeros_like(together, dtype=torch.bool)
    kept[together.topk(count).indices] = True
    parts = kept.split([value.numel() for value in network.weights.values()])
    masks = {
        name: part.reshape(value.shape)
        for (name, value), part in zip(network.weights.items(), parts, strict=True)
    }
    return {name: mask for name, mask in masks.items() if bool(mask.any())}
