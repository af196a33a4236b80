"""Laplace's approximation of the posterior over weights."""

from jensen.weights.laplace.fitting import fit_laplace
from jensen.weights.laplace.options import LaplaceOptions
from jensen.weights.laplace.posterior import LaplacePosterior

__all__ = ["LaplaceOptions", "LaplacePosterior", "fit_laplace"]
