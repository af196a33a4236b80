"""Runs: fitted recipes as folders; fitting, saving, loading, resuming, watching, comparing."""

from jensen.runs.comparing import Comparison, Difference, Outcome, Row, compare, paired_difference
from jensen.runs.fitting import fit
from jensen.runs.loggers import LOGGERS
from jensen.runs.predictions import doubts, judge, predict, probabilities
from jensen.runs.run import Run, read_recipe
from jensen.runs.snapshots import Snapshot, State, find, snapshot, snapshots
from jensen.runs.streams import default_fraction, prepared, was_streamed
from jensen.runs.supervising import class_numbers, targets_of
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
    "class_numbers",
    "compare",
    "default_fraction",
    "doubts",
    "find",
    "fit",
    "judge",
    "paired_difference",
    "predict",
    "prepared",
    "probabilities",
    "read_recipe",
    "snapshot",
    "snapshots",
    "targets_of",
    "was_streamed",
]
