"""What distributions over all real vectors share."""

from typing import Any

from torch.distributions import Distribution, constraints


class VectorDistribution(Distribution):
    """A distribution over all real vectors, whose constructor says what it asks of its parameters."""

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """Nothing is asked beyond what the constructor says."""
        return {}

    @property
    def support(self) -> Any:
        """All vectors."""
        return constraints.real_vector
