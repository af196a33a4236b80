"""Models: what is assembled from parts, and the protocol that evaluation types against."""

from jensen.models.hidden_markov import HiddenMarkov
from jensen.models.latent_variable import LatentVariableModel, Model
from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.mixture import Mixture

__all__ = ["HiddenMarkov", "LatentVariableModel", "LinearGaussian", "Mixture", "Model"]
