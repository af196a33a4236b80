"""One factor of a product: a table over named variables."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from jensen.errors import ConfigError, DataError, ShapeError


@dataclass(frozen=True)
class Factor:
    r"""A non-negative function of some variables, :math:`\phi(x_a, x_b, ...)`, by its logarithm.

    Attributes:
        variables: Names, one for each axis of the table.
        log_table: Logarithms in nats, float64; -inf where a configuration is impossible.

    Raises:
        ShapeError: If names and axes differ in number.
        ConfigError: If a variable is named twice.
        DataError: If an entry is NaN or +inf, or all are -inf.

    Example:
        >>> Factor(("rain", "wet"), [[0.0, -1.0], [-2.0, 0.0]]).log_table.shape
        torch.Size([2, 2])
    """

    variables: tuple[str, ...]
    log_table: Float[Tensor, "*states"]

    def __init__(self, variables: Sequence[str], log_table: float | ArrayLike | Tensor) -> None:
        if isinstance(variables, str):
            variables = (variables,)
        table = torch.as_tensor(log_table, dtype=torch.float64).detach()
        object.__setattr__(self, "variables", tuple(variables))
        object.__setattr__(self, "log_table", table)
        label = ", ".join(self.variables)
        if table.ndim != len(self.variables) or 0 in table.shape:
            raise ShapeError(
                f"the table over ({label}) has shape {tuple(table.shape)}; wanted one axis for each of its "
                f"{len(self.variables)} variables, with an entry for each state"
            )
        if len(set(self.variables)) < len(self.variables):
            raise ConfigError(f"a variable is named twice in ({label}); take the diagonal of the table")
        if bool(torch.isnan(table).any()) or bool((table == torch.inf).any()):
            raise DataError(
                f"the log-table over ({label}) holds NaN or +inf; finite numbers and -inf are allowed"
            )
        if bool((table == -torch.inf).all()):
            raise DataError(
                f"the table over ({label}) is zero everywhere, so every configuration is impossible"
            )

    @classmethod
    def from_table(cls, variables: Sequence[str], table: float | ArrayLike | Tensor) -> "Factor":
        """A factor from its values, of which none is negative; they needn't sum to one.

        Args:
            variables: Names, one for each axis.
            table: Values.

        Returns:
            The factor.

        Raises:
            DataError: If a value is negative or not finite, or all are zero.
            ShapeError: If names and axes differ in number.

        Example:
            >>> Factor.from_table(("coin",), [1.0, 0.0]).log_table
            tensor([0., -inf], dtype=torch.float64)
        """
        values = torch.as_tensor(table, dtype=torch.float64)
        if bool((values < 0).any()):
            raise DataError(
                f"the table over ({', '.join(variables)}) holds the negative number {float(values.min()):g}; "
                "if these are logarithms, give them to Factor itself"
            )
        return cls(variables, values.log())
