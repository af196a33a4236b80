"""The evidence of Laplace's approximation, and the scales of prior and noise that make it largest."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, pi

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.weights.curvature import Precision

LARGEST_LOG = 25.0
"""Scales stay within exp of this many nats of where they started."""


@dataclass(frozen=True)
class Residuals:
    """What normal noise of one scale has to explain.

    Attributes:
        squares: Sum of squared deviations of targets from outputs.
        count: Number of cells.
    """

    squares: float
    count: int

    def log_likelihood(self, log_noise: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Log-density of all targets in nats for noise of scale exp(log_noise)."""
        return (
            -0.5 * self.squares * (-2 * log_noise).exp()
            - self.count * log_noise
            - 0.5 * self.count * log(2 * pi)
        )


def scale_of(curvature: str, log_noise: Tensor | None) -> float | Tensor:
    """What curvature with unit noise is to be multiplied with.

    A Gauss-Newton matrix holds the noise's precision once; squared gradients hold it twice.
    """
    if log_noise is None:
        return 1.0
    return ((-2 if curvature == "ggn" else -4) * log_noise).exp()


def log_evidence(
    log_likelihood: float | Tensor, prior: Precision, posterior: Precision, quadratic: float | Tensor
) -> Tensor:
    r"""Laplace's approximation of log p(y | x) in nats.

    .. math::
        \log p(y|x) \approx \log p(y|x, w^*) - \tfrac12 (w^* - m)^T P (w^* - m)
        + \tfrac12 \log |P| - \tfrac12 \log |\Lambda|,

    with the prior N(m, P^-1) and the posterior N(w*, Lambda^-1). It is exact for a linear model with normal noise.

    Args:
        log_likelihood: At w*.
        prior: P.
        posterior: Lambda.
        quadratic: (w* - m)^T P (w* - m).

    Source: The evidence framework applied to classification networks, 1992,
    https://doi.org/10.1162/neco.1992.4.5.720.
    """
    return log_likelihood - 0.5 * quadratic + 0.5 * (prior.log_det - posterior.log_det)


@torch.enable_grad()
def tuned(
    curved: Precision,
    curvature: str,
    squares: Float[Tensor, " blocks"],
    log_shifts: Float[Tensor, " blocks"],
    log_noise: Float[Tensor, ""] | None,
    residuals: Residuals | None,
    *,
    prior: bool,
) -> tuple[Float[Tensor, " blocks"], Float[Tensor, ""] | None]:
    """The scales that make the evidence largest, weights and curvature held still.

    At weights that are the most probable ones for these scales, this is a stationary point of the evidence itself,
    since the joint density doesn't change to first order as the weights move along.

    Args:
        curved: Curvature of the likelihood with unit noise, without a shift, in units of the prior.
        curvature: "ggn" or "empirical".
        squares: Sum of squared deviations from the prior's mean, in units, a block.
        log_shifts: Logarithms of the prior's precision in units, where to start.
        log_noise: Logarithm of the noise's scale; None: there is none.
        residuals: What the noise explains; None: the noise is fixed, or there is none.
        prior: Whether the prior is to be tuned.

    Returns:
        The logarithms again.
    """
    counts = torch.tensor(
        [block.count for block in curved.blocks], dtype=torch.float64, device=squares.device
    )
    values = [block.matrix.product_values.detach().flatten() for block in curved.blocks]
    shifts = log_shifts.detach().clone()
    noise = None if log_noise is None else log_noise.detach().double().clone()
    free = ([shifts] if prior else []) + ([noise] if residuals is not None and noise is not None else [])
    if not free:
        return shifts, noise
    starts = [value.clone() for value in free]
    for value in free:
        value.requires_grad_()
    search = torch.optim.LBFGS(
        free, max_iter=60, tolerance_grad=1e-9, tolerance_change=1e-12, line_search_fn="strong_wolfe"
    )

    def negative_evidence() -> Tensor:
        search.zero_grad()
        for value, start in zip(free, starts, strict=True):
            value.data.clamp_(start - LARGEST_LOG, start + LARGEST_LOG)
        scale = scale_of(curvature, noise)
        rest = torch.stack(
            [(part * scale + shift.exp()).log().sum() for part, shift in zip(values, shifts, strict=True)]
        )
        evidence = 0.5 * (counts * shifts - squares * shifts.exp() - rest).sum()
        if residuals is not None and noise is not None:
            evidence = evidence + residuals.log_likelihood(noise)
        loss = -evidence
        loss.backward()
        return loss

    search.step(negative_evidence)
    return shifts.detach(), None if noise is None else noise.detach()


def precision_of(
    curved: Precision, curvature: str, log_shifts: Sequence[Tensor] | Tensor, log_noise: Tensor | None
) -> tuple[Precision, Precision]:
    """Prior and posterior precision for these scales, in the eigenbasis of the curvature."""
    shifts = [shift.exp() for shift in log_shifts]
    whole = curved.with_shifts(shifts)
    return whole.with_scale(0.0), whole.with_scale(scale_of(curvature, log_noise))
