"""Expected features of normal components with full covariances where cells are missing, pattern by pattern."""

from collections.abc import Callable
from dataclasses import dataclass
from math import log, pi
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jensen.models.families.family import Family
from jensen.models.rows import patterns

CELLS = 2**20
"""Entries of intermediate results at once."""


@dataclass(frozen=True)
class Scored:
    """Data under components of given coefficients.

    Attributes:
        logits: E_q[log p(observed cells | theta_j)] of each component, missing cells integrated out, (J, n), in nats.
        statistics: From responsibilities (J, n) to the sums of the expected features, (J, F).
    """

    logits: Float[Tensor, "j n"]
    statistics: Callable[[Float[Tensor, "j n"]], Float[Tensor, "j f"]]


@runtime_checkable
class Completes(Protocol):
    """A family whose missing cells depend on the observed ones, so that they have to be expected."""

    def complete(
        self, coefficients: Float[Tensor, "j f"], x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"]
    ) -> Scored:
        """Data with gaps under components of these coefficients."""
        ...


def scored(
    family: Family,
    coefficients: Float[Tensor, "j f"],
    x: Float[Tensor, "n d"],
    observed: Bool[Tensor, "n d"] | None = None,
) -> Scored:
    """Data under components of any family, with gaps or without.

    Args:
        family: Of the components.
        coefficients: Of J components.
        x: Data, zero where a cell is missing.
        observed: True where a cell was observed; None: everywhere.
    """
    if observed is not None and isinstance(family, Completes):
        return family.complete(coefficients, x, observed)
    features = family.features(x, observed)
    return Scored(coefficients @ features, lambda shares: shares @ features.T)


def complete(
    precision: Float[Tensor, "j d d"],
    linear: Float[Tensor, "j d"],
    constant: Float[Tensor, " j"],
    x: Float[Tensor, "n d"],
    observed: Bool[Tensor, "n d"],
) -> tuple[Float[Tensor, "j n"], Callable[[Tensor], tuple[Tensor, Tensor]]]:
    r"""Integrates exp(-1/2 x^T P x + b^T x + c) over the missing cells m of each datum.

    .. math::
        q(x_m) = N(P_{mm}^{-1} h, P_{mm}^{-1}), \quad h = b_m - P_{mo} x_o

    All data of one pattern of gaps share their matrices.

    Args:
        precision: P of J components.
        linear: b.
        constant: c.
        x: Data, zero where a cell is missing.
        observed: True where a cell was observed.

    Returns:
        Logarithms of the integrals (J, n); and from weights (J, n) to the weighted sums of E[x x^T], (J, D, D), and
        of E[x], (J, D).
    """
    found, which = patterns(observed)
    missing = (~found).to(x.dtype)
    # Observed cells become independent ones of precision one, which leaves the missing ones' block alone.
    own = precision[:, None] * missing[:, :, None] * missing[:, None, :] + torch.diag_embed(1 - missing)
    cholesky = torch.linalg.cholesky(own)
    spread = torch.cholesky_inverse(cholesky) * missing[:, :, None] * missing[:, None, :]
    half_log_det = cholesky.diagonal(dim1=-2, dim2=-1).log().sum(-1)
    volume = 0.5 * log(2 * pi) * missing.sum(-1) - half_log_det

    gap = missing[which]
    pulled = x @ precision
    slope = (linear[:, None] - pulled) * gap
    j, n, d = slope.shape
    mean = torch.empty_like(slope)
    step = max(1, CELLS // (j * d * d))
    for start in range(0, n, step):
        rows = slice(start, start + step)
        mean[:, rows] = (spread[:, which[rows]] @ slope[:, rows, :, None])[..., 0]
    alone = ((linear[:, None] - 0.5 * pulled) * x).sum(-1) + constant[:, None]
    logits = alone + 0.5 * (slope * mean).sum(-1) + volume[:, which]
    filled = mean + x

    def moments(weights: Tensor) -> tuple[Tensor, Tensor]:
        weighted = filled * weights[..., None]
        total = weights.new_zeros(j, len(found)).index_add_(1, which, weights)
        second = weighted.mT @ filled
        second += torch.einsum("jb,jbde->jde", total, spread)
        return second, weighted.sum(1)

    return logits, moments
