"""Where a posterior lies: its modes, and normals around them."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import FitError
from jensen.inference.ascent import Ascent, ascend
from jensen.inference.target import Target

STEP = 1e-4
"""Of a coordinate, for differences of gradients."""

ENDLESS = 1e4
"""A density that is the same at this distance along a flat direction isn't integrable."""

FAR_SDS = 1000.0
"""A density that is the same at so many standard deviations of its mode's normal isn't integrable either."""

ENDLESS_LOG = 250.0
"""A spread of a bounded parameter's unconstrained coordinate beyond which its values mean nothing, up to e^250."""

SAME = 0.5
"""Modes nearer than this, in standard deviations, are one."""

FAR = 1e6
"""A coordinate beyond this has run away: the density rises or stays without end."""

LARGEST_HESSIAN = 1000
"""Coordinates up to which the Hessian at a mode is taken; beyond, a mode has a spread of one."""

NEGLIGIBLE_NATS = 12.0
"""A mode whose share of the evidence is below exp of minus this is left out."""


@dataclass(frozen=True)
class Mode:
    """A maximum of a target's density over unconstrained coordinates, and the normal around it.

    Attributes:
        point: (dim,).
        scale_tril: Cholesky factor of the inverse of the negative Hessian, (dim, dim); ones (dim,) in more than a
            thousand dimensions.
        log_mass: Laplace's approximation of the log of the integral around it, nats.
        definite: Whether the Hessian was negative definite; if not, flat directions were given a spread of one.
    """

    point: Float[Tensor, " dim"]
    scale_tril: Tensor
    log_mass: float
    definite: bool

    @property
    def independent_scale(self) -> Float[Tensor, " dim"]:
        """Standard deviations of independent coordinates around it, the best mean field there: 1 / sqrt(precision)."""
        if self.scale_tril.ndim == 1:
            return self.scale_tril
        identity = torch.eye(len(self.point), dtype=self.point.dtype)
        inverse = torch.linalg.solve_triangular(self.scale_tril, identity, upper=False)
        return inverse.square().sum(0).rsqrt()


def hessian(
    function: Callable[[Tensor], tuple[Tensor, Tensor]], point: Float[Tensor, " dim"], step: float = STEP
) -> Float[Tensor, "dim dim"]:
    """Second derivatives by central differences of the gradient, all in one call of 2 dim points.

    Args:
        function: Values and gradients at many points.
        point: (dim,).
        step: Of each coordinate; the error is of the order of its square.

    Returns:
        Symmetric, (dim, dim).

    Example:
        >>> hessian(lambda x: (-(x**2).sum(1), -2 * x), torch.zeros(2).double()).diag().round(decimals=6).tolist()
        [-2.0, -2.0]
    """
    dim = len(point)
    steps = step * torch.eye(dim, dtype=point.dtype)
    _, gradients = function(torch.cat([point + steps, point - steps]))
    found = (gradients[:dim] - gradients[dim:]) / (2 * step)
    return (found + found.T) / 2


def scale_from(precision: Float[Tensor, "dim dim"]) -> tuple[Float[Tensor, "dim dim"], bool]:
    """Cholesky factor of a precision's inverse, and whether it was positive definite; flat directions get one."""
    if not bool(torch.isfinite(precision).all()):
        return torch.eye(len(precision), dtype=precision.dtype), False
    values, vectors = torch.linalg.eigh(precision)
    definite = bool((values > 1e-10 * values.abs().max()).all())
    if not definite:
        values = torch.where(values > 1e-6 * values.abs().max(), values, 1.0)
    # A lower triangle T with T T^T = V diag(1/values) V^T, without forming the product: its condition is squared.
    _, upper = torch.linalg.qr((vectors / values.sqrt()).T)
    lower = upper.T
    return lower * lower.diagonal().sign(), definite


def find_modes(
    target: Target, starts: Float[Tensor, "starts dim"], evaluations: int = 500
) -> tuple[list[Mode], str | None]:
    """Climbs from several starts; modes of the largest mass first.

    Args:
        target: A differentiable one.
        starts: (starts, dim).
        evaluations: At most so many calls.

    Returns:
        The modes that matter, and what was wrong with the searches that found none, or None.

    Raises:
        FitError: If the density grows without bound, or doesn't fall in some direction.
    """
    return modes_at(target, ascend(target.value_and_gradient, starts, evaluations=evaluations))


def modes_at(target: Target, end: Ascent) -> tuple[list[Mode], str | None]:
    """The same, where searches have ended already.

    Args:
        target: That was climbed.
        end: Of the searches.

    Raises:
        FitError: As ``find_modes``.
    """
    if bool((end.values > 1e12).any()):
        raise FitError(
            "the log-joint grows without bound: the density isn't integrable; bound the parameters that run away "
            f"({_runaways(target, end.points[end.values.argmax()])}) or give them priors"
        )
    far = end.points.abs().amax(1) > FAR
    reached = (end.converged | (end.gradients.abs().amax(1) < 1e-3)) & ~far
    modes: list[Mode] = []
    for index in end.values.argsort(descending=True).tolist():
        if not reached[index]:
            continue
        point = end.points[index]
        if any(_distance(point, mode) < SAME * target.dim**0.5 for mode in modes):
            continue
        modes.append(_mode(target, point, float(end.values[index])))
    if not modes:
        worst = end.points[end.values.argmax()]
        return (
            [],
            f"no mode was found from {len(end.points)} starts; what moves on: {_runaways(target, worst)}",
        )
    modes.sort(key=lambda mode: -mode.log_mass)
    return [mode for mode in modes if mode.log_mass > modes[0].log_mass - NEGLIGIBLE_NATS], None


def shares(modes: list[Mode]) -> Float[Tensor, " modes"]:
    """How much of the posterior lies at each mode, about."""
    return torch.tensor([mode.log_mass for mode in modes], dtype=torch.float64).softmax(0)


def left_out(modes: list[Mode]) -> float:
    """The share of all modes but the heaviest one."""
    return float(1 - shares(modes)[0])


def others(modes: list[Mode]) -> list[str]:
    """What to say of a posterior that lies at the heaviest mode alone."""
    if len(modes) == 1:
        return []
    return [f"{len(modes)} modes were found and q lies at the heaviest one; method='auto' covers all of them"]


def _mode(target: Target, point: Tensor, value: float) -> Mode:
    if target.dim > LARGEST_HESSIAN:
        return Mode(point, torch.ones_like(point), value, definite=True)
    curvature = hessian(target.value_and_gradient, point)
    scale_tril, definite = scale_from(-curvature)
    if not definite:
        _refuse_endless(target, point, value, curvature)
    else:
        _refuse_wide(target, point, value, scale_tril)
    log_mass = value + float(scale_tril.diagonal().log().sum()) + 0.5 * target.dim * log(2 * pi)
    return Mode(point, scale_tril, log_mass, definite)


def _refuse_endless(target: Target, point: Tensor, value: float, curvature: Tensor) -> None:
    """Raises if the density hardly falls far along a direction in which it is flat at a mode."""
    if not bool(torch.isfinite(curvature).all()):
        return
    values, vectors = torch.linalg.eigh(-curvature)
    low = values <= 1e-6 * values.abs().max()
    flat, widths = vectors.T[low], FAR_SDS * values[low].clamp(min=0).rsqrt()
    # A little curvature may be that of a wide prior, which falls farther out.
    far = torch.where(torch.isfinite(widths), widths.clamp(min=ENDLESS), ENDLESS)
    moves = torch.cat([ENDLESS * flat, far[:, None] * flat])
    there = target.plain_log_prob(torch.cat([point + moves, point - moves])).reshape(2, 2, -1)
    same = (there[:, 0] > value - 0.5) & ~(there[:, 1] <= value - 0.5)
    for direction in flat[same.any(0)]:
        names = ", ".join(target.coordinates[i] for i in (direction.abs() > 0.1).nonzero()[:, 0].tolist()[:5])
        raise FitError(
            f"the posterior spreads without end along {names}: the density is the same {ENDLESS:g} away, so it looks "
            "improper; give these parameters proper priors, or fix one of them"
        )


def _refuse_wide(target: Target, point: Tensor, value: float, scale_tril: Tensor) -> None:
    """Raises if the mode is on a plateau: the density hardly falls far along a wide direction, or nowhere sensible."""
    left, widths, _ = torch.linalg.svd(scale_tril)
    moves = FAR_SDS * widths[:, None] * left.T
    there = target.plain_log_prob(torch.cat([point + moves, point - moves])).reshape(2, -1)
    wide = scale_tril.square().sum(1).sqrt() > ENDLESS_LOG
    for name, where in target.slices.items():
        if target.parameters[name].support == "real":
            wide[where] = False
    # An infinite one is rounding: a number that is zero where its logarithm is -1,000.
    endless = (torch.isfinite(there) & (there > value - 0.5)).any(0)
    if bool(endless.any()):
        wide = left[:, int(endless.nonzero()[0])].abs() > 0.1
    if bool(wide.any()):
        names = ", ".join(target.coordinates[index] for index in wide.nonzero()[:5, 0].tolist())
        raise FitError(
            f"the posterior spreads without end along {names}: the density hardly falls however far one goes, so it "
            "looks improper; give these parameters proper priors"
        )


def _distance(point: Tensor, mode: Mode) -> float:
    away = (point - mode.point)[:, None]
    if mode.scale_tril.ndim == 1:
        return float(away.norm())
    return float(torch.linalg.solve_triangular(mode.scale_tril, away, upper=False).norm())


def _runaways(target: Target, point: Tensor) -> str:
    order = point.abs().argsort(descending=True)[:3].tolist()
    return ", ".join(f"{target.coordinates[index]} at {float(point[index]):.3g}" for index in order)
