"""The density of a target with many data, from a few rows at a time."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, FitError
from jensen.inference.start import Mode, find_modes, hessian, scale_from
from jensen.inference.target import Target
from jensen.seeding import seeded

NEWTON_STEPS = 4
"""At most so many steps towards the mode with all data's gradient and a subsample's curvature."""
NEAR = 0.05
"""A step shorter than this, in posterior standard deviations, ends them."""


def rows_in(target: Target) -> int:
    """How many rows the target's data have.

    Raises:
        ConfigError: If it wasn't given data apart.
    """
    if target.rows is None:
        raise ConfigError(
            "minibatches need a target that knows its rows: Target(log_prior, parameters, log_likelihood=..., data=...)"
        )
    return target.rows


def check_batch(target: Target, batch_size: int) -> int:
    """The size of a minibatch, no more than there are rows.

    Raises:
        ConfigError: If it is below one, or the target has no rows.
    """
    rows = rows_in(target)
    if batch_size < 1:
        raise ConfigError(f"a minibatch needs at least one row, got {batch_size}")
    return min(batch_size, rows)


def full_pass(
    target: Target, points: Float[Tensor, "n dim"], batch_size: int
) -> tuple[Float[Tensor, " n"], Float[Tensor, "n dim"]]:
    """Log-density and gradient with all data, part by part: memory doesn't grow with the number of rows.

    Args:
        target: With rows.
        points: (n, dim).
        batch_size: Rows of a part.

    Returns:
        (n,) nats and (n, dim).
    """
    rows = rows_in(target)
    values, gradients = torch.zeros(len(points), dtype=torch.float64), torch.zeros_like(points)
    for part in _parts(rows, batch_size):
        value, gradient = target.subsample(part).value_and_gradient(points)
        # Each part is scaled up to all rows, so that their mean, weighed by size, counts the prior once.
        values += value * (len(part) / rows)
        gradients += gradient * (len(part) / rows)
    return values, gradients


def _parts(rows: int, size: int) -> Iterator[Tensor]:
    for start in range(0, rows, size):
        yield torch.arange(start, min(start + size, rows))


class Minibatches:
    r"""An unbiased estimate of the log-density and its gradient from rows drawn anew at each call.

    .. math::
        \hat L(u) = L(a) + \nabla L(a)^T (u - a)
            + \left[ \hat L_B(u) - \hat L_B(a) - \nabla \hat L_B(a)^T (u - a) \right]

    with an anchor a at which the gradient with all data is known: only what is not linear within the posterior's
    width is left to chance. Without an anchor it is the plain estimate, scaled by N/B.

    Args:
        target: With rows.
        batch_size: B, rows of a call, drawn with replacement.

    Source: Control variates for stochastic gradient MCMC, 2019, https://doi.org/10.1007/s11222-018-9826-2.
    """

    def __init__(self, target: Target, batch_size: int) -> None:
        self.target = target
        self.batch_size = check_batch(target, batch_size)
        self.anchor: tuple[Tensor, Tensor, Tensor] | None = None

    def anchored(self, point: Float[Tensor, " dim"]) -> None:
        """Passes once over all data for the value and the gradient at a point."""
        value, gradient = full_pass(self.target, point[None], max(self.batch_size, 10_000))
        self.anchor = (point.detach().clone(), value[0], gradient[0])

    def part(self) -> Target:
        """The target of rows drawn anew."""
        return self.target.subsample(torch.randint(rows_in(self.target), (self.batch_size,)))

    def __call__(self, points: Float[Tensor, "n dim"]) -> tuple[Float[Tensor, " n"], Float[Tensor, "n dim"]]:
        """At (n, dim): estimates (n,), nats, and (n, dim), all from the same rows."""
        part = self.part()
        if self.anchor is None:
            return part.value_and_gradient(points)
        anchor, value, gradient = self.anchor
        values, gradients = part.value_and_gradient(torch.cat([points, anchor[None]]))
        tilt = gradient - gradients[-1]
        return values[:-1] + (value - values[-1]) + (points - anchor) @ tilt, gradients[:-1] + tilt


def minibatch_modes(
    target: Target, batch_size: int, starts: Float[Tensor, "starts dim"], seed: int | None = 0
) -> list[Mode]:
    """Where the posterior lies and how wide it is, from a few passes over the data.

    Modes and the curvature there are found on one subsample of rows, scaled up; then Newton steps with the gradient of
    all data and that curvature lead to the heaviest mode.

    Args:
        target: With rows.
        batch_size: Rows of the subsample.
        starts: Where climbs begin, (starts, dim).
        seed: Of the rows.

    Returns:
        The mode of all data; after it others that the subsample has.

    Raises:
        FitError: If no mode is found on the subsample, or its posterior is improper.
    """
    with seeded(seed):
        part = target.subsample(torch.randint(rows_in(target), (check_batch(target, batch_size),)))
    modes, trouble = find_modes(part, starts)
    if not modes:
        raise FitError(f"a subsample of the rows leads nowhere: {trouble}")
    location, scale_tril = modes[0].point, modes[0].scale_tril
    if scale_tril.ndim == 1:
        scale_tril = scale_from(-hessian(part.value_and_gradient, location))[0]
    for _ in range(NEWTON_STEPS):
        # In posterior standard deviations.
        move = scale_tril.T @ full_pass(target, location[None], batch_size)[1][0]
        location = location + scale_tril @ move
        if float(move.norm()) < NEAR * len(move) ** 0.5:
            break
    scale_tril, definite = scale_from(-hessian(part.value_and_gradient, location))
    return [Mode(location, scale_tril, modes[0].log_mass, definite), *modes[1:]]
