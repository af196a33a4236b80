"""Structured matrices as values with algebra."""

from jensen.linalg.low_rank import LowRankPlusDiagonal

__all__ = ["LowRankPlusDiagonal"]
