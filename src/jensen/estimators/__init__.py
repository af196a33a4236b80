"""scikit-learn faces of the recipes; all walk the path that the command walks."""

from jensen.estimators.bayesian import BayesianClassifier, BayesianRegressor
from jensen.estimators.hidden_markov import HiddenMarkovModel
from jensen.estimators.linear import PPCA, FactorAnalysis
from jensen.estimators.loading import load
from jensen.estimators.mixtures import BernoulliMixture, GaussianMixture
from jensen.estimators.vae import VAE

__all__ = [
    "PPCA",
    "VAE",
    "BayesianClassifier",
    "BayesianRegressor",
    "BernoulliMixture",
    "FactorAnalysis",
    "GaussianMixture",
    "HiddenMarkovModel",
    "load",
]
