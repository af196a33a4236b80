"""Probabilistic backpropagation for ReLU networks."""

from jensen.weights.pbp.fitting import fit_pbp
from jensen.weights.pbp.options import PbpOptions
from jensen.weights.pbp.posterior import PbpPosterior

__all__ = ["PbpOptions", "PbpPosterior", "fit_pbp"]
