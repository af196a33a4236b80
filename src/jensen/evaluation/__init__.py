"""Honest evaluation: log p(x) with its error, the gap of the bound, what the latents do."""

from jensen.evaluation.evaluate import Numbers, evaluate, part_seed, summarise
from jensen.evaluation.importance import MEMORY, Estimate, ImportancePass, evidence, importance_pass
from jensen.evaluation.latents import (
    active_units,
    kl_per_dimension,
    posterior_means,
    reconstruction_error,
    reconstruction_errors,
    reconstructions,
)

__all__ = [
    "MEMORY",
    "Estimate",
    "ImportancePass",
    "Numbers",
    "active_units",
    "evaluate",
    "evidence",
    "importance_pass",
    "kl_per_dimension",
    "part_seed",
    "posterior_means",
    "reconstruction_error",
    "reconstruction_errors",
    "reconstructions",
    "summarise",
]
