"""Honest evaluation: log p(x) with its error, the gap of the bound, what the latents do."""

from jensen.evaluation.evaluate import Numbers, evaluate, evaluate_exact
from jensen.evaluation.importance import MEMORY, Estimate, ImportancePass, evidence, importance_pass
from jensen.evaluation.latents import (
    active_units,
    kl_per_dimension,
    posterior_means,
    reconstruction_error,
    reconstructions,
)

__all__ = [
    "MEMORY",
    "Estimate",
    "ImportancePass",
    "Numbers",
    "active_units",
    "evaluate",
    "evaluate_exact",
    "evidence",
    "importance_pass",
    "kl_per_dimension",
    "posterior_means",
    "reconstruction_error",
    "reconstructions",
]
