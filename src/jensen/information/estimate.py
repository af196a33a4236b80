"""A number and how far it may be off."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class Estimate:
    """A number for each datum or member of a batch, and how far it may be off.

    Attributes:
        value: In nats, or in the unit that was asked for, (*batch).
        standard_error: Of that value, in its unit, (*batch); zero where the value is exact.
        samples: Draws for each value; zero where the value is exact.

    Example:
        >>> import torch
        >>> float(Estimate(torch.tensor(1.5), torch.tensor(0.0), 0))
        1.5
    """

    value: Float[Tensor, "*batch"]
    standard_error: Float[Tensor, "*batch"]
    samples: int

    def __float__(self) -> float:
        """The value, where it is one number."""
        return float(self.value)
