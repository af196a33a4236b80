"""Posteriors over the weights of a user's own torch network."""

from jensen.weights.fitting import KINDS, METHODS, Method, fit, load
from jensen.weights.laplace import LaplacePosterior
from jensen.weights.likelihoods import LIKELIHOODS, Likelihood
from jensen.weights.members import MembersPosterior
from jensen.weights.network import FunctionalNetwork
from jensen.weights.normal import NormalPosterior
from jensen.weights.pbp import PbpPosterior
from jensen.weights.posterior import Posterior
from jensen.weights.predictive import MixturePredictive, NormalPredictive, Predictive, linearised
from jensen.weights.priors import PRIORS, Prior
from jensen.weights.problem import Problem
from jensen.weights.rescaled import RescaledPredictive
from jensen.weights.standardised import Standardised

__all__ = [
    "KINDS",
    "LIKELIHOODS",
    "METHODS",
    "PRIORS",
    "FunctionalNetwork",
    "LaplacePosterior",
    "Likelihood",
    "MembersPosterior",
    "Method",
    "MixturePredictive",
    "NormalPosterior",
    "NormalPredictive",
    "PbpPosterior",
    "Posterior",
    "Predictive",
    "Prior",
    "Problem",
    "RescaledPredictive",
    "Standardised",
    "fit",
    "linearised",
    "load",
]
