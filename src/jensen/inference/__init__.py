"""Inference on a user's own log-joint, by variational families and by Markov chains, and on factor graphs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from jensen.inference.fit import METHODS, Method, fit
from jensen.inference.fitted import Fit
from jensen.inference.parameters import (
    Parameter,
    cholesky_correlation,
    discrete,
    interval,
    lower_bounded,
    ordered,
    positive,
    positive_ordered,
    real,
    simplex,
)
from jensen.inference.score import Score
from jensen.inference.stochastic import Ascending, Stochastic, stochastic
from jensen.inference.summary import Summary
from jensen.inference.target import Target

if TYPE_CHECKING:
    from jensen.inference import mcmc
    from jensen.inference.factor_graph import (
        CRITICAL_COUPLING,
        LARGEST_TABLE,
        BayesianNetwork,
        BeliefPropagation,
        Beliefs,
        ConditionalTable,
        Exact,
        Factor,
        FactorGraph,
        Group,
        MeanField,
        TreeReweighted,
        belief_propagation,
        enumerated_log_z,
        exact,
        exact_log_z,
        ising_grid,
        ising_log_z,
        mean_field,
        onsager_log_z_per_spin,
        onsager_magnetisation,
        query,
        torus_log_z,
        tree_reweighted,
        variational_free_energy,
    )

__all__ = [
    "CRITICAL_COUPLING",
    "LARGEST_TABLE",
    "METHODS",
    "Ascending",
    "BayesianNetwork",
    "BeliefPropagation",
    "Beliefs",
    "ConditionalTable",
    "Exact",
    "Factor",
    "FactorGraph",
    "Fit",
    "Group",
    "MeanField",
    "Method",
    "Parameter",
    "Score",
    "Stochastic",
    "Summary",
    "Target",
    "TreeReweighted",
    "belief_propagation",
    "cholesky_correlation",
    "discrete",
    "enumerated_log_z",
    "exact",
    "exact_log_z",
    "fit",
    "interval",
    "ising_grid",
    "ising_log_z",
    "lower_bounded",
    "mcmc",
    "mean_field",
    "onsager_log_z_per_spin",
    "onsager_magnetisation",
    "ordered",
    "positive",
    "positive_ordered",
    "query",
    "real",
    "simplex",
    "stochastic",
    "torus_log_z",
    "tree_reweighted",
    "variational_free_energy",
]


def __getattr__(name: str) -> Any:
    """Chains and factor graphs are loaded when they are first asked for; these bring scipy along."""
    if name == "mcmc":
        return import_module("jensen.inference.mcmc")
    if name in __all__:
        return getattr(import_module("jensen.inference.factor_graph"), name)
    raise AttributeError(f"module 'jensen.inference' has no attribute '{name}'")
