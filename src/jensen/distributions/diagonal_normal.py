"""The normal over a vector whose dimensions are independent, made for the inner loop."""

from math import log, pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent, Normal, constraints, register_kl

_LOG_TWO_PI = log(2 * pi)


class DiagonalNormal(Distribution):
    r"""N(z; m, diag(s^2)), parameterised by m and log s, as networks return them.

    .. math::
        \log p(z) = -\tfrac12 \sum_d \left[ \left(\tfrac{z_d - m_d}{s_d}\right)^2 + 2 \log s_d + \log 2\pi \right]

    It is what ``Independent(Normal(m, s), 1)`` is, with fewer objects and operations on the way: a step of a
    small network spends much of its time on these.

    Args:
        loc: Means m, (*batch, d).
        log_scale: Logarithms of the standard deviations s, (*batch, d).
        standard: Whether both are known to be zeros, which spares arithmetic with them.

    Example:
        >>> q = DiagonalNormal(torch.zeros(5, 3), torch.zeros(5, 3))
        >>> q.batch_shape, q.event_shape
        (torch.Size([5]), torch.Size([3]))
    """

    arg_constraints: ClassVar[dict[str, Any]] = {  # pyright: ignore[reportIncompatibleMethodOverride] torch declares a property and uses a dict
        "loc": constraints.real_vector,
        "log_scale": constraints.real_vector,
    }
    support: ClassVar[Any] = constraints.real_vector  # pyright: ignore[reportIncompatibleMethodOverride] likewise
    has_rsample = True

    def __init__(
        self, loc: Float[Tensor, "*batch d"], log_scale: Float[Tensor, "*batch d"], *, standard: bool = False
    ) -> None:
        self.loc = loc
        self.log_scale = log_scale
        self.standard = standard
        self._scale: Tensor | None = None
        shape = loc.shape
        super().__init__(shape[:-1], shape[-1:], validate_args=False)

    @property
    def scale(self) -> Tensor:
        """Standard deviations, (*batch, d)."""
        if self._scale is not None:
            return self._scale
        scale = self.log_scale.exp()
        # One made without gradients, as by ``sample``, must not serve those who need the path.
        if torch.is_grad_enabled() or not self.log_scale.requires_grad:
            self._scale = scale
        return scale

    @property
    def mean(self) -> Tensor:
        """Means, (*batch, d)."""
        return self.loc

    @property
    def mode(self) -> Tensor:
        """Where the density is highest: the means."""
        return self.loc

    @property
    def stddev(self) -> Tensor:
        """Standard deviations, (*batch, d)."""
        return self.scale

    @property
    def variance(self) -> Tensor:
        """Variances, (*batch, d)."""
        return self.scale.square()

    @property
    def cells(self) -> Normal:
        """Its dimensions, each a normal, of batch shape (*batch, d)."""
        return Normal(self.loc, self.scale, validate_args=False)

    def rsample(self, sample_shape: Any = ()) -> Tensor:
        """Draws with a path to the parameters, (*sample, *batch, d)."""
        noise = torch.randn((*sample_shape, *self.loc.shape), dtype=self.loc.dtype, device=self.loc.device)
        return noise if self.standard else torch.addcmul(self.loc, self.scale, noise)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats, of the broadcast batch shape."""
        constant = -0.5 * _LOG_TWO_PI * self.loc.shape[-1]
        if self.standard:
            return -0.5 * value.square().sum(-1) + constant
        deviation = (value - self.loc) * (-self.log_scale).exp()
        return -0.5 * deviation.square().sum(-1) - self.log_scale.sum(-1) + constant

    def entropy(self) -> Tensor:
        """Differential entropy in nats, (*batch)."""
        return self.log_scale.sum(-1) + 0.5 * (1 + _LOG_TWO_PI) * self.loc.shape[-1]

    def expand(self, batch_shape: Any, _instance: Any = None) -> "DiagonalNormal":
        """The same distributions for a larger batch."""
        shape = (*batch_shape, self.loc.shape[-1])
        return DiagonalNormal(self.loc.expand(shape), self.log_scale.expand(shape), standard=self.standard)


def diagonal_normal(distribution: Distribution) -> DiagonalNormal | None:
    """The distribution as a diagonal normal over a vector, however it is written, or None if it isn't one.

    Example:
        >>> diagonal_normal(Independent(Normal(torch.zeros(3), torch.ones(3)), 1)).event_shape
        torch.Size([3])
    """
    if isinstance(distribution, DiagonalNormal):
        return distribution
    if (
        isinstance(distribution, Independent)
        and distribution.reinterpreted_batch_ndims == 1
        and type(distribution.base_dist) is Normal
    ):
        base = distribution.base_dist
        return DiagonalNormal(base.loc, base.scale.log())
    return None


def kl_of_cells(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    r"""KL of each dimension, in nats, (*batch, d).

    .. math::
        \log\frac{s_p}{s_q} + \frac{s_q^2 + (m_q - m_p)^2}{2 s_p^2} - \frac12
    """
    if p.standard:
        return torch.addcmul(q.scale.square(), q.loc, q.loc).sub(1).mul(0.5) - q.log_scale
    narrowing = q.log_scale - p.log_scale
    shift = (q.loc - p.loc) * (-p.log_scale).exp()
    return torch.addcmul((2 * narrowing).exp(), shift, shift).sub(1).mul(0.5) - narrowing


@register_kl(DiagonalNormal, DiagonalNormal)
def kl_diagonal_normals(q: DiagonalNormal, p: DiagonalNormal) -> Tensor:
    """KL in nats, of the broadcast batch shape."""
    return kl_of_cells(q, p).sum(-1)
