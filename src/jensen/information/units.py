"""Nats and bits."""

from math import log

from torch import Tensor

from jensen.errors import ConfigError, unknown

_NATS = {"nats": 1.0, "bits": log(2)}


def in_unit(nats: Tensor, unit: str) -> Tensor:
    """Nats in another unit.

    Args:
        nats: Any shape.
        unit: "nats" or "bits".

    Returns:
        The same quantities in that unit.

    Raises:
        ConfigError: For another unit.
    """
    if unit not in _NATS:
        raise ConfigError(unknown("unit", unit, _NATS))
    return nats / _NATS[unit]
