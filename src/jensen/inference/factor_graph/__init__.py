"""Discrete factor graphs and directed networks: bounds on log Z from both sides, estimates, exact answers."""

from jensen.inference.factor_graph.belief_propagation import BeliefPropagation, belief_propagation
from jensen.inference.factor_graph.beliefs import Beliefs
from jensen.inference.factor_graph.elimination import (
    LARGEST_TABLE,
    Exact,
    enumerated_log_z,
    exact,
    exact_log_z,
    query,
)
from jensen.inference.factor_graph.factor import Factor
from jensen.inference.factor_graph.free_energy import variational_free_energy
from jensen.inference.factor_graph.graph import FactorGraph, Group
from jensen.inference.factor_graph.ising import (
    CRITICAL_COUPLING,
    ising_grid,
    ising_log_z,
    onsager_log_z_per_spin,
    onsager_magnetisation,
    torus_log_z,
)
from jensen.inference.factor_graph.mean_field import MeanField, mean_field
from jensen.inference.factor_graph.network import BayesianNetwork, ConditionalTable
from jensen.inference.factor_graph.tree_reweighted import TreeReweighted, tree_reweighted

__all__ = [
    "CRITICAL_COUPLING",
    "LARGEST_TABLE",
    "BayesianNetwork",
    "BeliefPropagation",
    "Beliefs",
    "ConditionalTable",
    "Exact",
    "Factor",
    "FactorGraph",
    "Group",
    "MeanField",
    "TreeReweighted",
    "belief_propagation",
    "enumerated_log_z",
    "exact",
    "exact_log_z",
    "ising_grid",
    "ising_log_z",
    "mean_field",
    "onsager_log_z_per_spin",
    "onsager_magnetisation",
    "query",
    "torus_log_z",
    "tree_reweighted",
    "variational_free_energy",
]
