"""Runs: fitted recipes as folders; fitting, saving, loading, resuming, watching, comparing."""

from jensen.runs.comparing import Comparison, Difference, Outcome, Row, compare, paired_difference
from jensen.runs.fitting import fit
from jensen.runs.loggers import LOGGERS
from jensen.runs.run import Run
from jensen.runs.snapshots import Snapshot, State, find, snapshot, snapshots
from jensen.runs.streams import default_fraction, prepared, was_streamed
from jensen.runs.watching import Several, Silent, Watcher

__all__ = [
    "LOGGERS",
    "Comparison",
    "Difference",
    "Outcome",
    "Row",
    "Run",
    "Several",
    "Silent",
    "Snapshot",
    "State",
    "Watcher",
    "compare",
    "default_fraction",
    "find",
    "fit",
    "paired_difference",
    "prepared",
    "snapshot",
    "snapshots",
    "was_streamed",
]
