"""Runs: fitted recipes as folders; fitting, saving, loading, resuming."""

from jensen.runs.fitting import Silent, Watcher, fit
from jensen.runs.run import Run
from jensen.runs.streams import default_fraction, prepared, was_streamed

__all__ = ["Run", "Silent", "Watcher", "default_fraction", "fit", "prepared", "was_streamed"]
