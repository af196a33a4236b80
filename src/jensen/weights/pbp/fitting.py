"""Probabilistic backpropagation: assumed density filtering of the weights of a ReLU network."""

import torch

from jensen.errors import ConfigError
from jensen.weights.pbp.filtering import filtered, started
from jensen.weights.pbp.network import relu_chain
from jensen.weights.pbp.options import PbpOptions
from jensen.weights.pbp.posterior import PbpPosterior, normal_noise
from jensen.weights.priors import NormalPrior
from jensen.weights.problem import Problem


def fit_pbp(problem: Problem, options: PbpOptions) -> PbpPosterior:
    r"""Goes over the data and keeps, after each, the means and variances of the exact product with the last state.

    The precision of the noise, unless its scale is fixed, and that of the weights times sqrt(in + 1), if the prior's
    scale is "learned", have Gamma posteriors of their own. These priors expect columns and targets of about unit scale.
    There is no step size and nothing to converge to: each pass counts the data again, as in the paper.

    Args:
        problem: A chain of Linear layers and ReLU with one output, normal noise, a normal prior.
        options: Passes and priors.

    Returns:
        The posterior.

    Raises:
        ConfigError: If network, likelihood or prior are others.

    Source: Probabilistic backpropagation for scalable learning of Bayesian neural networks, 2015,
    https://arxiv.org/abs/1502.05336.
    """
    if not isinstance(problem.prior, NormalPrior):
        raise ConfigError(f"method='pbp' needs prior='normal', got '{problem.prior.name}'")
    noise_variance = normal_noise(problem.likelihood)
    chain = relu_chain(problem.network)
    variances = None
    if not problem.prior.learned:
        scales = problem.prior.scales
        weights = problem.network.weights
        variances = chain.vectors(
            {name: scales[name].square().expand(weights[name].shape) for name in weights}, 2
        )
    state = started(
        chain.shapes,
        1,
        noise_variance=noise_variance,
        prior_variances=variances,
        shape=options.shape,
        rate=options.rate,
        device=problem.network.device,
    )
    with torch.no_grad():
        state = filtered(
            state,
            problem.x.double()[None],
            problem.y.double()[None],
            options.epochs,
            options.batch(len(problem)),
            problem.on_epoch,
        )
    return PbpPosterior(
        state, problem.network, problem.likelihood, problem.prior, "pbp", options.model_dump(), {}
    )
