"""Latent-variable models and variational inference: every model with a bound on its evidence.

Public names are loaded when they are first used, so that the command answers at once.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jensen import (
        bounds,
        data,
        diagnostics,
        distributions,
        evaluation,
        inference,
        information,
        likelihoods,
        models,
        nets,
        posteriors,
        priors,
        weights,
    )
    from jensen.estimators import (
        PPCA,
        VAE,
        BayesianClassifier,
        BayesianRegressor,
        BernoulliMixture,
        FactorAnalysis,
        GaussianMixture,
        HiddenMarkovModel,
        load,
    )

__version__ = "0.1.0"

_ROOMS = (
    "bounds",
    "data",
    "diagnostics",
    "distributions",
    "evaluation",
    "inference",
    "information",
    "likelihoods",
    "models",
    "nets",
    "posteriors",
    "priors",
    "weights",
)
_NAMES = dict.fromkeys(
    (
        "PPCA",
        "VAE",
        "BayesianClassifier",
        "BayesianRegressor",
        "BernoulliMixture",
        "FactorAnalysis",
        "GaussianMixture",
        "HiddenMarkovModel",
        "load",
    ),
    "jensen.estimators",
)

__all__ = [
    "PPCA",
    "VAE",
    "BayesianClassifier",
    "BayesianRegressor",
    "BernoulliMixture",
    "FactorAnalysis",
    "GaussianMixture",
    "HiddenMarkovModel",
    "bounds",
    "data",
    "diagnostics",
    "distributions",
    "evaluation",
    "inference",
    "information",
    "likelihoods",
    "load",
    "models",
    "nets",
    "posteriors",
    "priors",
    "weights",
]


def __getattr__(name: str) -> Any:
    """Loads a room or a public name when it is first asked for."""
    if name in _ROOMS:
        return import_module(f"jensen.{name}")
    if name in _NAMES:
        return getattr(import_module(_NAMES[name]), name)
    raise AttributeError(f"module 'jensen' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The public names."""
    return sorted([*__all__, "__version__"])
