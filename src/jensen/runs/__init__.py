"""Runs: fitted recipes as folders; fitting, saving, loading, resuming."""

from jensen.runs.fitting import Silent, Watcher, fit
from jensen.runs.run import Run

__all__ = ["Run", "Silent", "Watcher", "fit"]
