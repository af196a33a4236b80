"""The path-wise gradient of the bound on a log-joint's evidence, for any reparameterised posterior."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from jensen.errors import BoundError
from jensen.inference.families.family import Draws, Family, equal_weights

Density = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From points (n, dim) to log-densities (n,) and their gradients (n, dim), both detached."""


class Gradient(NamedTuple):
    """One estimate.

    Attributes:
        surrogate: Its gradient is the estimate of the bound's gradient; its value is the bound's estimate.
        bound: The bound's estimate, nats, detached.
        finite: The share of draws whose log-density and gradient were finite; the others were left out.
    """

    surrogate: Tensor
    bound: Tensor
    finite: float


def antithetic(n: int, dim: int) -> Tensor:
    """Standard normals (n, dim) in pairs of opposite sign, from torch's generator.

    Example:
        >>> noise = antithetic(6, 2)
        >>> bool((noise[:3] == -noise[3:]).all())
        True
    """
    half = torch.randn((n + 1) // 2, dim, dtype=torch.float64)
    return torch.cat([half, -half])[:n]


def reparameterised(posterior: nn.Module, samples: int, noise: Tensor | None = None) -> Draws:
    """Draws with a path to the parameters, of one of our families or of a user's own module.

    Args:
        posterior: Called with None it gives a distribution over (dim,).
        samples: How many.
        noise: What our families make them of; None: antithetic pairs.

    Raises:
        BoundError: If the distribution can't be reparameterised.
    """
    if isinstance(posterior, Family):
        return posterior.draw(antithetic(samples, posterior.noise_dim) if noise is None else noise)
    distribution = posterior(None)
    if not distribution.has_rsample:
        raise BoundError(
            f"the path-wise gradient needs draws with a path to the parameters, but {type(distribution).__name__} has "
            "no rsample; use gradient='score'"
        )
    points = distribution.rsample(torch.Size([samples]))
    return Draws(points, distribution.log_prob(points), equal_weights(points))


def drawn(posterior: nn.Module, samples: int, noise: Tensor | None = None) -> Draws:
    """Draws without a path, of any posterior: for comparisons, not for gradients.

    Args:
        posterior: Called with None it gives a distribution over (dim,).
        samples: How many.
        noise: What our families make them of; None: antithetic pairs.
    """
    with torch.no_grad():
        if isinstance(posterior, Family):
            return reparameterised(posterior, samples, noise)
        distribution = posterior(None)
        points = distribution.sample(torch.Size([samples]))
        return Draws(points, distribution.log_prob(points), equal_weights(points))


def pathwise(density: Density, posterior: nn.Module, samples: int) -> Gradient:
    r"""The path-wise gradient of E_q[log p - log q] that sticks the landing.

    .. math::
        \nabla_\phi \sum_s w_s \left[ \log \tilde p(u_s(\phi)) - \log q_{\bar\phi}(u_s(\phi)) \right]

    The parameters inside log q are held fixed: the term left out has expectation zero, and without it the gradient has
    no variance where q is the posterior itself. All draws are evaluated in one call.

    Args:
        density: The target, or an unbiased estimate of it and its gradient.
        posterior: Any module that gives a reparameterised distribution for the context None.
        samples: Draws.

    Raises:
        BoundError: If the posterior can't be reparameterised.

    Source: Sticking the landing, 2017, https://arxiv.org/abs/1703.09194.
    """
    draws = reparameterised(posterior, samples)
    values, gradients = density(draws.points.detach())
    held = {name: parameter.detach() for name, parameter in posterior.named_parameters()}
    fixed: Any = functional_call(posterior, held, (None,))
    log_q = fixed.log_prob(draws.points)
    good = torch.isfinite(values) & torch.isfinite(gradients).all(1)
    path = (torch.where(good[:, None], gradients, 0.0) * draws.points).sum(1)
    log_p = values + path - path.detach()
    weights = torch.where(good, draws.weights, 0.0)
    weights = weights / weights.sum()
    surrogate = torch.where(good, weights * (log_p - log_q), 0.0).sum()
    bound = surrogate.detach() if bool(good.any()) else surrogate.new_tensor(torch.nan)
    return Gradient(surrogate, bound, float(good.double().mean()))
