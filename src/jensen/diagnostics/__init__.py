"""Diagnostics of draws and of importance weights: Pareto k-hat, effective sample size, R-hat."""

from jensen.diagnostics.effective_size import ess_bulk, ess_mean, ess_quantile, ess_tail, mcse_mean, mcse_sd
from jensen.diagnostics.energy import e_bfmi
from jensen.diagnostics.pareto import RELIABLE_K, ParetoFit, Smoothed, kish_size, pareto_fit, psis
from jensen.diagnostics.r_hat import r_hat

__all__ = [
    "RELIABLE_K",
    "ParetoFit",
    "Smoothed",
    "e_bfmi",
    "ess_bulk",
    "ess_mean",
    "ess_quantile",
    "ess_tail",
    "kish_size",
    "mcse_mean",
    "mcse_sd",
    "pareto_fit",
    "psis",
    "r_hat",
]
