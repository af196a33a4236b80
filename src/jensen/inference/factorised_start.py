"""Where a posterior over coordinates and sites starts: in turn, sites given coordinates and coordinates given sites."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.inference.ascent import ascend
from jensen.inference.families.mixed import Mixed
from jensen.inference.local_expectations import Neighbours
from jensen.inference.start import LARGEST_HESSIAN, NEGLIGIBLE_NATS, SAME, hessian, scale_from
from jensen.inference.target import Target
from jensen.seeding import seeded

ROUNDS = 12
"""Of the coordinates and the sites in turn."""

DRAWS = 8
"""Of the sites, for each start."""

CLIMB = 12
"""Calls of the target in each climb of the coordinates."""

DECIDED = 0.7
"""Places at which a state's probability differs by more are two."""

SOFT = 8.0
"""Nats by which a site's first log-probabilities may differ at most, so that the ascent can still change its mind."""


@dataclass(frozen=True)
class Place:
    """Where a factorised posterior starts.

    Attributes:
        point: Of the coordinates, (dim,).
        scale: Lower triangle (dim, dim) of their spread given the sites' average; ones (dim,) where that isn't known.
        logits: Of the sites, (sites, states).
        bound: What it promises, nats: the expected log-joint, the sites' entropy, the volume of the scale.
        definite: Whether the coordinates have a maximum there.
    """

    point: Float[Tensor, " dim"]
    scale: Tensor
    logits: Float[Tensor, "sites states"]
    bound: float
    definite: bool

    @property
    def independent_scale(self) -> Float[Tensor, " dim"]:
        """Standard deviations of independent coordinates: 1 / sqrt(precision)."""
        if self.scale.ndim == 1:
            return self.scale
        identity = torch.eye(len(self.point), dtype=self.point.dtype)
        return torch.linalg.solve_triangular(self.scale, identity, upper=False).square().sum(0).rsqrt()


def find_places(
    target: Target,
    starts: Float[Tensor, "starts dim"],
    neighbours: Neighbours,
    *,
    gradient: bool,
    seed: int | None = 0,
) -> list[Place]:
    """Places that several starts lead to in some rounds of coordinate ascent with draws.

    In each round half of the sites, chosen at random, move half of the way to the log-probabilities that the others'
    draws imply; then the coordinates climb the log-joint's average over draws of the sites.

    Args:
        target: With sites, finite everywhere.
        starts: Coordinates and states, (starts, dim).
        neighbours: Of its points.
        gradient: Whether the coordinates may climb; else they stay.
        seed: Of all draws.

    Returns:
        Those that differ and that matter, the one with the highest bound first.
    """
    assert target.sites is not None
    climbing = gradient and target.continuous > 0
    with seeded(seed):
        found = [_place(target, start, neighbours, climbing) for start in starts]
    found.sort(key=lambda place: -place.bound)
    kept: list[Place] = []
    for place in found:
        near = place.bound > found[0].bound - NEGLIGIBLE_NATS
        if near and not any(_same(place, other, target.sites.possible) for other in kept):
            kept.append(place)
    return kept


def _same(place: Place, other: Place, possible: Tensor) -> bool:
    """Whether coordinates are within chance of each other, and no site's state is decided otherwise."""
    apart = (place.point - other.point) / other.independent_scale
    decided = _sites(possible, place.logits).probs - _sites(possible, other.logits).probs
    return bool(apart.norm() < max(SAME * len(apart) ** 0.5, 1e-12)) and float(decided.abs().max()) < DECIDED


def _place(target: Target, start: Tensor, neighbours: Neighbours, gradient: bool) -> Place:
    assert target.sites is not None
    possible = target.sites.possible
    point = start[: target.continuous]
    states = start[target.continuous :].expand(DRAWS, -1)
    logits = torch.zeros(possible.shape, dtype=torch.float64)
    for _ in range(ROUNDS):
        if neighbours.affordable:
            logits = _moved(target, point, states, logits, neighbours)
        states = _sites(possible, logits).sample((DRAWS,))
        if gradient:
            point = ascend(_average(target, states), point[None], evaluations=CLIMB).points[0]
    value = float(target.plain_log_prob(_joined(point[None], states)).mean())
    scale, definite = torch.ones_like(point), True
    if gradient and target.continuous <= LARGEST_HESSIAN:
        scale, definite = scale_from(-hessian(_average(target, states), point))
        value += float(scale.diagonal().log().sum())
    bound = value + float(_sites(possible, logits).site_entropy)
    return Place(point, scale, logits, bound, definite)


def _moved(target: Target, point: Tensor, states: Tensor, logits: Tensor, neighbours: Neighbours) -> Tensor:
    points = _joined(point[None], states)
    rise, _ = neighbours.rises(target.plain_log_prob, points, target.plain_log_prob(points))
    # Relative to each draw's own state, so that what they have in common drops out.
    implied = rise.sum(0) / neighbours.looks(len(points))
    moving = torch.rand(len(logits), 1, dtype=torch.float64) < 0.5
    logits = torch.where(moving, (logits + implied) / 2, logits)
    return (logits - logits.amax(1, keepdim=True)).clamp(min=-SOFT)


def _sites(possible: Tensor, logits: Tensor) -> Mixed:
    return Mixed(None, torch.where(possible, logits, -torch.inf).log_softmax(1))


def _joined(points: Tensor, states: Tensor) -> Tensor:
    """Each of n points with each of the sites' draws, (n * draws, dim)."""
    each = points.repeat_interleave(len(states), 0)
    return torch.cat([each, states.repeat(len(points), 1)], 1)


def _average(target: Target, states: Tensor):
    """The log-joint of coordinates, averaged over draws of the sites, with its gradient."""

    def function(points: Tensor) -> tuple[Tensor, Tensor]:
        values, slopes = target.value_and_gradient(_joined(points, states))
        shape = (len(points), len(states))
        return values.reshape(shape).mean(1), slopes[:, : points.shape[1]].reshape(*shape, -1).mean(1)

    return function
