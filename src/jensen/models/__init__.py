"""Models: what is assembled from parts, and the protocols that evaluation types against."""

from jensen.models.conjugate import Coin, Conjugate, Die, NormalMean, NormalMeanPrecision, PoissonRate
from jensen.models.hidden_markov import HiddenMarkov
from jensen.models.latent_variable import LatentVariableModel, Model, Simulator
from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.mixture import Mixture

__all__ = [
    "Coin",
    "Conjugate",
    "Die",
    "HiddenMarkov",
    "LatentVariableModel",
    "LinearGaussian",
    "Mixture",
    "Model",
    "NormalMean",
    "NormalMeanPrecision",
    "PoissonRate",
    "Simulator",
]
