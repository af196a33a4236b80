"""scikit-learn faces of the recipes; all walk the path that the command walks."""

from jensen.estimators.vae import VAE, load

__all__ = ["VAE", "load"]
