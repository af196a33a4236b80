"""The gradient of the bound for coordinates and sites, each block by an estimator of its own."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from jensen.errors import BoundError
from jensen.inference.families.factorised import Factorised
from jensen.inference.pathwise import Density, Gradient


class Blockwise:
    r"""The gradient of E_q[log p - log q] for q(u) q(z), from one estimator for u and another for z.

    .. math::
        \nabla_{q(u)} E_{q(u)}\big[ E_{q(z)} \log p - \log q(u) \big], \qquad
        \nabla_{q(z)} E_{q(z)}\big[ E_{q(u)} \log p - \log q(z) \big]

    Each inner expectation is a single draw for each of the outer one's. It takes two calls of the density.

    Args:
        continuous: For the coordinates, such as ``pathwise``.
        sites: For the states, a ``Score``.

    Example:
        >>> from jensen.inference import Target, discrete, real
        >>> from jensen.inference.families import Categoricals, MeanField
        >>> from jensen.inference.pathwise import pathwise
        >>> from jensen.inference.score import Score
        >>> target = Target(lambda p: p["z"] - (p["x"] - p["z"]) ** 2, {"x": real(), "z": discrete(2)}, largest_sum=0)
        >>> q = Factorised(MeanField(1), Categoricals(target.sites.possible))
        >>> gradient = Blockwise(pathwise, Score())(target.value_and_gradient, q, 8)
        >>> gradient.finite
        1.0
    """

    def __init__(
        self,
        continuous: Callable[[Density, nn.Module, int], Gradient],
        sites: Callable[[Density, nn.Module, int], Gradient],
    ) -> None:
        self.continuous, self.sites = continuous, sites
        self.needs_gradient = getattr(continuous, "needs_gradient", True)

    def __call__(self, density: Density, posterior: nn.Module, samples: int) -> Gradient:
        """One estimate.

        Args:
            density: The target.
            posterior: A ``Factorised`` with coordinates.
            samples: Draws.

        Raises:
            BoundError: If the posterior is another one.
        """
        if not isinstance(posterior, Factorised) or posterior.continuous is None:
            raise BoundError("blocks of coordinates and sites are those of families.Factorised")
        states = posterior.sites.sample(samples)
        seen: list[Tensor] = []

        def of_coordinates(points: Tensor) -> tuple[Tensor, Tensor]:
            seen.append(points)
            values, slopes = density(torch.cat([points, states], 1))
            return values, slopes[:, : points.shape[1]]

        def of_states(drawn: Tensor) -> tuple[Tensor, Tensor]:
            values, _ = density(torch.cat([seen[0], drawn], 1))
            return values, torch.zeros_like(drawn)

        rest = self.continuous(of_coordinates, posterior.continuous, samples)
        choice = self.sites(of_states, posterior.sites, samples)
        surrogate = rest.surrogate + choice.surrogate - choice.surrogate.detach()
        bound = rest.bound + posterior.sites.forward(None).site_entropy.detach()
        return Gradient(surrogate, bound, min(rest.finite, choice.finite))
