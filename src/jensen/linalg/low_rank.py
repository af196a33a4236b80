"""A covariance of low rank plus a diagonal, with its algebra in the low dimension."""

from functools import cached_property
from math import log, pi

import torch
from jaxtyping import Bool, Float
from torch import Tensor


class LowRankPlusDiagonal:
    r"""The covariance W W^T + diag(d), or its blocks of observed cells, without a D x D inverse.

    With P = diag(1 / d), zero for cells that weren't observed, and C = I + W^T P W (M x M), Woodbury's identity
    and the determinant lemma give

    .. math::
        (W W^T + D)^{-1} = P - P W C^{-1} W^T P, \qquad
        \log |W W^T + D| = \log |C| + \sum_i \log d_i.

    Args:
        factor: W, (D, M).
        diagonal: d, positive, (D,) or a number for all.
        observed: True where a cell was observed, one row for each of B patterns, (B, D); None: one pattern, all cells.

    Example:
        >>> covariance = LowRankPlusDiagonal(torch.ones(3, 1), torch.tensor(2.0))
        >>> float(covariance.log_det.exp())
        20.0
    """

    def __init__(
        self,
        factor: Float[Tensor, "d m"],
        diagonal: Float[Tensor, "*d"],
        observed: Bool[Tensor, "b d"] | None = None,
    ) -> None:
        self.factor = factor
        self.diagonal = diagonal.expand(len(factor))
        mask = factor.new_ones(1, len(factor)) if observed is None else observed.to(factor.dtype)
        self.mask = mask
        self.precision = mask / self.diagonal

    @cached_property
    def cholesky(self) -> Float[Tensor, "b m m"]:
        """Lower Cholesky factor of C for each pattern, (B, M, M)."""
        m = self.factor.shape[1]
        if len(self.precision) == 1:
            inner = (self.factor.T @ (self.factor * self.precision[0, :, None]))[None]
        else:
            squares = (self.factor[:, :, None] * self.factor[:, None, :]).reshape(-1, m * m)
            inner = (self.precision @ squares).reshape(-1, m, m)
        return torch.linalg.cholesky(inner + torch.eye(m, dtype=inner.dtype, device=inner.device))

    @cached_property
    def half_inverse(self) -> Float[Tensor, "b m m"]:
        """Inverse of that factor, (B, M, M).

        Where W is far larger than d, products with C^-1 lose the digits of what W leaves out. One with this and then
        one with its transpose keep them: what is rounded stays small in the measure of C.
        """
        eye = torch.eye(self.factor.shape[1], dtype=self.factor.dtype, device=self.factor.device)
        return torch.linalg.solve_triangular(self.cholesky, eye.expand_as(self.cholesky), upper=False)

    @cached_property
    def inner_inverse(self) -> Float[Tensor, "b m m"]:
        """C^-1 for each pattern: the posterior covariance of the latents, (B, M, M)."""
        return torch.cholesky_inverse(self.cholesky)

    @cached_property
    def log_det(self) -> Float[Tensor, " b"]:
        """Logarithm of the determinant of each pattern's block, (B,)."""
        inner = 2 * self.cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        return inner + self.mask @ self.diagonal.log()

    def project(
        self, x: Float[Tensor, "n d"], pattern: Float[Tensor, " n"] | Tensor | None = None
    ) -> Float[Tensor, "n m"]:
        """C^-1 W^T P x: the posterior mean of the latents of centred data.

        Args:
            x: Data less their mean; zero where they weren't observed.
            pattern: Which pattern each datum has, (n,); None if there is one.

        Returns:
            (n, M).
        """
        scaled = (x / self.diagonal) @ self.factor
        if len(self.mask) == 1 or pattern is None:
            return scaled @ self.half_inverse[0].T @ self.half_inverse[0]
        half = self.half_inverse[pattern]
        return (half.mT @ (half @ scaled[..., None]))[..., 0]

    def quadratic(
        self, x: Float[Tensor, "n d"], pattern: Tensor | None = None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n m"]]:
        """x^T (W W^T + D)^-1 x over the observed cells, as a sum of squares, so that nothing cancels.

        It is the smallest value over z of (x - W z)^T P (x - W z) + z^T z, which the posterior mean attains.

        Args:
            x: Data less their mean; zero where they weren't observed.
            pattern: Which pattern each datum has, (n,).

        Returns:
            The values (n,), and the posterior means (n, M).
        """
        z = self.project(x, pattern)
        rest = x - z @ self.factor.T
        weights = self.precision if len(self.mask) == 1 or pattern is None else self.precision[pattern]
        return (rest.square() * weights).sum(-1) + z.square().sum(-1), z

    def log_prob(
        self, x: Float[Tensor, "n d"], pattern: Tensor | None = None
    ) -> tuple[Float[Tensor, " n"], Float[Tensor, "n m"]]:
        """Log density of N(0, W W^T + D) at the observed cells in nats, (n,), and the posterior means, (n, M)."""
        quadratic, z = self.quadratic(x, pattern)
        constant = self.log_det + self.mask.sum(-1) * log(2 * pi)
        return -0.5 * (quadratic + (constant if pattern is None else constant[pattern])), z

    def dense(self) -> Float[Tensor, "d d"]:
        """The whole matrix, (D, D)."""
        return self.factor @ self.factor.T + torch.diag(self.diagonal)
