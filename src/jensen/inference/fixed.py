"""Variational inference with fixed draws: a sample-average approximation of the ELBO, climbed by quasi-Newton steps."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call, vmap

from jensen.errors import FitError
from jensen.inference.ascent import ascend
from jensen.inference.families import Draws, Family, FullRank
from jensen.inference.start import hessian, scale_from
from jensen.inference.target import Target

DRAWS = 64

WIDE = 1e8
"""Draws farther than this from the centre have run away."""

STEP = 1e-3
"""Of the family's parameters, in units of its frame, for the Hessian of the bound."""


@dataclass(frozen=True)
class Fixed:
    """A family fitted with fixed draws.

    Attributes:
        family: At the maximum of the bound's average over the draws.
        noise: The draws, (draws, noise_dim).
        bound: There, nats; optimistic, as the draws are those that it was fitted to.
        history: Of the bound, after each evaluation.
        converged: Whether a further step would gain less than the tolerance.
    """

    family: Family
    noise: Float[Tensor, "draws noise"]
    bound: float
    history: tuple[float, ...]
    converged: bool


def fixed_noise(draws: int, dim: int, seed: int | None = 0) -> Float[Tensor, "draws dim"]:
    """Standard normals that cover the space evenly: scrambled Sobol points, each with its opposite.

    Their mean is zero; where there are at least four times as many as dimensions, their second moments are those of
    the standard normal exactly. So averages of quadratic functions have no error.

    Args:
        draws: How many, even.
        dim: Dimensions.
        seed: Of the scrambling.

    Returns:
        float64 (draws, dim).

    Example:
        >>> noise = fixed_noise(64, 3)
        >>> bool(torch.allclose(noise.T @ noise / 64, torch.eye(3).double()))
        True
    """
    engine = torch.quasirandom.SobolEngine(dim, scramble=True, seed=seed)
    uniform = engine.draw(max(2, draws // 2), dtype=torch.float64)
    half = torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))
    if len(half) >= 2 * dim:
        root = torch.linalg.cholesky(half.T @ half / len(half))
        half = torch.linalg.solve_triangular(root, half.T, upper=False).T
    else:
        half = half / half.square().mean(0).sqrt()
    return torch.cat([half, -half])


def fit_fixed(
    target: Target,
    family: Family,
    *,
    draws: int | None = None,
    seed: int | None = 0,
    tolerance: float = 1e-9,
    evaluations: int = 500,
) -> Fixed:
    r"""Maximises the average of log p(x, u) - log q(u) over fixed draws of a family's noise.

    .. math:: \max_\phi \sum_s w_s(\phi) [\log \tilde p(u_s(\phi)) - \log q_\phi(u_s(\phi))], u_s = t_\phi(e_s)

    Args:
        target: A differentiable one.
        family: Where to start; it is copied.
        draws: How many, even; None takes 64, and for families with a full covariance eight times the dimension.
        seed: Of the draws.
        tolerance: In nats; a smaller expected gain ends the search.
        evaluations: At most so many calls of the target, each at all draws.

    Returns:
        The fitted family.

    Raises:
        FitError: If the bound isn't finite at the start, or grows without end (an improper posterior).

    Source: Black Box Variational Inference with a Deterministic Objective, 2024,
    https://jmlr.org/papers/v25/23-1015.html.

    Example:
        >>> from jensen.inference import real
        >>> from jensen.inference.families import MeanField
        >>> target = Target(lambda p: -0.5 * ((p["x"] - 1) / 2) ** 2, {"x": real()})
        >>> q = fit_fixed(target, MeanField(1)).family(None)
        >>> round(float(q.mean), 3), round(float(q.stddev), 3)
        (1.0, 2.0)
    """
    family = deepcopy(family)
    if draws is None:
        draws = DRAWS if not isinstance(family, FullRank) else max(DRAWS, 8 * target.dim)
    noise = fixed_noise(draws, family.noise_dim, seed)
    bound = _Bound(target, family, noise)
    start = bound.parameters()
    value, _ = bound(start[None])
    if not torch.isfinite(value).all():
        raise FitError(
            f"the bound is {float(value[0])} at the start: the log-joint isn't finite in its neighbourhood; give init, "
            "a value of each parameter where it is, or, if it ends at an edge, the parameter's support, such as "
            "positive() or interval(0, 1)"
        )
    history: list[float] = [float(value[0])]
    end = ascend(
        bound,
        start[None],
        tolerance=tolerance,
        evaluations=evaluations,
        progress=lambda used, values: history.append(float(values[0])),
    )
    bound.assign(end.points[0])
    family.requires_grad_(False)
    with torch.no_grad():
        reach = (family.draw(noise).points - family.draw(0 * noise).points).abs().amax(0)
    wide = (~(reach < WIDE)).nonzero()[:, 0].tolist()
    if wide:
        names = ", ".join(target.coordinates[index] for index in wide[:5])
        raise FitError(
            f"the posterior spreads without end along {names}: it looks improper; give these parameters proper priors"
        )
    return Fixed(family, noise, float(end.values[0]), tuple(history), bool(end.converged[0]))


def linear_response(target: Target, fitted: Fixed) -> FullRank:
    r"""A normal with the fitted means and linear-response covariances.

    How the means m of the fitted family would move if the log-density were tilted by a linear function is the
    covariance that the target's draws would have; to first order it is :math:`J (-H)^{-1} J^T`, with J the derivative
    of the means and H the Hessian of the bound by the family's parameters. It repairs what independent coordinates
    miss, and is exact for normal targets.

    Args:
        target: The one that was fitted.
        fitted: At its optimum.

    Returns:
        A normal.

    Raises:
        FitError: If the Hessian isn't negative definite: the optimum isn't one.

    Source: Covariances, robustness, and variational Bayes, 2018, https://jmlr.org/papers/v19/17-670.html.
    """
    bound = _Bound(target, fitted.family, fitted.noise)
    parameters = bound.parameters()
    precision = -hessian(bound, parameters, STEP)
    # One copy of the parameters for each mean; torch.func.jacrev would load torch's compiler, which takes a second.
    copies = parameters.expand(target.dim, -1).clone().requires_grad_()
    with torch.enable_grad():
        (jacobian,) = torch.autograd.grad(vmap(bound.means)(copies).diagonal().sum(), copies)
    root, definite = scale_from(precision)
    if not definite:
        raise FitError(
            "the bound has no curvature in some direction: its optimum isn't determined by the draws"
        )
    factor = jacobian @ root
    _, upper = torch.linalg.qr(factor.T)
    lower = upper.T
    return FullRank.around(bound.means(parameters).detach(), lower * lower.diagonal().sign())


class _Drawing(nn.Module):
    """A family whose forward pass draws."""

    def __init__(self, family: Family) -> None:
        super().__init__()
        self.family = family

    def forward(self, noise: Tensor) -> Draws:
        return self.family.draw(noise)


class _Bound:
    """The average bound as a function of many vectors of the family's parameters at once."""

    def __init__(self, target: Target, family: Family, noise: Tensor) -> None:
        self.target, self.noise = target, noise
        self.module = _Drawing(family)
        self.names = [name for name, _ in self.module.named_parameters()]
        self.shapes = [value.shape for value in self.module.parameters()]

    def parameters(self) -> Tensor:
        """Those that the family has, in one vector (m,)."""
        return torch.cat([value.detach().reshape(-1) for value in self.module.parameters()])

    def assign(self, vector: Tensor) -> None:
        """Gives the family others."""
        with torch.no_grad():
            for value, new in zip(self.module.parameters(), self._split(vector), strict=True):
                value.copy_(new)

    def _split(self, vector: Tensor) -> list[Tensor]:
        parts = vector.split([shape.numel() for shape in self.shapes])
        return [part.reshape(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def draws(self, vector: Tensor) -> Draws:
        """Of the family with these parameters (m,)."""
        values = dict(zip(self.names, self._split(vector), strict=True))
        result: Any = functional_call(self.module, values, (self.noise,))
        return result

    def _many(self, vectors: Tensor) -> Draws:
        """The same for vectors (n, m); one of them doesn't need vmap, which takes longer than the draws."""
        if len(vectors) > 1:
            return vmap(self.draws)(vectors)
        return Draws(*(part[None] for part in self.draws(vectors[0])))

    def means(self, vector: Tensor) -> Tensor:
        """The average of the draws, (dim,)."""
        draws = self.draws(vector)
        return draws.weights @ draws.points

    def __call__(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Bounds (n,) and their gradients (n, m)."""
        leaves = vectors.detach().requires_grad_()
        with torch.enable_grad():
            draws = self._many(leaves)
            points = draws.points.detach()
            values, gradients = self.target.value_and_gradient(points.reshape(-1, self.target.dim))
            gradients = gradients.reshape(points.shape)
            # The value of the log-joint at the points, with its gradient through them.
            log_joint = values.reshape(points.shape[:2]) + (gradients * (draws.points - points)).sum(-1)
            bounds = (draws.weights * (log_joint - draws.log_prob)).sum(1)
            (slopes,) = torch.autograd.grad(bounds.sum(), leaves)
        return bounds.detach(), slopes
