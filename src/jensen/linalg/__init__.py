"""Structured matrices as values with algebra."""

from jensen.linalg.kronecker import Factor, Kronecker
from jensen.linalg.low_rank import LowRankPlusDiagonal

__all__ = ["Factor", "Kronecker", "LowRankPlusDiagonal"]
