"""Deep ensembles: several networks trained at once, each from weights of its own."""

import copy
import warnings
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn

from jensen.errors import ConfigError
from jensen.seeding import seeded
from jensen.training import Batch, Progress
from jensen.weights.members import MembersPosterior
from jensen.weights.network import FunctionalNetwork, Values, stack
from jensen.weights.optimise import History, MemberBatches, optimise
from jensen.weights.options import TrainingOptions
from jensen.weights.priors import TrainedPrior
from jensen.weights.problem import Problem
from jensen.weights.processes import Report, spread


class EnsembleOptions(TrainingOptions):
    """Options of method "ensemble"."""

    members: int = Field(5, gt=0, description="networks that are trained, all at once")
    bagging: bool = Field(
        False,
        description="whether each member gets a bootstrap sample of the data, as many drawn with replacement",
    )
    adversarial: float = Field(
        0.0,
        ge=0,
        description="step along the sign of the gradient by the data, as a part of each column's range, to data that "
        "are trained on as well; the paper has 0.01; 0: none",
    )
    weighted: bool = Field(
        False, description="whether members count by their joint density with the data; else all alike"
    )
    processes: int = Field(
        1, gt=0, description="processes of this machine that the members are spread over; 1: this one"
    )


def starts(network: FunctionalNetwork, members: int) -> Values:
    """Weights for each member, drawn by the modules' own ``reset_parameters``.

    Args:
        network: Whose unknown weights are drawn; the seed is that of torch's generator.
        members: How many.

    Returns:
        For each unknown parameter (members, *shape).

    Warns:
        RuntimeWarning: Of parameters of modules that can't draw them, which start alike.
    """
    skeleton = copy.deepcopy(network.skeleton)
    for name, value in network.all.items():
        owner, _, own = name.rpartition(".")
        module = skeleton.get_submodule(owner)
        module._parameters[own] = nn.Parameter(value.clone(), requires_grad=False)
    alike = [
        name
        for name in network.weights
        if not hasattr(skeleton.get_submodule(name.rpartition(".")[0]), "reset_parameters")
        and not hasattr(skeleton.get_submodule(name.rpartition(".")[0]), "_reset_parameters")
    ]
    if alike:
        kinds = {type(skeleton.get_submodule(name.rpartition(".")[0])).__name__ for name in alike}
        warnings.warn(
            f"{', '.join(alike)} start alike in all members: {', '.join(sorted(kinds))} has no reset_parameters() to "
            "draw them by; give it one",
            RuntimeWarning,
            stacklevel=2,
        )
    drawn: list[Values] = []
    for _ in range(members):
        for module in skeleton.modules():
            reset: Any = getattr(module, "reset_parameters", getattr(module, "_reset_parameters", None))
            if callable(reset) and module._parameters:
                reset()
        found = dict(skeleton.named_parameters())
        drawn.append({name: found[name].detach().clone() for name in network.weights})
    return stack(drawn)


def fit_ensemble(problem: Problem, options: EnsembleOptions) -> MembersPosterior:
    r"""Trains the members at once, each to its most probable weights, in a data order of its own.

    Args:
        problem: Network, data, likelihood and prior. ``noise_scale="network"`` gives the heteroscedastic members of the
            paper.
        options: How.

    Returns:
        The members, equally weighted unless asked otherwise.

    Raises:
        ConfigError: If data that have no gradient are to be moved along it.
        FitError: If training can't go on.

    Source: Simple and scalable predictive uncertainty estimation using deep ensembles, 2017,
    https://arxiv.org/abs/1612.01474.
    """
    network, members = problem.network, options.members
    if options.adversarial and not problem.x.is_floating_point():
        raise ConfigError(
            "adversarial moves data a little along their gradient, and these are whole numbers, places of an "
            "embedding; leave it out"
        )
    with seeded(problem.seed):
        first = starts(network, members)
        rows = torch.randint(len(problem), (members, len(problem))) if options.bagging else None
    first |= {k: v.expand(members, *v.shape) for k, v in problem.start().items() if k not in first}
    whole = Share(problem, options, first, rows, range(members))
    values, history = train(whole) if options.processes == 1 else _spread(whole)
    log_weights = None
    if options.weighted:
        with torch.no_grad():
            log_weights = joint(problem, values).log_softmax(0)
    return MembersPosterior(
        values,
        network,
        problem.likelihood,
        problem.prior,
        "ensemble",
        options.model_dump(),
        history,
        log_weights,
    )


@dataclass(frozen=True)
class Share:
    """Some members of an ensemble, which one process trains.

    Attributes:
        problem: Network, data, likelihood and prior.
        options: Of the whole ensemble.
        first: Where all of its members start, (M, *shape).
        rows: The data that each of them gets, (M, n); None: all.
        members: The numbers of those that are to be trained.
    """

    problem: Problem
    options: EnsembleOptions
    first: Values
    rows: Tensor | None
    members: range


def train(share: Share, report: Report | None = None) -> tuple[Values, History]:
    """Trains members, each as it would be in any other company.

    Only what is drawn within a network, such as masks of dropout, is drawn for these members together.

    Args:
        share: Which, from where, by what.
        report: Told of each epoch; None: whom the problem names.

    Returns:
        Their values and buffers, (members, *shape), and the mean loss of each epoch.
    """
    problem, options, own = share.problem, share.options, share.members
    network, n = problem.network, len(problem)
    first = {name: value[own.start : own.stop] for name, value in share.first.items()}
    buffers = {name: v.expand(len(own), *v.shape).clone() for name, v in network.buffers.items()}
    trained = TrainedPrior(problem.prior, network.weights)
    step = options.adversarial * (problem.x.amax(0) - problem.x.amin(0)) if options.adversarial else None

    def negative(values: Values, x: Tensor, y: Tensor) -> Tensor:
        weights = {name: values[name] for name in network.weights}
        outputs = network(weights, x, buffers, training=True, each=True)
        return -problem.likelihood.log_prob(outputs, y, values).mean(-1)

    def loss(values: Values, batch: Batch, progress: Progress) -> Tensor:
        assert batch.context is not None, "batches have targets"
        prior = trained.log_prob(values) / n
        if step is None:
            return negative(values, batch.x, batch.context) - prior
        x = batch.x.detach().requires_grad_()
        clean = negative(values, x, batch.context)
        (slope,) = torch.autograd.grad(clean.sum(), x, retain_graph=True)
        moved = negative(values, (x + step * slope.sign()).detach(), batch.context)
        return 0.5 * (clean + moved) - prior

    batches = MemberBatches(
        problem.x, problem.y, options.batch_size, problem.seed, options.members, share.rows, own
    )
    # What the network itself draws has to differ from one share to the next.
    seed = (problem.seed + 1_000_003 * own.start) % 2**63
    reporting = replace(problem, seed=seed, on_epoch=report or problem.on_epoch)
    values, history = optimise(first, loss, batches, options, reporting)
    return {**values, **buffers}, history


def _spread(whole: Share) -> tuple[Values, History]:
    """Trains the members in several processes, each its share of them."""
    problem, count = whole.problem, len(whole.members)
    processes = min(whole.options.processes, count)
    bounds = [count * i // processes for i in range(processes + 1)]
    # A function to call is this process's own.
    sent = replace(whole, problem=replace(problem, on_epoch=None))
    shares = [replace(sent, members=range(a, b)) for a, b in pairwise(bounds)]
    found = spread(train, shares, problem.network.device, problem.on_epoch)
    values = {name: torch.cat([own[name] for own, _ in found]) for name in found[0][0]}
    losses = zip(*(history["loss"] for _, history in found), strict=True)
    mean = [sum(len(s.members) * one for s, one in zip(shares, each, strict=True)) / count for each in losses]
    return values, {"loss": mean}


def joint(problem: Problem, values: Values) -> Tensor:
    """Log p(y, w | x) of each member over all data, (M,)."""
    total = problem.prior.log_prob({name: values[name] for name in problem.network.weights})
    for start in range(0, len(problem), 1000):
        part = slice(start, start + 1000)
        total = total + problem.log_likelihood(values, problem.x[part], problem.y[part]).sum(-1)
    return total
