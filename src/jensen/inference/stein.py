"""Stein variational gradient descent: particles that climb the density and keep apart."""

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.inference.automatic import around
from jensen.inference.families.frame import Frame
from jensen.inference.found import Found
from jensen.inference.start import shares
from jensen.inference.target import Target
from jensen.seeding import seeded

NARROW_DIM = 10
"""In more dimensions particles are known to lie too near together."""


def stein(
    target: Target,
    starts: Float[Tensor, "starts dim"],
    *,
    particles: int = 200,
    steps: int = 1000,
    step_size: float = 0.1,
    tolerance: float = 1e-3,
    seed: int | None = 0,
) -> Found:
    r"""Moves particles along the kernelised gradient of the divergence to the target, in whitened coordinates.

    .. math::
        \phi(x_i) = \frac1n \sum_j \left[ k(x_j, x_i) \nabla \log p(x_j) + \nabla_{x_j} k(x_j, x_i) \right], \qquad
        k(x, y) = \exp(-|x - y|^2 / h)

    with h the median of the squared distances between particles over log(n + 1). The coordinates are those whitened by
    the Hessian at the mode; particles start as draws of the normal there, divided among the modes if there are several.
    Steps are Adam's.

    Args:
        target: A differentiable one.
        starts: Where modes are looked for, (starts, dim).
        particles: How many; one call of the target evaluates all.
        steps: At most so many.
        step_size: In posterior standard deviations; it falls to a tenth over the steps.
        tolerance: It stops when phi's root mean square is below this.
        seed: Of the first particles.

    Returns:
        Particles; they have no density, so no bound and no k-hat.

    Raises:
        ConfigError: If an option isn't above zero, or there are fewer than two particles.

    Source: Stein variational gradient descent, 2016, https://arxiv.org/abs/1608.04471.

    Example:
        >>> from jensen.inference import real
        >>> target = Target(lambda p: -0.5 * (p["x"] - 1) ** 2, {"x": real()})
        >>> found = stein(target, torch.zeros(1, 1).double(), particles=50, steps=50)
        >>> round(float(found.particles.mean()), 1)
        1.0
    """
    if particles < 2 or min(steps, step_size, tolerance) <= 0:
        raise ConfigError(
            "Stein variational gradient descent needs at least 2 particles and numbers above 0, got "
            f"particles={particles}, steps={steps}, step_size={step_size}, tolerance={tolerance}"
        )
    modes, notes = around(target, starts, 64, seed)
    with seeded(seed):
        noise = torch.randn(particles, target.dim, dtype=torch.float64)
    frame = Frame(modes[0].point, modes[0].scale_tril)
    owner = torch.searchsorted(
        shares(modes).cumsum(0), (torch.arange(particles).double() + 0.5) / particles
    ).clamp(max=len(modes) - 1)
    z = torch.stack(
        [
            frame.back(Frame(modes[k].point, modes[k].scale_tril)(one))
            for k, one in zip(owner.tolist(), noise, strict=True)
        ]
    )
    first, second = torch.zeros_like(z), torch.zeros_like(z)
    history: list[float] = []
    for step in range(1, steps + 1):
        phi = direction(z, _scores(target, frame, z))
        size = float(phi.square().mean().sqrt())
        history.append(size)
        if size < tolerance:
            break
        first, second = 0.9 * first + 0.1 * phi, 0.99 * second + 0.01 * phi.square()
        rate = step_size * 0.1 ** (step / steps)
        z = z + rate * (first / (1 - 0.9**step)) / ((second / (1 - 0.99**step)).sqrt() + 1e-8)
    if history[-1] >= tolerance:
        notes.append(
            f"the particles still move after {steps} steps: their mean direction is {history[-1]:.2g}"
        )
    if target.dim > NARROW_DIM:
        notes.append(f"in {target.dim} dimensions the particles' spread is too small; trust their mean only")
    return Found(None, frame(z), tuple(-size for size in history), tuple(notes), tuple(modes))


def _scores(target: Target, frame: Frame, z: Tensor) -> Tensor:
    """Gradients in the frame's coordinates; zero where the density isn't finite: such particles are only pushed."""
    gradients = target.value_and_gradient(frame(z))[1]
    gradients = torch.where(torch.isfinite(gradients).all(1, keepdim=True), gradients, 0.0)
    return gradients * frame.scale if frame.diagonal else gradients @ frame.scale


def direction(points: Float[Tensor, "n dim"], scores: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
    """Where particles go: the kernel-weighted mean of their scores, and away from each other.

    Args:
        points: (n, dim).
        scores: Gradients of the log-density there, (n, dim).

    Returns:
        (n, dim).

    Example:
        >>> direction(torch.tensor([[-1.0], [1.0]]), torch.zeros(2, 1)).tolist()[0][0] < 0
        True
    """
    n = len(points)
    squares = torch.cdist(points, points).square()
    apart = ~torch.eye(n, dtype=torch.bool)
    bandwidth = squares[apart].median().clamp(min=1e-12) / torch.log(
        torch.tensor(n + 1.0, dtype=points.dtype)
    )
    kernel = torch.exp(-squares / bandwidth)
    # The sum over j of (x_i - x_j) k(x_j, x_i) 2 / h.
    repulsion = 2 / bandwidth * (points * kernel.sum(1, keepdim=True) - kernel @ points)
    return (kernel @ scores + repulsion) / n
