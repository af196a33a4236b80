"""Posteriors q(z|x): Conditionals over a vector of latents given a datum."""

from jensen.posteriors.categorical import ClassPosterior
from jensen.posteriors.normal import DiagonalNormal, FullNormal
from jensen.registry import Registry

POSTERIORS: Registry[type[DiagonalNormal] | type[FullNormal] | type[ClassPosterior]] = Registry(
    "posterior",
    {
        "normal": DiagonalNormal,
        "full-normal": FullNormal,
        "class": ClassPosterior,
    },
)
"""Called with a network that returns ``parameter_shape(latent_dim)`` for one datum."""

__all__ = ["POSTERIORS", "ClassPosterior", "DiagonalNormal", "FullNormal"]
