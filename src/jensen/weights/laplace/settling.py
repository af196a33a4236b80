"""From trained weights to a normal posterior around the top of the joint density, with its evidence."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.weights.curvature import STRUCTURES, CurvatureProblem, Precision
from jensen.weights.laplace.evidence import Residuals, log_evidence, precision_of, scale_of, tuned
from jensen.weights.laplace.joint import Joint, deviations
from jensen.weights.laplace.options import LaplaceOptions
from jensen.weights.network import Values
from jensen.weights.problem import Problem

SMALLEST_GAIN = 1e-12
"""Nats by which a step has to raise the joint density to be followed by another one."""

SETTLED = 1e-6
"""Change of the logarithms of the scales below which they are found."""


@dataclass(frozen=True)
class Settled:
    """A normal posterior.

    Attributes:
        weights: Its mean by name.
        precision: Of the posterior.
        log_shifts: Logarithms of the prior's precision in units of its scales, one a block.
        log_noise: Logarithm of the noise's scale; None where there is none.
        log_evidence: Nats.
    """

    weights: Values
    precision: Precision
    log_shifts: Tensor
    log_noise: Tensor | None
    log_evidence: float


def curvature_at(
    problem: Problem, weights: Values, options: LaplaceOptions, masks: Mapping[str, Tensor] | None = None
) -> Precision:
    """Curvature of the log-likelihood with unit noise, without the prior's shift."""
    network = problem.network.changed(weights)
    curved = CurvatureProblem(
        network,
        network.weights,
        problem.x,
        problem.y,
        problem.likelihood,
        options.curvature,
        masks,
    )
    return STRUCTURES[options.structure](curved)


def settle(
    problem: Problem,
    mean: Values,
    log_noise: Tensor | None,
    options: LaplaceOptions,
    *,
    tune_prior: bool,
    tune_noise: bool,
    masks: Mapping[str, Tensor] | None = None,
) -> Settled:
    """Finds the scales of prior and noise by the evidence, and the most probable weights under them, in turn.

    The curvature is taken anew in each round. Within a round it is kept: scales are tuned, weights take a step,
    until neither changes. For a linear model with normal noise that is the fixed point of the evidence framework.

    Args:
        problem: Network with trained weights, data, likelihood and a normal prior.
        mean: Of the prior.
        log_noise: Where the noise's scale starts.
        options: Structure, rounds and steps.
        tune_prior: Whether the prior's scales are tuned.
        tune_noise: Whether the noise's is.
        masks: Which entries of a weight are unknown, for a subnetwork.
    """
    weights, scales = problem.network.weights, problem.prior.scales
    curved = curvature_at(problem, weights, options, masks).in_units(scales)
    log_shifts = torch.zeros(len(curved.blocks), dtype=torch.float64, device=problem.network.device)
    for _ in range(options.rounds):
        weights, log_shifts, log_noise, moved = _round(
            problem, curved, weights, mean, log_shifts, log_noise, options, tune_prior, tune_noise
        )
        if not moved:
            break
        curved = curvature_at(problem, weights, options, masks).in_units(scales)
    joint = Joint(problem, mean, log_noise)
    prior, posterior = precision_of(curved, options.curvature, log_shifts, log_noise)
    evidence = log_evidence(
        joint.log_likelihood(weights), prior, posterior, prior.quadratic(deviations(weights, mean))
    )
    return Settled(weights, posterior, log_shifts, log_noise, float(evidence))


def _round(
    problem: Problem,
    curved: Precision,
    weights: Values,
    mean: Values,
    log_shifts: Tensor,
    log_noise: Tensor | None,
    options: LaplaceOptions,
    tune_prior: bool,
    tune_noise: bool,
) -> tuple[Values, Tensor, Tensor | None, bool]:
    """Scales and weights in turn with one curvature; whether the weights moved."""
    moved, gain, last = False, 0.0, None
    joint = Joint(problem, mean, log_noise)
    # A step first: at weights of zero the evidence would see no use for any.
    for _ in range(max(1, options.polish)):
        if options.polish:
            prior, posterior = precision_of(curved, options.curvature, log_shifts, log_noise)
            last = joint.step(weights, joint.log_likelihood(weights), prior, posterior, last)
            weights, gain = last.weights, last.gain
            moved = moved or gain > 0
        residuals: Residuals | None = joint.residuals(weights) if tune_noise else None
        squares = curved.squares(deviations(weights, mean))
        before = [*log_shifts, *([] if log_noise is None else [log_noise])]
        log_shifts, log_noise = tuned(
            curved, options.curvature, squares, log_shifts, log_noise, residuals, prior=tune_prior
        )
        joint = joint.with_noise(log_noise)
        after = [*log_shifts, *([] if log_noise is None else [log_noise])]
        change = max(float((new - old).abs()) for new, old in zip(after, before, strict=True))
        if gain < SMALLEST_GAIN and change < SETTLED:
            break
    return weights, log_shifts, log_noise, moved


def settle_further(
    problem: Problem, mean: Values, prior: Precision, log_noise: Tensor | None, options: LaplaceOptions
) -> Settled:
    """The posterior after further data, with an earlier posterior N(mean, prior^-1) as the prior.

    Scales stay as they were found on the first data: the prior has become data.

    Args:
        problem: Network with weights trained on the new data under that prior.
        mean: Of the earlier posterior.
        prior: Its precision.
        log_noise: Logarithm of the noise's scale.
        options: Structure, rounds and steps.
    """
    weights = problem.network.weights
    joint = Joint(problem, mean, log_noise)
    masks = {name: mask for block in prior.blocks for name, mask in block.packing.masks().items()}
    scale = scale_of(options.curvature, log_noise)

    def posterior_at(weights: Values) -> Precision:
        curved = curvature_at(problem, weights, options, masks)
        blocks = [
            block.rescaled(earlier.units) for block, earlier in zip(curved.blocks, prior.blocks, strict=True)
        ]
        return prior.plus(Precision(blocks).with_scale(scale))

    posterior = posterior_at(weights)
    for _ in range(options.rounds):
        moved, last = False, None
        for _ in range(options.polish):
            likelihood = joint.log_likelihood(weights) if last is None else last.log_likelihood
            last = joint.step(weights, likelihood, prior, posterior, last)
            weights, moved = last.weights, moved or last.gain > 0
            if last.gain < SMALLEST_GAIN:
                break
        if not moved:
            break
        posterior = posterior_at(weights)
    evidence = log_evidence(
        joint.log_likelihood(weights), prior, posterior, prior.quadratic(deviations(weights, mean))
    )
    shifts = torch.zeros(len(prior.blocks), dtype=torch.float64)
    return Settled(weights, posterior, shifts, log_noise, float(evidence))
