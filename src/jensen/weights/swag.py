"""SWAG: a normal through the weights that stochastic gradients visit."""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from jensen.seeding import seeded
from jensen.weights.map import most_probable
from jensen.weights.members import MembersPosterior
from jensen.weights.network import Values, flat, unflat
from jensen.weights.normal import NormalPosterior, batch_statistics
from jensen.weights.options import TrainingOptions
from jensen.weights.posterior import Posterior
from jensen.weights.problem import Problem


class SwagOptions(TrainingOptions):
    """Options of method "swag"."""

    structure: Literal["low-rank", "diagonal", "average"] = Field(
        "low-rank",
        description="covariance of the visited weights: half of it of low rank and half diagonal; diagonal; or none, "
        "the average alone",
    )
    rank: int = Field(20, gt=1, description="last deviations from the average that make up the low rank")
    collect: int = Field(
        40, gt=1, description="further epochs, after each of which the weights are collected"
    )
    collect_learning_rate: float = Field(1e-3, gt=0, description="step size of these, which stays")
    statistics_data: int = Field(
        1000, gt=1, description="data by which batch normalisation's statistics are computed for each draw"
    )


class Visits:
    """Running moments of vectors: their mean, mean square, and the last deviations from the mean.

    Args:
        rank: Deviations that are kept.
    """

    def __init__(self, rank: int) -> None:
        self.rank = rank
        self.count = 0
        self.mean: Tensor | None = None
        self.square: Tensor | None = None
        self.deviations: list[Tensor] = []

    def add(self, vector: Float[Tensor, " p"]) -> None:
        """Takes a vector in."""
        vector = vector.detach()
        if self.mean is None or self.square is None:
            self.mean, self.square = vector.clone(), vector.square()
        else:
            self.mean = self.mean + (vector - self.mean) / (self.count + 1)
            self.square = self.square + (vector.square() - self.square) / (self.count + 1)
        self.count += 1
        self.deviations = [*self.deviations, vector - self.mean][-self.rank :]

    @property
    def variance(self) -> Float[Tensor, " p"]:
        """Of each number."""
        assert self.mean is not None, "something was added"
        assert self.square is not None, "likewise"
        return (self.square - self.mean.square()).clamp(min=0)


def fit_swag(problem: Problem, options: SwagOptions) -> Posterior:
    r"""Trains to the most probable weights, goes on at a step size that stays, and fits a normal to where that leads.

    .. math::
        w = \bar w + \tfrac{1}{\sqrt 2} \Sigma_{diag}^{1/2} z_1 + \tfrac{1}{\sqrt{2 (K - 1)}} D z_2

    One z_2 serves all tensors together. The covariance is that of the visits, so it depends on the step size; no choice
    of it makes the normal the exact posterior.

    Args:
        problem: Network, data, likelihood and prior.
        options: How.

    Returns:
        A normal; a single point for ``structure="average"``.

    Raises:
        FitError: If training can't go on.

    Source: A simple baseline for Bayesian uncertainty in deep learning, 2019, https://arxiv.org/abs/1902.02476.
    """
    arrived, values, history = most_probable(problem, options)
    visits, others = Visits(options.rank), Visits(1)
    weights = problem.network.weights
    rest = {name: value for name, value in values.items() if name not in weights}

    def collect(epoch: int, now: Values) -> None:
        single = {name: value[0] for name, value in now.items()}
        visits.add(flat(single, weights))
        if rest:
            others.add(flat(single, rest))

    further = options.model_copy(
        update={
            "epochs": options.collect,
            "learning_rate": options.collect_learning_rate,
            "warm_up": 0.0,
            "decay": False,
        }
    )
    arrived, _, more = most_probable(arrived, further, values, after_epoch=collect)
    history = {"loss": history["loss"] + more["loss"]}
    mean = visits.mean
    assert mean is not None, "at least two epochs are collected"
    found = unflat(others.mean, rest) if others.mean is not None else {}
    network = arrived.network.changed(unflat(mean, weights))
    statistics = None
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.skeleton.modules()):
        with seeded(problem.seed):
            rows = torch.randperm(len(problem))[: options.statistics_data]
        statistics = problem.x[rows.to(problem.x.device)]
        average = {name: value[None] for name, value in network.weights.items()}
        single = {name: v[0] for name, v in batch_statistics(network, average, statistics).items()}
        network = network.changed(buffers=single)
    common = (network, problem.likelihood, problem.prior, "swag", options.model_dump(), history)
    if options.structure == "average":
        point = {name: value[None] for name, value in {**network.weights, **found}.items()}
        return MembersPosterior(point, *common)
    if options.structure == "diagonal":
        return NormalPosterior(mean, visits.variance.sqrt(), *common, values=found, statistics=statistics)
    deviations = torch.stack(visits.deviations)
    factor = deviations / (2 * max(1, len(deviations) - 1)) ** 0.5
    scale = (visits.variance / 2).sqrt()
    return NormalPosterior(mean, scale, *common, factor=factor, values=found, statistics=statistics)
