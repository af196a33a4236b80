"""The report of a comparison: one self-contained HTML page about several models on the same data."""

from jensen.report.comparison.page import build_comparison, write_comparison

__all__ = ["build_comparison", "write_comparison"]
