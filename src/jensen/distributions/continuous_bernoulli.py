"""The exponential family on [0, 1] whose density is linear in the logarithm."""

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, constraints

# B_2n / (2n (2n)!) for n = 1, 2, ...: log(sinh(l/2) / (l/2)) is the sum of these times l^2n for |l| < 2 pi.
_COEFFICIENTS = (
    1 / 24,
    -1 / 2880,
    1 / 181440,
    -1 / 9676800,
    1 / 479001600,
    -691 / 15692092416000,
    1 / 1046139494400,
    -3617 / 170729965486080000,
)
_SMALL = 0.5


class ContinuousBernoulli(Distribution):
    r"""The density on [0, 1] that a logit tilts to one side.

    .. math::
        \log p(x) = l x - A(l), \qquad A(l) = \log \frac{e^l - 1}{l}

    torch's own goes by the probability sigmoid(l), which loses the logit beyond about 15 in single precision
    and is inaccurate between its series and its closed form; here both hold to rounding for every logit.

    Args:
        logits: The logit l, any real number; 0 gives the uniform density.

    Source: The continuous Bernoulli: fixing a pervasive error in variational autoencoders, 2019,
    https://arxiv.org/abs/1907.06845.

    Example:
        >>> round(float(ContinuousBernoulli(torch.tensor(20.0)).mean), 6)
        0.95
    """

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What the parameters have to be."""
        return {"logits": constraints.real}

    @property
    def support(self) -> constraints.Constraint:
        """What a value has to be."""
        return constraints.unit_interval

    def __init__(self, logits: Tensor, validate_args: bool | None = None) -> None:
        self.logits = logits
        super().__init__(logits.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "ContinuousBernoulli":
        """The same distribution with its logits expanded to a batch shape."""
        return ContinuousBernoulli(self.logits.expand(batch_shape), validate_args=False)

    @property
    def _parts(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the logit is small, the logit there, its size elsewhere; harmless values in the other places."""
        small = self.logits.abs() < _SMALL
        near = torch.where(small, self.logits, 0.0)
        far = torch.where(small, 1.0, self.logits.abs())
        return small, near, far

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of numbers in [0, 1], of the broadcast shape of value and logits.

        Away from zero it is taken from the side where the density is high, -|l| (distance from there) less
        log((1 - e^-|l|) / |l|), so that nothing large is subtracted; near zero A is l/2 and an even series.
        """
        if self._validate_args:
            self._validate_sample(value)
        small, near, far = self._parts
        distance = torch.where(self.logits > 0, 1 - value, value)
        tilted = -far * distance - torch.log(-torch.expm1(-far) / far)
        return torch.where(small, near * (value - 0.5) - _series(near, 0), tilted)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Draws by the inverse of the distribution function, (*sample_shape, *batch_shape)."""
        with torch.no_grad():
            shape = Size(sample_shape) + self.batch_shape
            uniform = torch.rand(shape, dtype=self.logits.dtype, device=self.logits.device)
            size = self.logits.abs()
            # From the side where the density is high; below the root of the precision two terms are exact.
            inverse = -torch.log1p(uniform * torch.expm1(-size)) / size
            nearly_uniform = uniform - 0.5 * size * uniform * (1 - uniform)
            few = size < torch.finfo(size.dtype).eps ** 0.5
            distance = torch.where(few, nearly_uniform, inverse).clamp(0.0, 1.0)
            return torch.where(self.logits > 0, 1 - distance, distance)

    @property
    def mean(self) -> Tensor:
        """Mean, A'(l), (*batch_shape)."""
        small, near, far = self._parts
        distance = 1 / far - torch.exp(-far) / -torch.expm1(-far)
        return torch.where(
            small, 0.5 + _series(near, 1), torch.where(self.logits > 0, 1 - distance, distance)
        )

    @property
    def variance(self) -> Tensor:
        """Variance, A''(l), (*batch_shape)."""
        small, near, far = self._parts
        return torch.where(
            small, _series(near, 2), far.square().reciprocal() - torch.exp(-far) / torch.expm1(-far).square()
        )


def _series(logits: Tensor, derivative: int) -> Tensor:
    """The even part of A near zero, log(sinh(l/2) / (l/2)), or its first or second derivative."""
    square = logits.square()
    result = torch.zeros_like(logits)
    for n in range(len(_COEFFICIENTS), 0, -1):
        factor = (1, 2 * n, 2 * n * (2 * n - 1))[derivative]
        result = result * square + factor * _COEFFICIENTS[n - 1]
    return result * (square, logits, 1.0)[derivative]
