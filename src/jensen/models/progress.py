"""What a solver tells after each of its iterations."""

from dataclasses import dataclass

from jaxtyping import Bool
from torch import Tensor


@dataclass(frozen=True)
class Iteration:
    """One iteration of a solver.

    Attributes:
        number: Counted from 1.
        bound: The objective in nats a datum, all constants kept, of the parameters that the iteration began with or,
            in the last record, those that are kept.
        converged: Whether this is the last one because nothing improves.
        note: What the answer has to be read with, such as a variance at its lowest value; empty if there is nothing.
    """

    number: int
    bound: float
    converged: bool = False
    note: str = ""


def floor_note(low: Bool[Tensor, " k"], what: str) -> str:
    """What to say where variances are at the lowest value they may take; empty if none is.

    Args:
        low: Which of them.
        what: Whose variances they are, in the plural.

    Example:
        >>> import torch
        >>> floor_note(torch.tensor([True, False]), "components")
        'the variance of 1 of 2 components is at the lowest value allowed: the likelihood would grow without a bound'
    """
    count = int(low.sum())
    if not count:
        return ""
    return (
        f"the variance of {count} of {low.numel()} {what} is at the lowest value allowed: "
        "the likelihood would grow without a bound"
    )
