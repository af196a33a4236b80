"""Runs: fitted recipes as folders; fitting, saving, loading, resuming, watching."""

from jensen.runs.fitting import fit
from jensen.runs.loggers import LOGGERS
from jensen.runs.run import Run
from jensen.runs.snapshots import Snapshot, State, find, snapshot, snapshots
from jensen.runs.watching import Several, Silent, Watcher

__all__ = [
    "LOGGERS",
    "Run",
    "Several",
    "Silent",
    "Snapshot",
    "State",
    "Watcher",
    "find",
    "fit",
    "snapshot",
    "snapshots",
]
