"""The report: one self-contained HTML page that shows a fitted Run to somebody who did not fit it."""

from jensen.report.writing import build, write

__all__ = ["build", "write"]
