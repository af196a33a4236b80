"""Honest evaluation: log p(x) with its error, the gap of the bound, what the latents do."""

from jensen.evaluation.evaluate import Numbers, evaluate, part_seed, summarise
from jensen.evaluation.importance import MEMORY, ImportancePass, evidence, importance_pass
from jensen.evaluation.latents import (
    active_units,
    kl_per_dimension,
    posterior_means,
    reconstruction_error,
    reconstruction_errors,
    reconstructions,
)
from jensen.information import Estimate as Estimate

__all__ = [
    "MEMORY",
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
