"""What a solver tells after each of its iterations."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Iteration:
    """One iteration of a solver.

    Attributes:
        number: Counted from 1.
        bound: The objective in nats a datum, all constants kept, of the parameters that the iteration began with or,
            in the last record, those that are kept.
        converged: Whether this is the last one because nothing improves.
    """

    number: int
    bound: float
    converged: bool = False
