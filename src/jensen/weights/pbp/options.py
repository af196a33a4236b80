"""What probabilistic backpropagation can be told."""

from pydantic import Field

from jensen.weights.options import Options


class PbpOptions(Options):
    """Options of method "pbp": how often data are gone over, and the priors of the precisions."""

    epochs: int = Field(40, ge=0, description="passes over the data, each followed by one over the prior")
    batch_size: int | None = Field(
        None,
        gt=0,
        description="data that are held against one state; 1 is the paper's, more is faster; None: one more for each "
        "250 data, at most 10",
    )
    shape: float = Field(
        6.0, gt=2, description="of the Gamma priors of the noise's and the weights' precision"
    )
    rate: float = Field(6.0, gt=0, description="of these Gamma priors")

    def batch(self, n: int) -> int:
        """Data that are held against one state, of n.

        Example:
            >>> PbpOptions().batch(600)
            3
        """
        return self.batch_size or min(10, 1 + n // 250)
