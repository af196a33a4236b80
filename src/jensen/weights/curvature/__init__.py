"""Curvature of a network's log-likelihood in its weights: diagonal, Kronecker-factored or full."""

from collections.abc import Callable

from jensen.registry import Registry
from jensen.weights.curvature.dense import full
from jensen.weights.curvature.diagonal import diagonal
from jensen.weights.curvature.kronecker import kronecker
from jensen.weights.curvature.packing import Packing
from jensen.weights.curvature.precision import Block, Precision
from jensen.weights.curvature.problem import Curvature, CurvatureProblem

STRUCTURES: Registry[Callable[[CurvatureProblem], Precision]] = Registry(
    "structure", {"diagonal": diagonal, "kronecker": kronecker, "full": full}
)
"""What can be kept of a curvature."""

__all__ = ["STRUCTURES", "Block", "Curvature", "CurvatureProblem", "Packing", "Precision"]
