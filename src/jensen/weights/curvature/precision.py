"""A precision over a network's weights as independent blocks, each a Kronecker value."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.linalg import Factor, Kronecker
from jensen.weights.curvature.packing import Packing, Weights


@dataclass(frozen=True)
class Block:
    """Some weights and the matrix that acts on them.

    Attributes:
        packing: How they lie in one tensor.
        matrix: Acts on that tensor, in units.
        units: What a weight is divided by before the matrix acts on it; a number, or a vector for the columns.
    """

    packing: Packing
    matrix: Kronecker
    units: Tensor

    @property
    def count(self) -> int:
        """Number of weights."""
        return prod(self.packing.shape)

    def packed(self, values: Weights) -> Tensor:
        """Deviations in units, in one tensor of the matrix's number type."""
        return self.packing.pack(values).to(self.units.dtype) / self.units

    def packed_rows(self, rows: Weights) -> Tensor:
        """Rows of a Jacobian, taken in the deviations in units."""
        return self.packing.pack(rows).to(self.units.dtype) * self.units

    def unpacked(self, deviations: Tensor) -> dict[str, Tensor]:
        """Weights of deviations in units."""
        return self.packing.unpack(deviations * self.units)

    @property
    def log_det(self) -> Tensor:
        """Logarithm of the determinant as a precision of the weights themselves."""
        return self.matrix.log_det - 2 * self.units.log().expand(self.packing.shape).sum()

    def with_matrix(self, matrix: Kronecker) -> "Block":
        """Another matrix in the same units."""
        return Block(self.packing, matrix, self.units)

    def in_units(self, scales: Weights) -> "Block":
        """The same precision with each weight divided by its scale.

        Args:
            scales: A number for each weight by name.
        """
        packing, like = self.packing, self.units
        parts = {
            name: scales[name].to(like).reshape(()).expand(shape)
            for name, shape in zip(packing.names, packing.shapes, strict=True)
        }
        whole = packing.pack(parts)
        return self.rescaled(whole[0] if packing.columns else whole)

    def rescaled(self, units: Tensor) -> "Block":
        """The same precision in smaller or larger units.

        A Kronecker product stays one: columns of the packed tensor that have units of their own belong to the second
        factor.

        Args:
            units: What a weight, as it is in this block, is divided by: a number, or a vector for the columns.
        """
        last = self.matrix.factors[-1]
        whole = units.expand(len(last))
        squares = whole.square() if last.diagonal else whole[:, None] * whole
        factors = [*self.matrix.factors[:-1], Factor(last.matrix * squares)]
        return Block(
            self.packing, Kronecker(factors, self.matrix.scale, self.matrix.shift), self.units * units
        )


class Precision:
    r"""A block-diagonal precision over some of a network's weights.

    A diagonal, a Kronecker and a full structure are the same value with other factors: one diagonal factor, two
    factors a layer, one dense factor.

    Args:
        blocks: Independent of each other.

    Example:
        >>> from jensen.linalg import Factor
        >>> packing = Packing(("weight", "bias"), ((2, 3), (2,)))
        >>> matrix = Kronecker([Factor(torch.full((8,), 4.0))])
        >>> precision = Precision([Block(packing, matrix, torch.tensor(1.0))])
        >>> precision.variances()["bias"]
        tensor([0.2500, 0.2500])
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.blocks = tuple(blocks)

    @property
    def size(self) -> int:
        """Number of weights it is over."""
        return sum(block.count for block in self.blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the weights it is over."""
        return tuple(dict.fromkeys(name for block in self.blocks for name in block.packing.names))

    @property
    def log_det(self) -> Float[Tensor, ""]:
        """Logarithm of the determinant, a number."""
        return torch.stack([block.log_det for block in self.blocks]).sum()

    def with_shifts(self, shifts: Sequence[float | Tensor]) -> "Precision":
        """The same products with other multiples of the identity, one a block; eigenbases are kept."""
        return Precision(
            [
                block.with_matrix(block.matrix.with_shift(shift))
                for block, shift in zip(self.blocks, shifts, strict=True)
            ]
        )

    def with_scale(self, scale: float | Tensor) -> "Precision":
        """The same products with another number before each of them; eigenbases are kept."""
        return Precision([block.with_matrix(block.matrix.with_scale(scale)) for block in self.blocks])

    def in_units(self, scales: Weights) -> "Precision":
        """The same precision with each weight divided by its scale, a number for each by name."""
        return Precision([block.in_units(scales) for block in self.blocks])

    def plus(self, other: "Precision") -> "Precision":
        """The sum with a precision of the same packing and units; the nearest product where there are two factors."""
        return Precision(
            [
                mine.with_matrix(mine.matrix.plus(theirs.matrix))
                for mine, theirs in zip(self.blocks, other.blocks, strict=True)
            ]
        )

    def quadratic(self, deviations: Weights) -> Float[Tensor, "..."]:
        """d^T M d for deviations by name, (..., *shape) each; the leading shape."""
        parts = [block.matrix.quadratic(block.packed(deviations)) for block in self.blocks]
        return torch.stack(parts).sum(0)

    def squares(self, deviations: Weights) -> Float[Tensor, "blocks"]:
        """Sum of squares of the deviations, in units, in each block, (blocks,)."""
        return torch.stack([block.packed(deviations).square().sum() for block in self.blocks])

    def multiply(self, deviations: Weights) -> dict[str, Tensor]:
        """M d for deviations by name, (..., *shape) each."""
        return self._each(
            lambda block: block.matrix.multiply(block.packed(deviations)) / block.units.square()
        )

    def solve(self, gradients: Weights) -> dict[str, Tensor]:
        """M^-1 g for gradients by name, (..., *shape) each."""
        return self._each(lambda block: block.matrix.solve(block.packed_rows(gradients)))

    def sample(self, n: int) -> dict[str, Tensor]:
        """Draws of N(0, M^-1) by name, (n, *shape) each, from torch's generator."""
        return self._each(lambda block: block.matrix.sample(n))

    def variances(self) -> dict[str, Tensor]:
        """Diagonal of M^-1 by name, the weights' shapes."""
        return self._each(lambda block: block.matrix.inverse_diagonal() * block.units)

    def inverse_gram(self, jacobian: Weights) -> Float[Tensor, "... m m"]:
        """J M^-1 J^T without forming M.

        Args:
            jacobian: Rows of J by name, (..., m, *shape) each.

        Returns:
            (..., m, m).
        """
        parts = [block.matrix.inverse_gram(block.packed_rows(jacobian)) for block in self.blocks]
        return torch.stack(parts).sum(0)

    def _each(self, make: Callable[[Block], Tensor]) -> dict[str, Tensor]:
        result: dict[str, Tensor] = {}
        for block in self.blocks:
            for name, value in block.unpacked(make(block)).items():
                result[name] = result[name] + value if name in result else value
        return result
