import numpy as np
import torch
from torch import Tensor

from jensen.inference import Target, real

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
COVARIANCE = torch.tensor([[4.0, 1.8, 0.0], [1.8, 1.0, 0.1], [0.0, 0.1, 0.09]], dtype=torch.float64)


def gaussian() -> Target:
    """A correlated normal whose widths differ by a factor of seven."""
    precision = torch.linalg.inv(COVARIANCE)

    def log_joint(p: dict[str, Tensor]) -> Tensor:
        x = p["x"] - MEAN
        return -0.5 * x @ precision @ x

    return Target(log_joint, {"x": real(3)})


def crooked() -> Target:
    """One coordinate with a skewed density of two humps, which quadrature knows."""
    return Target(lambda p: -0.25 * (p["x"] ** 2 - 1.5) ** 2 + 0.4 * p["x"], {"x": real()})


def crooked_moments() -> np.ndarray:
    """Of the crooked target: the means of x, x^2 and x^3 by quadrature."""
    x = np.linspace(-8, 8, 20_001)
    density = np.exp(-0.25 * (x**2 - 1.5) ** 2 + 0.4 * x)
    density /= density.sum()
    return np.array([(x**power * density).sum() for power in (1, 2, 3)])


def agrees(draws: Tensor, wanted: Tensor | np.ndarray | float, errors: float = 4.0) -> bool:
    """Whether the average of draws (chains, draws, *event) is the one wanted within its measured standard error."""
    from jensen.diagnostics import mcse_mean

    distance = (draws.mean((0, 1)) - torch.as_tensor(wanted)).abs() / mcse_mean(draws)
    return bool((distance < errors).all())
