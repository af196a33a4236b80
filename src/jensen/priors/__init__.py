"""Priors p(z): Conditionals over a vector of latents."""

from collections.abc import Callable

from jensen.distributions import Conditional
from jensen.priors.categorical import ClassPrior
from jensen.priors.mixture import NormalMixture
from jensen.priors.normal import LearnedNormal, StandardNormal
from jensen.registry import Registry

PRIORS: Registry[Callable[..., Conditional]] = Registry(
    "prior",
    {
        "normal": StandardNormal,
        "learned-normal": LearnedNormal,
        "mixture": NormalMixture,
        "class": ClassPrior,
    },
)
"""Called with the number of latents, and options by name."""

__all__ = ["PRIORS", "ClassPrior", "LearnedNormal", "NormalMixture", "StandardNormal"]
