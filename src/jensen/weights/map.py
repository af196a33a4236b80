"""The most probable weights: the point that other methods start from or are compared with."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from jensen.training import Batch, Progress
from jensen.weights.members import MembersPosterior
from jensen.weights.network import Values
from jensen.weights.optimise import History, MemberBatches, optimise
from jensen.weights.options import TrainingOptions
from jensen.weights.priors import TrainedPrior
from jensen.weights.problem import Problem


class MapOptions(TrainingOptions):
    """Options of method "map"."""


def most_probable(
    problem: Problem,
    options: TrainingOptions,
    start: Values | None = None,
    after_epoch: Callable[[int, Values], None] | None = None,
    masks: Mapping[str, Tensor] | None = None,
) -> tuple[Problem, Values, History]:
    r"""Maximises the joint density, from the weights as they are.

    .. math::
        \log p(w) + \sum_{i=1}^N \log p(y_i \mid x_i, w)

    Unknowns of the likelihood, as the scale of the noise, are fitted along; they have a flat prior.

    Args:
        problem: Network, data, likelihood and prior.
        options: How to train; no epochs leave the weights as they are.
        start: Values in place of the network's own, without a dimension of sets.
        after_epoch: Called with the epochs done and the values as they are, each (1, *shape).
        masks: Which entries of a weight are trained, by name, for those of which not all are; the others stay.

    Returns:
        The problem, whose network has these weights and the buffers that training left; the values, without a
        dimension of sets; the loss, in nats for each datum, epoch by epoch.

    Raises:
        FitError: If training can't go on.
    """
    network, n = problem.network, len(problem)
    values = {**problem.start(), **(start or {})}
    buffers = {name: value[None].clone() for name, value in network.buffers.items()}

    prior = TrainedPrior(problem.prior, network.weights)

    def trained(name: str, value: Tensor) -> Tensor:
        mask = (masks or {}).get(name)
        # Entries without a slope are where Adam leaves them.
        return value if mask is None else torch.where(mask, value, network.weights[name])

    def loss(values: Values, batch: Batch, progress: Progress) -> Tensor:
        assert batch.context is not None, "batches have targets"
        weights = {name: trained(name, values[name]) for name in network.weights}
        outputs = network(weights, batch.x, buffers, training=True)
        likelihood = problem.likelihood.log_prob(outputs, batch.context, values).mean(-1)
        return -likelihood - prior.log_prob(values) / n

    batches = MemberBatches(problem.x, problem.y, options.batch_size, problem.seed)
    sets, history = optimise(
        {k: v[None] for k, v in values.items()}, loss, batches, options, problem, after_epoch=after_epoch
    )
    found = {name: value[0] for name, value in sets.items()}
    single = {name: value[0] for name, value in buffers.items()}
    changed = network.changed({name: found[name] for name in network.weights}, buffers=single)
    return problem.with_network(changed), found, history


def fit_map(problem: Problem, options: MapOptions) -> MembersPosterior:
    """The most probable weights as a posterior that is a point.

    Args:
        problem: Network, data, likelihood and prior.
        options: How to train.

    Returns:
        One member.
    """
    found, values, history = most_probable(problem, options)
    with torch.no_grad():
        members = {name: value[None] for name, value in values.items()}
    return MembersPosterior(
        members, found.network, problem.likelihood, problem.prior, "map", options.model_dump(), history
    )
