"""Several recipes and seeds under one budget, judged on the same data."""

from jensen.runs.comparing.comparison import compare
from jensen.runs.comparing.differences import Difference, paired_difference
from jensen.runs.comparing.fits import Outcome
from jensen.runs.comparing.result import Comparison, Row
from jensen.runs.comparing.tables import as_csv, as_markdown, as_record

__all__ = [
    "Comparison",
    "Difference",
    "Outcome",
    "Row",
    "as_csv",
    "as_markdown",
    "as_record",
    "compare",
    "paired_difference",
]
