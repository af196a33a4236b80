"""A small fit: a regression whose steps may be random, whose gradient may fail, and whose every step is seen."""

from collections.abc import Callable, Container
from typing import Any

import torch
from torch import Tensor, nn

from jensen.training import ArrayBatches, Batch, Progress, Settings, Training

N = 48


class Regression(nn.Module):
    """Half the squared error of a small network, with dropout and noise, both from torch's generator.

    Args:
        noise: Standard deviation of what is added to the inputs; with it a tenth of them is dropped too.
        broken: Steps whose gradient is not finite.
        scale: Of the loss.
    """

    def __init__(self, noise: float = 0.0, broken: Container[int] = (), scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.network = nn.Sequential(
            nn.Linear(3, 8), nn.Tanh(), nn.Dropout(0.1 if noise else 0.0), nn.Linear(8, 1)
        )
        self.noise = noise
        self.broken = broken
        self.scale = scale
        self.seen: list[Progress] = []
        self.modes: list[bool] = []

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen.append(progress)
        self.modes.append(self.training)
        x = batch.x + self.noise * torch.randn_like(batch.x) if self.noise else batch.x
        error = 0.5 * (self.network(x)[:, 0] - batch.x.sum(-1)).square().mean()
        loss = self.scale * error * (torch.nan if progress.step in self.broken else 1.0)
        return loss, {"loss": loss.detach(), "step": torch.tensor(float(progress.step))}


def data() -> Tensor:
    return torch.randn(N, 3, generator=torch.Generator().manual_seed(3))


def weights(module: nn.Module) -> Tensor:
    """A copy of all parameters in one row."""
    return torch.cat([parameter.detach().flatten() for parameter in module.parameters()])


def settings(**more: Any) -> Settings:
    return Settings(**({"epochs": 6, "learning_rate": 0.02, "averaging": 0.9, "patience": None} | more))


def training(
    objective: nn.Module | None = None,
    seed: int = 0,
    validate: Callable[[], Tensor] | None = None,
    on_step: Callable[[int], None] | None = None,
    **more: Any,
) -> Training:
    """Twelve steps an epoch, unless told otherwise."""
    with torch.random.fork_rng():
        objective = Regression() if objective is None else objective
    batches = ArrayBatches(data(), 4, seed)
    return Training(objective, batches, settings(**more), seed, validate, on_step)
