"""Honest evaluation: log p(x) with its error, the gap of the bound, what the latents do."""

from jensen.evaluation.annealing import Annealing, AnnealingPass, annealing_pass
from jensen.evaluation.bracket import Bracket, bracket
from jensen.evaluation.curve import BoundCurve, bound_curve
from jensen.evaluation.evaluate import Numbers, evaluate, evaluate_exact, part_seed, summarise
from jensen.evaluation.evaluate_gap import GAP_DATA, evaluate_gap
from jensen.evaluation.evidence import evidence
from jensen.evaluation.gap import Gap, gap
from jensen.evaluation.importance import ImportancePass, importance_pass
from jensen.evaluation.latents import (
    active_units,
    kl_per_dimension,
    posterior_means,
    reconstruction_error,
    reconstruction_errors,
    reconstructions,
)
from jensen.evaluation.memory import MEMORY
from jensen.evaluation.refine import Refinement, refine
from jensen.information import Estimate as Estimate

__all__ = [
    "GAP_DATA",
    "MEMORY",
    "Annealing",
    "AnnealingPass",
    "BoundCurve",
    "Bracket",
    "Gap",
    "ImportancePass",
    "Numbers",
    "Refinement",
    "active_units",
    "annealing_pass",
    "bound_curve",
    "bracket",
    "evaluate",
    "evaluate_exact",
    "evaluate_gap",
    "evidence",
    "gap",
    "importance_pass",
    "kl_per_dimension",
    "part_seed",
    "posterior_means",
    "reconstruction_error",
    "reconstruction_errors",
    "reconstructions",
    "refine",
    "summarise",
]
