"""Models: what is assembled from parts, and the protocols that evaluation types against."""

from jensen.models.latent_variable import LatentVariableModel, Model, Simulator

__all__ = ["LatentVariableModel", "Model", "Simulator"]
