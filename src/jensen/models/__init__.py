"""Models: what is assembled from parts, and the protocol that evaluation types against."""

from jensen.models.latent_variable import LatentVariableModel, Model

__all__ = ["LatentVariableModel", "Model"]
