"""Terms, lower bounds on log p(x) made of them, and estimators of the bounds' gradients."""

from functools import partial

from jensen.bounds.elbo import elbo
from jensen.bounds.gradients import (
    Bound,
    Estimate,
    GradientEstimator,
    doubly_reparameterised,
    pathwise,
    score_function,
    sticking_the_landing,
)
from jensen.bounds.importance import cubo_estimate, iwae, renyi
from jensen.bounds.objective import Stage, VariationalObjective
from jensen.bounds.terms import PATHWISE, Deferred, Draw, HasTerms, Samples, Terms
from jensen.bounds.weighted import weighted_elbo
from jensen.registry import Registry

BOUNDS: Registry[Bound] = Registry("bound", {"elbo": elbo, "iwae": iwae, "renyi": partial(renyi, alpha=0.5)})
"""Bounds by name; "renyi" is of order one half."""

GRADIENTS: Registry[GradientEstimator] = Registry(
    "gradient",
    {
        "pathwise": pathwise,
        "sticking-the-landing": sticking_the_landing,
        "doubly-reparameterised": doubly_reparameterised,
        "score": score_function,
    },
)
"""Gradient estimators by name."""

__all__ = [
    "BOUNDS",
    "GRADIENTS",
    "PATHWISE",
    "Bound",
    "Deferred",
    "Draw",
    "Estimate",
    "GradientEstimator",
    "HasTerms",
    "Samples",
    "Stage",
    "Terms",
    "VariationalObjective",
    "cubo_estimate",
    "doubly_reparameterised",
    "elbo",
    "iwae",
    "pathwise",
    "renyi",
    "score_function",
    "sticking_the_landing",
    "weighted_elbo",
]
