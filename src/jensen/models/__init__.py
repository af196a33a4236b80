"""Models: what is assembled from parts, and the protocols that evaluation types against."""

from jensen.models.conjugate import Coin, Conjugate, Die, NormalMean, NormalMeanPrecision, PoissonRate
from jensen.models.latent_variable import LatentVariableModel, Model, Simulator

__all__ = [
    "Coin",
    "Conjugate",
    "Die",
    "LatentVariableModel",
    "Model",
    "NormalMean",
    "NormalMeanPrecision",
    "PoissonRate",
    "Simulator",
]
