"""The leapfrog integrator of Hamilton's equations with unit masses."""

from collections.abc import Callable

import numpy as np

from jensen.inference.mcmc.density import Array

Evaluate = Callable[[Array], tuple[Array, Array]]
"""From positions (n, dim) to log-densities (n,) and gradients (n, dim)."""


def leapfrog(
    density: Evaluate, z: Array, momentum: Array, slope: Array, step: Array
) -> tuple[Array, Array, Array, Array]:
    r"""One step: half a kick, a drift, half a kick.

    .. math::
        p' = p + \tfrac\epsilon2 \nabla \log \pi(z), \quad z^* = z + \epsilon p', \quad
        p^* = p' + \tfrac\epsilon2 \nabla \log \pi(z^*)

    It keeps volumes and is undone by a step from the end with the momentum turned.

    Args:
        density: Values and gradients.
        z: Positions (n, dim).
        momentum: (n, dim).
        slope: Gradients at z, (n, dim).
        step: Step sizes (n, 1).

    Returns:
        Positions, momenta, log-densities (n,) and gradients at the end.

    Example:
        >>> def normal(z):
        ...     return -0.5 * (z**2).sum(1), -z
        >>> z, momentum = np.array([[1.0]]), np.array([[0.5]])
        >>> there = leapfrog(normal, z, momentum, -z, np.array([[0.3]]))
        >>> back = leapfrog(normal, there[0], -there[1], there[3], np.array([[0.3]]))
        >>> bool(np.allclose(back[0], z)), bool(np.allclose(-back[1], momentum))
        (True, True)
    """
    half = 0.5 * step
    momentum = momentum + half * slope
    z = z + step * momentum
    value, slope = density(z)
    return z, momentum + half * slope, value, slope


def energy(value: Array, momentum: Array) -> Array:
    """Negative log-density plus kinetic energy, (n,); inf where the density is zero."""
    return 0.5 * np.einsum("nd,nd->n", momentum, momentum) - value
