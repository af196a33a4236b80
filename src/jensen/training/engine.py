"""The device that a fit runs on, by way of Lightning Fabric."""

from typing import TYPE_CHECKING, Literal

import torch

from jensen.errors import ConfigError

if TYPE_CHECKING:
    from lightning_fabric import Fabric

Device = Literal["auto", "cpu", "cuda"]


def resolve(device: str) -> torch.device:
    """The device of that name; "auto" is a GPU if there is one.

    Raises:
        ConfigError: If there is no such device on this machine.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if device not in ("cpu", "cuda"):
        raise ConfigError(f"unknown device '{device}'; there are: auto, cpu, cuda")
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "device 'cuda' was asked for, but torch sees no GPU here; use device='cpu' or 'auto'"
        )
    return torch.device(device)


def engine(device: torch.device) -> "Fabric":
    """A Fabric for one process on that device; imported here because the import takes seconds."""
    from lightning_fabric import Fabric

    return Fabric(accelerator=device.type, devices=1)
