"""Products of symmetric factors, plus a multiple of the identity, with their algebra in the eigenbasis."""

from collections.abc import Sequence
from functools import cached_property, reduce
from math import prod

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ShapeError


class Factor:
    """A symmetric positive semi-definite matrix, or a diagonal one given by its diagonal alone.

    Its eigenvalues are found when they are first asked for; a diagonal one needs no work. What rounding made
    negative counts as zero.

    Args:
        matrix: (D, D), or (D,) for a diagonal matrix.

    Raises:
        ShapeError: If it is neither square nor a diagonal.

    Example:
        >>> Factor(torch.tensor([[2.0, 0.0], [0.0, 3.0]])).values
        tensor([2., 3.])
    """

    def __init__(self, matrix: Float[Tensor, "..."]) -> None:
        if matrix.ndim not in (1, 2) or (matrix.ndim == 2 and matrix.shape[0] != matrix.shape[1]):
            raise ShapeError(
                f"a factor is a square matrix or a diagonal, got the shape {tuple(matrix.shape)}; "
                "pass (D, D) or (D,)"
            )
        self.matrix = matrix

    def __len__(self) -> int:
        """Rows of the matrix."""
        return len(self.matrix)

    @property
    def diagonal(self) -> bool:
        """Whether only a diagonal is kept."""
        return self.matrix.ndim == 1

    @cached_property
    def _decomposed(self) -> tuple[Tensor, Tensor | None]:
        if self.diagonal:
            return self.matrix.clamp(min=0), None
        values, vectors = torch.linalg.eigh(self.matrix)
        return values.clamp(min=0), vectors

    @property
    def values(self) -> Float[Tensor, " d"]:
        """Eigenvalues, (D,)."""
        return self._decomposed[0]

    @property
    def vectors(self) -> Float[Tensor, "d d"] | None:
        """Eigenvectors in columns, (D, D); None stands for the identity."""
        return self._decomposed[1]

    @cached_property
    def squares(self) -> Float[Tensor, "d d"] | None:
        """Squares of the eigenvectors' entries, (D, D); None stands for the identity."""
        return None if self.vectors is None else self.vectors.square()

    def dense(self) -> Float[Tensor, "d d"]:
        """The whole matrix, (D, D)."""
        return self.matrix.diag() if self.diagonal else self.matrix

    def scaled(self, number: float | Tensor) -> "Factor":
        """The factor times a number."""
        return Factor(self.matrix * number)

    def plus(self, other: "Factor") -> "Factor":
        """The sum of two factors; diagonal if both are."""
        if self.diagonal == other.diagonal:
            return Factor(self.matrix + other.matrix)
        return Factor(self.dense() + other.dense())

    def inner(self, other: "Factor") -> Tensor:
        """Trace of the product of two factors, a number."""
        if self.diagonal == other.diagonal:
            return (self.matrix * other.matrix).sum()
        dense, thin = (other, self) if self.diagonal else (self, other)
        return dense.matrix.diagonal() @ thin.matrix


class Kronecker:
    r"""The matrix c (A_1 x ... x A_k) + s I for symmetric factors A, acting on tensors of shape (d_1, ..., d_k).

    With A_i = U_i diag(a_i) U_i^T all of its powers share one eigenbasis,

    .. math::
        (c \bigotimes_i A_i + s I)^p = \Bigl(\bigotimes_i U_i\Bigr)
        \operatorname{diag}\Bigl(c \bigotimes_i a_i + s\Bigr)^p \Bigl(\bigotimes_i U_i\Bigr)^T,

    so nothing of the size of the product is ever formed: work and memory go with the tensors it acts on. A vector
    index is row-major: the first factor is the slowest. One factor alone is a dense or a diagonal matrix.

    Args:
        factors: A_1, ..., A_k.
        scale: c, a non-negative number.
        shift: s, a non-negative number.

    Source: Optimizing neural networks with Kronecker-factored approximate curvature, 2015,
    https://arxiv.org/abs/1503.05671.

    Example:
        >>> precision = Kronecker([Factor(torch.eye(2)), Factor(torch.tensor([1.0, 3.0]))], shift=1.0)
        >>> precision.dense().diagonal()
        tensor([2., 4., 2., 4.])
        >>> precision.solve(torch.full((2, 2), 4.0))
        tensor([[2., 1.],
                [2., 1.]])
    """

    def __init__(
        self, factors: Sequence[Factor], scale: float | Tensor = 1.0, shift: float | Tensor = 0.0
    ) -> None:
        if not factors:
            raise ShapeError("a Kronecker product needs at least one factor, got none")
        self.factors: tuple[Factor, ...] = tuple(factors)
        self.scale = scale
        self.shift = shift

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of a tensor it acts on."""
        return tuple(len(factor) for factor in self.factors)

    def with_shift(self, shift: float | Tensor) -> "Kronecker":
        """The same product with another multiple of the identity; the eigenbasis is kept."""
        return Kronecker(self.factors, self.scale, shift)

    def with_scale(self, scale: float | Tensor) -> "Kronecker":
        """The same product with another number before it; the eigenbasis is kept."""
        return Kronecker(self.factors, scale, self.shift)

    @cached_property
    def product_values(self) -> Float[Tensor, "..."]:
        """Eigenvalues of A_1 x ... x A_k without scale and shift, (d_1, ..., d_k)."""
        return reduce(lambda whole, part: whole[..., None] * part, [factor.values for factor in self.factors])

    @cached_property
    def values(self) -> Float[Tensor, "..."]:
        """Eigenvalues of the whole, (d_1, ..., d_k)."""
        return self.product_values * self.scale + self.shift

    @cached_property
    def inverse_values(self) -> Float[Tensor, "..."]:
        """One over the eigenvalues of the whole, (d_1, ..., d_k)."""
        return 1 / self.values

    @property
    def isotropic(self) -> bool:
        """Whether nothing but the multiple of the identity is left, so that any basis will do."""
        return not isinstance(self.scale, Tensor) and self.scale == 0

    @property
    def log_det(self) -> Float[Tensor, ""]:
        """Logarithm of the determinant, a number; -inf for a singular matrix."""
        if self.isotropic:
            return prod(self.shape) * torch.as_tensor(self.shift, dtype=torch.float64).log()
        return self.values.log().sum()

    @property
    def trace(self) -> Float[Tensor, ""]:
        """Sum of the eigenvalues, a number."""
        return self.values.sum()

    def _rotated(self, x: Tensor, *, back: bool = False) -> Tensor:
        """Tensors in the eigenbasis, or back from it."""
        k = len(self.factors)
        for place, factor in enumerate(() if self.isotropic else self.factors):
            if factor.vectors is not None:
                basis = factor.vectors.T if back else factor.vectors
                axis = place - k
                x = x @ basis if axis == -1 else (x.movedim(axis, -1) @ basis).movedim(-1, axis)
        return x

    def power(self, x: Float[Tensor, "..."], exponent: float) -> Float[Tensor, "..."]:
        """The matrix to some power times x.

        Args:
            x: Tensors, (..., d_1, ..., d_k).
            exponent: Of the symmetric power, as -1 or -0.5.

        Returns:
            The same shape.
        """
        values = self.shift if self.isotropic else self.values
        return self._rotated(self._rotated(x) * values**exponent, back=True)

    def multiply(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The matrix times x, (..., d_1, ..., d_k)."""
        return self.power(x, 1.0)

    def solve(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """Its inverse times x, (..., d_1, ..., d_k)."""
        return self.power(x, -1.0)

    def inverse_sqrt(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """The symmetric square root of its inverse times x, (..., d_1, ..., d_k)."""
        return self.power(x, -0.5)

    def sample(self, n: int) -> Float[Tensor, "..."]:
        """Draws of N(0, M^-1) of this matrix M as the precision, (n, d_1, ..., d_k), from torch's generator."""
        like = self.values
        noise = torch.randn(n, *self.shape, dtype=like.dtype, device=like.device)
        return self._rotated(noise * like**-0.5, back=True)

    def quadratic(self, x: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """x^T M x of each tensor, the leading shape of x."""
        values = self.shift if self.isotropic else self.values
        return (self._rotated(x).square() * values).flatten(-len(self.shape)).sum(-1)

    def inverse_gram(self, rows: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        """J M^-1 J^T, symmetric to the last bit, for rows of J given as tensors.

        Args:
            rows: (..., m, d_1, ..., d_k).

        Returns:
            (..., m, m).
        """
        white = (self._rotated(rows) * self.values**-0.5).flatten(-len(self.shape))
        gram = white @ white.mT
        return (gram + gram.mT) / 2

    def contracted_inverse(self, vectors: Float[Tensor, "*n d"]) -> Float[Tensor, "*n o"]:
        """Covariance of W a for W ~ N(0, M^-1), a matrix with two factors, in its eigenbasis.

        It is U_1 diag(v) U_1^T with v_j = sum_i (U_2^T a)_i^2 / (c a_1j a_2i + s): one matrix-vector product for
        each a, where the dense covariance of W has (d_1 d_2)^2 entries.

        Args:
            vectors: a, (..., d_2).

        Returns:
            v, (..., d_1); U_1 are the vectors of the first factor.

        Raises:
            ShapeError: If there aren't two factors.
        """
        if len(self.factors) != 2:
            raise ShapeError(f"a covariance of W a needs two factors, got {len(self.factors)}")
        right = self.factors[1]
        turned = vectors if right.vectors is None else vectors @ right.vectors
        return turned.square() @ self.inverse_values.T

    def inverse_diagonal(self) -> Float[Tensor, "..."]:
        """Diagonal of the inverse, (d_1, ..., d_k): variances where this is a precision."""
        result = self.inverse_values
        k = len(self.factors)
        for place, factor in enumerate(self.factors):
            if factor.squares is not None:
                axis = place - k
                result = (result.movedim(axis, -1) @ factor.squares.T).movedim(-1, axis)
        return result

    def plus(self, other: "Kronecker") -> "Kronecker":
        r"""The sum of two such matrices; the shifts add exactly, two products become the nearest one.

        With one factor each the sum is exact. With two, c A x B + d C x D has rank two once its blocks are laid out
        as rows (Van Loan and Pitsianis), so the nearest product in the Frobenius norm comes from a 2 x 2 singular
        value problem; it is positive semi-definite, and equals the sum where A is a multiple of C or B of D.

        Args:
            other: With the same shape.

        Returns:
            The sum.

        Raises:
            ShapeError: If the shapes differ or there are more than two factors.

        Source: Approximation with Kronecker products, 1993, https://doi.org/10.1007/978-94-015-8196-7_17.
        """
        if self.shape != other.shape:
            raise ShapeError(
                f"matrices that act on tensors {self.shape} and {other.shape} can't be added; give equal shapes"
            )
        shift = self.shift + other.shift
        count = len(self.shape)
        if count == 1:
            a, c = self.factors[0], other.factors[0]
            return Kronecker([a.scaled(self.scale).plus(c.scaled(other.scale))], 1.0, shift)
        if count > 2:
            raise ShapeError(f"sums are made of at most two factors, got {count}")
        left = self.factors[0].scaled(self.scale), other.factors[0].scaled(other.scale)
        right = self.factors[1], other.factors[1]
        first, second = _nearest(_gram(left), _gram(right))
        return Kronecker(
            [
                left[0].scaled(first[0]).plus(left[1].scaled(first[1])),
                right[0].scaled(second[0]).plus(right[1].scaled(second[1])),
            ],
            1.0,
            shift,
        )

    def dense(self) -> Float[Tensor, "p p"]:
        """The whole matrix, (P, P) with P the product of the shape; for small ones."""
        product = reduce(torch.kron, [factor.dense() for factor in self.factors])
        return product * self.scale + self.shift * torch.eye(prod(self.shape), dtype=product.dtype)


def _gram(pair: tuple[Factor, Factor]) -> Float[Tensor, "2 2"]:
    a, b = pair
    cross = a.inner(b)
    return torch.stack([torch.stack([a.inner(a), cross]), torch.stack([cross, b.inner(b)])]).double()


def _nearest(left: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients u, v of the rank-one matrix (sum u_i a_i)(sum v_j b_j)^T nearest to sum_i a_i b_i^T.

    With L and R the Gram matrices of a and of b, the left singular vector has R L u = s^2 u, and v = L u / u^T L u.
    Traces of products of positive semi-definite matrices aren't negative, so neither are u and v.
    """
    values, vectors = torch.linalg.eig(right @ left)
    best = int(values.real.argmax())
    u = vectors[:, best].real.abs()
    size = (u @ left @ u).clamp(min=torch.finfo(u.dtype).tiny)
    return u, (left @ u) / size
