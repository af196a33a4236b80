"""Honest evaluation: log p(x) with its error, the gap of the bound, what the latents do."""

from jensen.evaluation.annealing import Annealing, AnnealingPass, annealing_pass
from jensen.evaluation.bracket import Bracket, bracket
from jensen.evaluation.calibration import (
    CalibrationError,
    Reliability,
    calibration_error,
    reliability,
    top_label,
)
from jensen.evaluation.curve import BoundCurve, bound_curve
from jensen.evaluation.evaluate import Numbers, evaluate, evaluate_exact, part_seed, summarise
from jensen.evaluation.evaluate_gap import GAP_DATA, evaluate_gap
from jensen.evaluation.evidence import evidence
from jensen.evaluation.gap import Gap, gap
from jensen.evaluation.importance import ImportancePass, importance_pass
from jensen.evaluation.intervals import Coverage, interval_coverage
from jensen.evaluation.latents import (
    active_units,
    kl_per_dimension,
    posterior_means,
    reconstruction_error,
    reconstruction_errors,
    reconstructions,
)
from jensen.evaluation.memory import MEMORY
from jensen.evaluation.predictions import brier_scores, evaluate_classifier, evaluate_regressor
from jensen.evaluation.refine import Refinement, refine
from jensen.evaluation.selection import RiskCoverage, Separation, risk_coverage, separation
from jensen.information import Estimate as Estimate

__all__ = [
    "GAP_DATA",
    "MEMORY",
    "Annealing",
    "AnnealingPass",
    "BoundCurve",
    "Bracket",
    "CalibrationError",
    "Coverage",
    "Gap",
    "ImportancePass",
    "Numbers",
    "Refinement",
    "Reliability",
    "RiskCoverage",
    "Separation",
    "active_units",
    "annealing_pass",
    "bound_curve",
    "bracket",
    "brier_scores",
    "calibration_error",
    "evaluate",
    "evaluate_classifier",
    "evaluate_exact",
    "evaluate_gap",
    "evaluate_regressor",
    "evidence",
    "gap",
    "importance_pass",
    "interval_coverage",
    "kl_per_dimension",
    "part_seed",
    "posterior_means",
    "reconstruction_error",
    "reconstruction_errors",
    "reconstructions",
    "refine",
    "reliability",
    "risk_coverage",
    "separation",
    "summarise",
    "top_label",
]
