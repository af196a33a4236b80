"""A precision over a network's weights as independent blocks, each a Kronecker value."""

from collections.abc import Callable, Sequence
from math import prod
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.linalg import Kronecker
from jensen.weights.curvature.packing import Packing, Weights


class Block(NamedTuple):
    """Some weights and the matrix that acts on them.

    Attributes:
        packing: How they lie in one tensor.
        matrix: Acts on that tensor.
    """

    packing: Packing
    matrix: Kronecker

    def packed(self, values: Weights) -> Tensor:
        """The weights in one tensor, in the matrix's number type."""
        return self.packing.pack(values).to(self.matrix.factors[0].matrix.dtype)


class Precision:
    r"""A block-diagonal precision over some of a network's weights.

    A diagonal, a Kronecker and a full structure are the same value with other factors: one diagonal factor, two
    factors a layer, one dense factor.

    Args:
        blocks: Independent of each other.

    Example:
        >>> from jensen.linalg import Factor
        >>> packing = Packing(("weight", "bias"), ((2, 3), (2,)))
        >>> precision = Precision([Block(packing, Kronecker([Factor(torch.full((8,), 4.0))]))])
        >>> precision.variances()["bias"]
        tensor([0.2500, 0.2500])
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)

    @property
    def size(self) -> int:
        """Number of weights it is over."""
        return sum(prod(block.packing.shape) for block in self.blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the weights it is over."""
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.packing.names))

    @property
    def log_det(self) -> Float[Tensor, ""]:
        """Logarithm of the determinant, a number."""
        return torch.stack([block.matrix.log_det for block in self.blocks]).sum()

    def with_shifts(self, shifts: Sequence[float | Tensor]) -> "Precision":
        """The same products with other multiples of the identity, one a block; eigenbases are kept."""
        return Precision(
            [
                Block(block.packing, block.matrix.with_shift(shift))
                for block, shift in zip(self.blocks, shifts, strict=True)
            ]
        )

    def with_scale(self, scale: float | Tensor) -> "Precision":
        """The same products with another number before each of them; eigenbases are kept."""
        return Precision([Block(block.packing, block.matrix.with_scale(scale)) for block in self.blocks])

    def plus(self, other: "Precision") -> "Precision":
        """The sum with a precision of the same packing; the nearest product where there are two factors."""
        return Precision(
            [
                Block(mine.packing, mine.matrix.plus(theirs.matrix))
                for mine, theirs in zip(self.blocks, other.blocks, strict=True)
            ]
        )

    def quadratic(self, deviations: Weights) -> Float[Tensor, "..."]:
        """d^T M d for deviations by name, (..., *shape) each; the leading shape."""
        parts = [block.matrix.quadratic(block.packed(deviations)) for block in self.blocks]
        return torch.stack(parts).sum(0)

    def squares(self, deviations: Weights) -> Float[Tensor, "blocks"]:
        """Sum of squares of the deviations in each block, (blocks,)."""
        return torch.stack([block.packed(deviations).square().sum() for block in self.blocks])

    def solve(self, values: Weights) -> dict[str, Tensor]:
        """M^-1 v for values by name, (..., *shape) each."""
        return self._each(lambda block: block.matrix.solve(block.packed(values)))

    def sample(self, n: int) -> dict[str, Tensor]:
        """Draws of N(0, M^-1) by name, (n, *shape) each, from torch's generator."""
        return self._each(lambda block: block.matrix.sample(n))

    def variances(self) -> dict[str, Tensor]:
        """Diagonal of M^-1 by name, the weights' shapes."""
        return self._each(lambda block: block.matrix.inverse_diagonal())

    def inverse_gram(self, jacobian: Weights) -> Float[Tensor, "... m m"]:
        """J M^-1 J^T without forming M.

        Args:
            jacobian: Rows of J by name, (..., m, *shape) each.

        Returns:
            (..., m, m).
        """
        parts = [block.matrix.inverse_gram(block.packed(jacobian)) for block in self.blocks]
        return torch.stack(parts).sum(0)

    def _each(self, make: Callable[[Block], Tensor]) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        for block in self.blocks:
            for name, value in block.packing.unpack(make(block)).items():
                result[name] = result[name] + value if name in result else value
        return result
