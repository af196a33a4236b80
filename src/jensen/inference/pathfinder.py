"""Pathfinder: normals along quasi-Newton paths to the modes, of each path the one with the highest bound."""

from math import log, pi
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from jensen.distributions import VectorDistribution
from jensen.errors import ConfigError, FitError
from jensen.inference.ascent import ascend
from jensen.inference.found import Found
from jensen.inference.start import modes_at
from jensen.inference.target import Target
from jensen.seeding import seeded


class LowRankNormal(VectorDistribution):
    r"""N(m, D^{1/2} (I + Q (L L^T - I) Q^T) D^{1/2}): a diagonal, changed in the few directions that Q spans.

    Args:
        loc: m, (dim,).
        diagonal: Of D, positive, (dim,).
        basis: Q, orthonormal columns, (dim, rank).
        triangle: L, lower triangular with a positive diagonal, (rank, rank).

    Example:
        >>> q = LowRankNormal(torch.zeros(2), torch.ones(2), torch.eye(2)[:, :1], torch.tensor([[3.0]]))
        >>> q.covariance_matrix.tolist()
        [[9.0, 0.0], [0.0, 1.0]]
    """

    has_rsample = True

    def __init__(self, loc: Tensor, diagonal: Tensor, basis: Tensor, triangle: Tensor) -> None:
        self.loc, self.diagonal, self.basis, self.triangle = loc, diagonal, basis, triangle
        super().__init__(torch.Size(), loc.shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """The location, (dim,)."""
        return self.loc

    @property
    def covariance_matrix(self) -> Tensor:
        """Written out, (dim, dim)."""
        root = self.diagonal.sqrt()
        change = self.triangle @ self.triangle.T - torch.eye(len(self.triangle)).to(self.loc)
        return self.diagonal.diag() + root[:, None] * (self.basis @ change @ self.basis.T) * root

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample, dim)."""
        noise = torch.randn((*sample_shape, len(self.loc)), dtype=self.loc.dtype)
        return self.loc + self.diagonal.sqrt() * self._turned(noise, inverse=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of points (*sample, dim)."""
        noise = self._turned((value - self.loc) / self.diagonal.sqrt(), inverse=True)
        log_det = 0.5 * self.diagonal.log().sum() + self.triangle.diagonal().log().sum()
        return -0.5 * (noise.square().sum(-1) + len(self.loc) * log(2 * pi)) - log_det

    def _turned(self, noise: Tensor, *, inverse: bool) -> Tensor:
        if len(self.triangle) == 0:
            return noise
        inner = noise @ self.basis
        flat = inner.reshape(-1, len(self.triangle)).T
        changed = (
            torch.linalg.solve_triangular(self.triangle, flat, upper=False)
            if inverse
            else self.triangle @ flat
        )
        return noise + (changed.T.reshape(inner.shape) - inner) @ self.basis.T


class Equals(VectorDistribution):
    """A mixture of distributions of whatever kind over the same vectors, all with the same weight.

    Args:
        parts: At least one.

    Example:
        >>> q = Equals([torch.distributions.MultivariateNormal(torch.tensor([x]), torch.eye(1)) for x in (-1.0, 1.0)])
        >>> q.sample((4,)).shape
        torch.Size([4, 1])
    """

    def __init__(self, parts: list[Distribution]) -> None:
        self.parts = parts
        super().__init__(torch.Size(), parts[0].event_shape, validate_args=False)

    @property
    def mean(self) -> Tensor:
        """Mean of the parts' means."""
        return torch.stack([part.mean for part in self.parts]).mean(0)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*sample, dim), each of a part chosen by chance."""
        shape = torch.Size(sample_shape)
        owner = torch.randint(len(self.parts), (shape.numel(),))
        draws = torch.stack([part.sample(owner.shape) for part in self.parts])
        return draws[owner, torch.arange(len(owner))].reshape(*shape, *self.event_shape)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of points (*sample, dim)."""
        return torch.stack([part.log_prob(value) for part in self.parts]).logsumexp(0) - log(len(self.parts))


class _Path(NamedTuple):
    points: Tensor
    gradients: Tensor


def pathfinder(
    target: Target,
    starts: Float[Tensor, "starts dim"],
    *,
    draws: int = 32,
    memory: int = 6,
    evaluations: int = 500,
    seed: int | None = 0,
) -> Found:
    """Normals along the ways from several starts to their modes; of each way the normal with the highest bound.

    Each way is one of L-BFGS. At each of its points the last few steps give an inverse Hessian, of a diagonal and low
    rank, and with it a normal around the Newton step; the bounds of all of them are estimated by one call of the
    target. The ways' normals are mixed with equal weights; importance weights over this mixture then sort out ways
    that ended at a minor mode. With one start it is the single-path algorithm.

    Args:
        target: A differentiable one.
        starts: (starts, dim); a way for each.
        draws: That estimate the bound of one normal.
        memory: Steps that an inverse Hessian is made of.
        evaluations: At most so many calls on the way.
        seed: Of the draws.

    Returns:
        The mixture.

    Raises:
        ConfigError: If draws or memory are below one.
        FitError: If no normal along any way has a finite bound, or the density isn't integrable.

    Source: Pathfinder: Parallel quasi-Newton variational inference, 2022, https://jmlr.org/papers/v23/21-0889.html.

    Example:
        >>> from jensen.inference import real
        >>> target = Target(lambda p: -0.5 * ((p["x"] - 1) ** 2 * torch.tensor([1.0, 4.0])).sum(), {"x": real(2)})
        >>> pathfinder(target, torch.zeros(1, 2).double()).posterior.mean.round(decimals=1).tolist()
        [1.0, 1.0]
    """
    if draws < 1 or memory < 1:
        raise ConfigError(f"Pathfinder needs draws and a memory of at least 1, got {draws} and {memory}")
    candidates = [_normals(path, memory) for path in _paths(target, starts, evaluations)]
    everything = [normal for path in candidates for normal in path]
    with seeded(seed), torch.no_grad():
        points = torch.stack([normal.sample(torch.Size([draws])) for normal in everything])
        values = target.plain_log_prob(points.reshape(-1, target.dim)).reshape(len(everything), draws)
        log_q = torch.stack([normal.log_prob(own) for normal, own in zip(everything, points, strict=True)])
    bounds = (values - log_q).nan_to_num(-torch.inf, posinf=-torch.inf).mean(1)
    best: list[Distribution] = []
    history: list[float] = []
    first = 0
    for path in candidates:
        own = bounds[first : first + len(path)]
        first += len(path)
        if bool((own > -torch.inf).any()):
            best.append(path[int(own.argmax())])
            history.append(float(own.max()))
    if not best:
        raise FitError(
            "no normal along the ways to the modes has a finite bound: the log-joint isn't finite around them; try "
            "other starting points (init or seed), or method='auto'"
        )
    notes = [] if len(best) == len(candidates) else [f"{len(candidates) - len(best)} of the ways led nowhere"]
    return Found(Equals(best), None, tuple(history), tuple(notes))


def _paths(target: Target, starts: Tensor, evaluations: int) -> list[_Path]:
    """The accepted points of a search from each start, with their gradients."""
    last: list[tuple[Tensor, Tensor, Tensor]] = []

    def function(points: Tensor) -> tuple[Tensor, Tensor]:
        values, gradients = target.value_and_gradient(points)
        last[:] = [(points, values, gradients)]
        return values, gradients

    values, gradients = function(starts)
    points = [[point] for point in starts]
    slopes = [[gradient] for gradient in gradients]
    reached = values.clone()

    def progress(used: int, values: Tensor) -> None:
        trial, tried, gradients = last[0]
        for index in ((values == tried) & (values > reached)).nonzero()[:, 0].tolist():
            points[index].append(trial[index])
            slopes[index].append(gradients[index])
        reached.copy_(values)

    # Raises if the density isn't integrable.
    modes_at(target, ascend(function, starts, evaluations=evaluations, progress=progress))
    return [_Path(torch.stack(way), torch.stack(slope)) for way, slope in zip(points, slopes, strict=True)]


def _normals(path: _Path, memory: int) -> list[LowRankNormal]:
    """A normal for each point, whose inverse Hessian the last steps make; that of the first is the identity."""
    steps, changes = path.points.diff(dim=0), -path.gradients.diff(dim=0)
    diagonal = torch.ones_like(path.points[0])
    kept: list[int] = []
    first = _normal(path.points[0], path.gradients[0], diagonal, steps[:0].T, changes[:0].T)
    found = [] if first is None else [first]
    for index in range(len(steps)):
        step, change = steps[index], changes[index]
        product = float(step @ change)
        if product > 1e-12 * float(change @ change) and product > 0:
            diagonal = _diagonal(diagonal, step, change)
            kept.append(index)
        recent = kept[-memory:]
        normal = _normal(
            path.points[index + 1], path.gradients[index + 1], diagonal, steps[recent].T, changes[recent].T
        )
        if normal is not None:
            found.append(normal)
    return found


def _diagonal(diagonal: Tensor, step: Tensor, change: Tensor) -> Tensor:
    """The diagonal of a BFGS update of the inverse Hessian's diagonal, through that of the Hessian."""
    a, b = (change.square() * diagonal).sum(), step @ change
    c = (step.square() / diagonal).sum()
    return 1 / (a / (b * diagonal) + change.square() / b - a * step.square() / (b * c * diagonal.square()))


def _normal(
    point: Tensor, gradient: Tensor, diagonal: Tensor, steps: Tensor, changes: Tensor
) -> LowRankNormal | None:
    r"""The normal of an inverse Hessian in compact form, D + W M W^T with W = [S, D Y].

    .. math::
        M = \begin{pmatrix} R^{-T} (E + Y^T D Y) R^{-1} & -R^{-T} \\ -R^{-1} & 0 \end{pmatrix}

    where R is the upper triangle of S^T Y and E its diagonal (Byrd, Nocedal and Schnabel, 1994).
    """
    if not bool(torch.isfinite(diagonal).all() and (diagonal > 0).all()):
        return None
    rank = steps.shape[1]
    root = diagonal.sqrt()
    identity = torch.eye(rank, dtype=point.dtype)
    products = steps.T @ changes
    inverse = torch.linalg.solve_triangular(products.triu(), identity, upper=True)
    corner = inverse.T @ (products.diagonal().diag() + changes.T @ (diagonal[:, None] * changes)) @ inverse
    middle = torch.cat(
        [torch.cat([corner, -inverse.T], 1), torch.cat([-inverse, torch.zeros_like(inverse)], 1)]
    )
    wide = torch.cat([steps / root[:, None], root[:, None] * changes], 1)
    basis, upper = torch.linalg.qr(wide)
    inner = upper @ middle @ upper.T + torch.eye(basis.shape[1], dtype=point.dtype)
    triangle, failed = torch.linalg.cholesky_ex((inner + inner.T) / 2)
    if bool(failed) or not bool(torch.isfinite(triangle).all()):
        return None
    scaled = root * gradient
    turned = scaled + basis @ ((inner - torch.eye(len(inner), dtype=point.dtype)) @ (basis.T @ scaled))
    move = root * turned
    return LowRankNormal(point + move, diagonal, basis, triangle)
