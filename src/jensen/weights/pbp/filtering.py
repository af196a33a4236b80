"""Assumed density filtering of a network's weights, and of the noise's and the prior's precision."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.weights.pbp.moments import Layer, output_moments

SMALLEST_VARIANCE = 1e-100
LARGEST_CAVITY = 1e6


@dataclass(frozen=True)
class Gamma:
    """Gamma(shape, rate) over a precision, one for each set.

    Attributes:
        shape: (S,).
        rate: (S,).
    """

    shape: Tensor
    rate: Tensor

    @property
    def variance(self) -> Tensor:
        """The mean of one over the precision, rate / (shape - 1)."""
        return self.rate / (self.shape - 1)


@dataclass(frozen=True)
class Filter:
    """Normals over the scaled weights of S networks, with what the prior has put into them.

    Attributes:
        mean: (S, P), layer by layer, each (out, in + 1) row by row.
        variance: (S, P).
        shapes: Of the layers, (out, in + 1) each.
        noise: Precision of the noise; None where its variance is fixed.
        noise_variance: Fixed, (S,); None where it is learned.
        prior: Precision of the weights; None where their variance is fixed.
        site_precision: What the prior's factor adds to each weight's precision, (S, P).
        site_linear: What it adds to precision times mean.
        site_shape: What each weight's factor adds to the shape of the prior's Gamma, (S, P).
        site_rate: Likewise to its rate.
    """

    mean: Float[Tensor, "s p"]
    variance: Float[Tensor, "s p"]
    shapes: tuple[tuple[int, int], ...]
    noise: Gamma | None
    noise_variance: Float[Tensor, " s"] | None
    prior: Gamma | None
    site_precision: Float[Tensor, "s p"]
    site_linear: Float[Tensor, "s p"]
    site_shape: Float[Tensor, "s p"]
    site_rate: Float[Tensor, "s p"]

    def layers(self, mean: Tensor, variance: Tensor) -> list[Layer]:
        """Vectors (..., P) as layers (..., out, in + 1)."""
        sizes = [out * width for out, width in self.shapes]
        return [
            (m.unflatten(-1, shape), v.unflatten(-1, shape))
            for m, v, shape in zip(mean.split(sizes, -1), variance.split(sizes, -1), self.shapes, strict=True)
        ]


def noise_variances(state: Filter) -> tuple[Tensor, Tensor, Tensor]:
    """The noise's variance for Gamma shapes a, a + 1 and a + 2, (S,) each."""
    if state.noise is None:
        assert state.noise_variance is not None
        return state.noise_variance, state.noise_variance, state.noise_variance
    shape, rate = state.noise.shape, state.noise.rate
    return rate / (shape - 1), rate / shape, rate / (shape + 1)


def _log_normal(deviation: Tensor, variance: Tensor) -> Tensor:
    """Log-density of a normal without its constant."""
    return -0.5 * (variance.log() + deviation.square() / variance)


def _gamma_moments(gamma: Gamma, logs: tuple[Tensor, Tensor, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Shape and rate of the Gamma with the first two moments of the tilted one, and where they make sense.

    The evidences Z, Z1, Z2 belong to shapes a, a + 1, a + 2, since a Gamma's density times its precision is a Gamma of
    the next shape: E[lambda] = Z1 a / (Z b), E[lambda^2] = Z2 a (a + 1) / (Z b^2).
    """
    z, z1, z2 = logs
    a, b = gamma.shape, gamma.rate
    shape = 1 / ((z2 - 2 * z1 + z).exp() * (a + 1) / a - 1)
    rate = 1 / ((z2 - z1).exp() * (a + 1) / b - (z1 - z).exp() * a / b)
    good = shape.isfinite() & rate.isfinite() & (shape > 1) & (rate > 0)
    return shape, rate, good


@torch.enable_grad()
def _slopes(state: Filter, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of each datum's log Z in mean and variance (S, B, P), and moments of its output (S, B)."""
    sets, count = y.shape
    mean = state.mean[:, None].expand(sets, count, -1).clone().requires_grad_()
    variance = state.variance[:, None].expand(sets, count, -1).clone().requires_grad_()
    m, v = output_moments(state.layers(mean, variance), x[:, :, None])
    m, v = m[..., 0], v[..., 0]
    log_z = _log_normal(y - m, v + noise_variances(state)[0][:, None]).sum()
    slopes = torch.autograd.grad(log_z, [mean, variance])
    return slopes[0], slopes[1], m.detach(), v.detach()


def observe(state: Filter, x: Float[Tensor, "s b d"], y: Float[Tensor, "s b"]) -> Filter:
    r"""The state after data: normals with the mean and variance of the exact product, datum by datum.

    With Z the evidence of a datum,

    .. math::
        m' = m + v \frac{\partial \log Z}{\partial m}, \qquad
        v' = v - v^2 \Bigl[\Bigl(\frac{\partial \log Z}{\partial m}\Bigr)^2
        - 2 \frac{\partial \log Z}{\partial v}\Bigr].

    Data that are given together are each held against the same state, and what they add to its natural parameters is
    summed. A weight whose variance would not stay positive keeps its moments.

    Args:
        state: Before.
        x: Data of each set, (S, B, d).
        y: Their targets, (S, B).
    """
    by_mean, by_variance, m, v = _slopes(state, x, y)
    before, spread = state.mean[:, None], state.variance[:, None]
    shrink = 1 - spread * (by_mean.square() - 2 * by_variance)
    moved = before + spread * by_mean
    each_precision = 1 / (spread * shrink)
    valid = (spread * shrink > SMALLEST_VARIANCE) & moved.isfinite()
    more = torch.where(valid, each_precision - 1 / spread, 0.0).sum(1)
    linear = torch.where(valid, moved * each_precision - before / spread, 0.0).sum(1)
    precision = 1 / state.variance + more
    good = (precision > 0) & precision.isfinite()
    variance = torch.where(good, 1 / precision, state.variance)
    mean = torch.where(good, (state.mean / state.variance + linear) / precision, state.mean)
    changed = replace(state, mean=mean, variance=variance)
    if state.noise is None:
        return changed
    deviation = y - m
    logs = [_log_normal(deviation, v + noise[:, None]) for noise in noise_variances(state)]
    old = Gamma(state.noise.shape[:, None], state.noise.rate[:, None])
    shape, rate, fine = _gamma_moments(old, (logs[0], logs[1], logs[2]))
    shapes = state.noise.shape + torch.where(fine, shape - old.shape, 0.0).sum(1)
    rates = state.noise.rate + torch.where(fine, rate - old.rate, 0.0).sum(1)
    keep = (shapes > 1) & (rates > 0)
    noise = Gamma(torch.where(keep, shapes, state.noise.shape), torch.where(keep, rates, state.noise.rate))
    return replace(changed, noise=noise)


def refine_prior(state: Filter) -> Filter:
    """One sweep of expectation propagation over the prior's factors N(w; 0, 1 / lambda), one a weight.

    Each factor is taken out, held against its exact form, and put in again; all of them at once.

    Args:
        state: Before; returned as it is where the prior's variance is fixed.
    """
    if state.prior is None:
        return state
    cavity_precision = 1 / state.variance - state.site_precision
    cavity_linear = state.mean / state.variance - state.site_linear
    variance = 1 / cavity_precision
    mean = cavity_linear * variance
    outer = Gamma(state.prior.shape[:, None] - state.site_shape, state.prior.rate[:, None] - state.site_rate)
    usable = (variance > 0) & (variance < LARGEST_CAVITY) & (outer.shape > 1) & (outer.rate > 0)
    shape, rate = torch.where(usable, outer.shape, 2.0), torch.where(usable, outer.rate, 1.0)
    safe = Gamma(shape, rate)
    spreads = rate / (shape - 1), rate / shape, rate / (shape + 1)
    clean = torch.where(usable, variance, 1.0)
    middle = torch.where(usable, mean, 0.0)
    logs = [_log_normal(middle, clean + spread) for spread in spreads]
    together = clean + spreads[0]
    new_mean = middle - clean * middle / together
    new_variance = clean - clean.square() / together
    new_shape, new_rate, fine = _gamma_moments(safe, (logs[0], logs[1], logs[2]))
    good = usable & fine & (new_variance > SMALLEST_VARIANCE)
    site_precision = torch.where(good, 1 / new_variance - 1 / clean, state.site_precision)
    site_linear = torch.where(good, new_mean / new_variance - middle / clean, state.site_linear)
    site_shape = torch.where(good, new_shape - shape, state.site_shape)
    site_rate = torch.where(good, new_rate - rate, state.site_rate)
    total = Gamma(
        state.prior.shape + (site_shape - state.site_shape).sum(1),
        state.prior.rate + (site_rate - state.site_rate).sum(1),
    )
    proper = (total.shape > 1) & (total.rate > 0)
    return replace(
        state,
        mean=torch.where(good, new_mean, state.mean),
        variance=torch.where(good, new_variance, state.variance),
        prior=Gamma(
            torch.where(proper, total.shape, state.prior.shape),
            torch.where(proper, total.rate, state.prior.rate),
        ),
        site_precision=site_precision,
        site_linear=site_linear,
        site_shape=site_shape,
        site_rate=site_rate,
    )


def started(
    shapes: tuple[tuple[int, int], ...],
    sets: int,
    *,
    noise_variance: float | None,
    prior_variances: Float[Tensor, " p"] | None,
    shape: float = 6.0,
    rate: float = 6.0,
    device: torch.device | None = None,
) -> Filter:
    """The state before any data, from torch's generator as it is.

    Variances are those of the prior. Where there are hidden units, means are drawn, N(0, 1 / (in + 1)), since units of
    zero weights are alike and would stay so.

    Args:
        shapes: Of the layers, (out, in + 1).
        sets: S.
        noise_variance: None: learned, under Gamma(shape, rate) over the precision.
        prior_variances: Of the scaled weights, (P,); None: learned likewise.
        shape: Of the Gammas.
        rate: Of the Gammas.
        device: Where.
    """
    zero = torch.zeros(sets, sum(out * width for out, width in shapes), dtype=torch.float64, device=device)
    each = torch.ones_like(zero[:, 0])
    widths = torch.cat([zero.new_full((out * width,), width) for out, width in shapes])
    mean = torch.randn_like(zero) / widths.sqrt() if len(shapes) > 1 else zero
    variance = zero + (rate / (shape - 1) if prior_variances is None else prior_variances.to(zero))
    return Filter(
        mean,
        variance,
        shapes,
        Gamma(shape * each, rate * each) if noise_variance is None else None,
        None if noise_variance is None else noise_variance * each,
        Gamma(shape * each, rate * each) if prior_variances is None else None,
        1 / variance,
        zero,
        zero,
        zero,
    )


def filtered(
    state: Filter,
    x: Float[Tensor, "s n d"],
    y: Float[Tensor, "s n"],
    epochs: int,
    batch_size: int,
    on_epoch: Callable[[int, int], None] | None = None,
) -> Filter:
    """Passes over the data in random order, each followed by one over the prior's factors.

    Args:
        state: Before.
        x: Data of each set, (S, n, d).
        y: Their targets, (S, n).
        epochs: How many passes.
        batch_size: Data that are held against one state.
        on_epoch: Called after each pass with the number done and the number planned.

    Returns:
        The state after them.
    """
    sets, n = y.shape
    for epoch in range(epochs):
        order = torch.rand(sets, n, device="cpu").argsort(1).to(y.device)
        rows = torch.arange(sets, device=y.device)[:, None]
        mixed_x, mixed_y = x[rows, order], y[rows, order]
        for start in range(0, n, batch_size):
            part = slice(start, start + batch_size)
            state = observe(state, mixed_x[:, part], mixed_y[:, part])
        state = refine_prior(state)
        if on_epoch is not None:
            on_epoch(epoch + 1, epochs)
    return state
