"""What Laplace's approximation can be told."""

from typing import Literal

from pydantic import Field

from jensen.weights.options import TrainingOptions


class LaplaceOptions(TrainingOptions):
    """Options of method "laplace": how the most probable weights are found, and what is kept of the curvature."""

    structure: Literal["diagonal", "kronecker", "full"] = Field(
        "kronecker", description="what is kept of the posterior's precision"
    )
    subset: str | list[str] = Field(
        "all",
        description="weights that are unknown: 'all', 'last-layer', 'subnetwork', or names of layers or weights; the "
        "others stay at their most probable values",
    )
    subnetwork_size: int = Field(
        1000, gt=0, description="weights in a subnetwork: those of the largest variance in a diagonal fit"
    )
    curvature: Literal["ggn", "empirical"] = Field(
        "ggn", description="generalised Gauss-Newton matrix, or the sum of squared gradients"
    )
    rounds: int = Field(
        2, gt=0, description="how often the curvature is taken anew while prior and noise are tuned"
    )
    polish: int = Field(
        10,
        ge=0,
        description="steps over all data a round towards the most probable weights; 0 leaves them as trained",
    )
    predictive: Literal["linearised", "sampled"] = Field(
        "linearised", description="whether predictions linearise the network or draw weights"
    )
