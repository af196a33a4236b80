"""Diagnostics of draws and of importance weights: Pareto k-hat, effective sample size, R-hat."""
