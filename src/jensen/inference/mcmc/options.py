"""Checks of the options that samplers share."""

from jensen.errors import ConfigError
from jensen.inference.target import Target

FEWEST_ROWS = 16
"""Chains that a warm-up is made with at least; in one batch they cost little, and what they learn is pooled."""


def check_counts(draws: int, chains: int, warmup: int, thin: int = 1) -> None:
    """Refuses numbers of draws and chains that aren't.

    Raises:
        ConfigError: If one is too small.
    """
    least = {"draws": 1, "chains": 1, "warmup": 0, "thin": 1}
    for name, value in {"draws": draws, "chains": chains, "warmup": warmup, "thin": thin}.items():
        if value < least[name]:
            raise ConfigError(f"{name} is {value}; it has to be at least {least[name]}")


def check_real(target: Target, sampler: str) -> None:
    """Refuses a target that keeps discrete parameters, for samplers that move along real coordinates.

    Raises:
        ConfigError: If it does; the message says what to do.
    """
    if target.sites is not None:
        raise target.sites.refusal(sampler)


def check_share(name: str, value: float) -> None:
    """Refuses a number that isn't between 0 and 1.

    Raises:
        ConfigError: If it isn't.
    """
    if not 0 < value < 1:
        raise ConfigError(f"{name} is {value}; it has to lie between 0 and 1")
