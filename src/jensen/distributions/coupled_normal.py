"""A normal bent by couplings: a flow whose every parameter belongs to one member of a batch."""

from collections.abc import Callable
from math import log
from typing import Any

import torch
from torch import Size, Tensor
from torch.nn.functional import softplus

from jensen.distributions.vector import VectorDistribution


class CoupledNormal(VectorDistribution):
    r"""z = loc + L c(a(e)) with e ~ N(0, I), a and c invertible.

    The map a bends each dimension on its own, a(e) = sinh(tail asinh(e) + skew): it makes tails heavier or lighter
    and leans to one side. The map c is a chain of couplings: dimensions of one parity stay, the others are scaled and
    shifted by what a network of one hidden layer makes of those that stay. L is lower triangular.

    Each member of the batch has networks of its own, so that a batch of posteriors can be fitted in one go.

    Args:
        loc: (*batch, D).
        scale_tril: L, (*batch, D, D).
        log_tail: (*batch, D); zero bends nothing.
        skew: (*batch, D); likewise.
        weight_in: Of the couplings' networks, (*batch, layers, hidden, D).
        bias_in: (*batch, layers, hidden).
        weight_out: (*batch, layers, 2 D, hidden): log-scales, then shifts; zero bends nothing.
        bias_out: (*batch, layers, 2 D).

    Source: Density estimation using Real NVP, 2016, https://arxiv.org/abs/1605.08803; Sinh-arcsinh distributions,
    2009, https://doi.org/10.1093/biomet/asp053.
    """

    has_rsample = True

    def __init__(
        self,
        loc: Tensor,
        scale_tril: Tensor,
        log_tail: Tensor,
        skew: Tensor,
        weight_in: Tensor,
        bias_in: Tensor,
        weight_out: Tensor,
        bias_out: Tensor,
    ) -> None:
        self.loc, self.scale_tril = loc, scale_tril
        self.log_tail, self.skew = log_tail, skew
        self.weight_in, self.bias_in = weight_in, bias_in
        self.weight_out, self.bias_out = weight_out, bias_out
        super().__init__(loc.shape[:-1], loc.shape[-1:], validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws (*samples, *batch, D) that carry gradients to all parameters."""
        shape = Size(sample_shape) + self.loc.shape
        return self._from_noise(torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device))

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of points (*samples, *batch, D)."""
        noise, log_slope = self._to_noise(value)
        return -0.5 * (noise.square() + log(2 * torch.pi)).sum(-1) - log_slope

    def round_trip_error(self, samples: int = 64) -> Tensor:
        """How far noise is off at most that went to its draw and back, (*batch); large where rounding wins.

        Where it isn't small, densities are wrong.
        """
        with torch.no_grad():
            shape = (samples, *self.loc.shape)
            noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
            error = (self._to_noise(self._from_noise(noise))[0] - noise).abs()
            return error.nan_to_num(torch.inf, torch.inf).amax((0, -1))

    def _from_noise(self, u: Tensor) -> Tensor:
        u = torch.sinh(self.log_tail.exp() * torch.asinh(u) + self.skew)
        for layer in range(self.weight_in.shape[-3]):
            stays, log_scale, shift = self._coupling(u, layer)
            u = torch.where(stays, u, u * log_scale.exp() + shift)
        return self.loc + self._product(self.scale_tril, u)

    def _to_noise(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The noise of points, and the log-determinant of the way from the noise."""
        u = _columns(self._solve, value - self.loc, value.ndim - self.loc.ndim)
        log_slope = self.scale_tril.diagonal(dim1=-2, dim2=-1).log().sum(-1)
        for layer in reversed(range(self.weight_in.shape[-3])):
            stays, log_scale, shift = self._coupling(u, layer)
            u = torch.where(stays, u, (u - shift) * (-log_scale).exp())
            log_slope = log_slope + torch.where(stays, 0.0, log_scale).sum(-1)
        bent = torch.asinh(u)
        noise = torch.sinh((bent - self.skew) * (-self.log_tail).exp())
        # d sinh(t) / de = cosh(t) tail / sqrt(1 + e^2), with t = bent.
        log_cosh = bent.abs() + softplus(-2 * bent.abs()) - log(2)
        return noise, log_slope + (self.log_tail + log_cosh - 0.5 * torch.log1p(noise.square())).sum(-1)

    def _coupling(self, u: Tensor, layer: int) -> tuple[Tensor, Tensor, Tensor]:
        """Which dimensions stay, and log-scale and shift of all."""
        stays = torch.arange(u.shape[-1], device=u.device) % 2 == layer % 2
        seen = torch.where(stays, u, 0.0)
        hidden = self._product(self.weight_in[..., layer, :, :], seen) + self.bias_in[..., layer, :]
        out = self._product(self.weight_out[..., layer, :, :], hidden.tanh())
        log_scale, shift = (out + self.bias_out[..., layer, :]).chunk(2, -1)
        # No layer stretches by more than e nor shifts by more than three: the way back stays accurate.
        return stays, log_scale.tanh(), 3 * (shift / 3).tanh()

    def _product(self, matrix: Tensor, values: Tensor) -> Tensor:
        return _columns(lambda columns: matrix @ columns, values, values.ndim - self.loc.ndim)

    def _solve(self, columns: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(self.scale_tril, columns, upper=False)


def _columns(function: Callable[[Tensor], Tensor], values: Tensor, samples: int) -> Tensor:
    """Applies matrices (*batch, m, k) to vectors (*samples, *batch, k), all samples in one product."""
    if samples == 0:
        return function(values[..., None])[..., 0]
    flat = values.flatten(0, samples - 1)
    return function(flat.movedim(0, -1)).movedim(-1, 0).unflatten(0, values.shape[:samples])
