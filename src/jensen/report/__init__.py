"""The report: one self-contained HTML page that shows a fitted Run, or a comparison, to somebody who did not fit it."""

from jensen.report.comparison import build_comparison, write_comparison
from jensen.report.writing import build, write

__all__ = ["build", "build_comparison", "write", "write_comparison"]
