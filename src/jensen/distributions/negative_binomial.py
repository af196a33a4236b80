"""Counts that spread wider than a Poisson's, exact up to where they no longer do."""

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Distribution, Gamma, constraints
from torch.nn.functional import logsigmoid

_LARGE = 16.0
# Stirling's series of log Gamma(z) - (z - 1/2) log z + z - log(2 pi) / 2, in odd powers of 1/z.
_STIRLING = (1 / 12, -1 / 360, 1 / 1260, -1 / 1680, 1 / 1188)


class NegativeBinomial(Distribution):
    r"""Counts with mean m and variance m + m^2 / r; a Poisson where the dispersion r is large.

    .. math::
        \log p(x) = \log \frac{\Gamma(r + x)}{\Gamma(r) r^x} - \log x! + x \log m - (r + x) \log(1 + m / r)

    torch's own takes the difference of two log-gammas, which in single precision is off by .01 nats where r
    is 20,000 and by nats where it is a few millions, which is where counts that are Poisson drive it.

    Args:
        log_mean: Logarithm of the mean m.
        log_dispersion: Logarithm of r > 0; shapes broadcast.

    Example:
        >>> count = NegativeBinomial(torch.tensor(1.0), torch.tensor(20.0))
        >>> round(float(count.log_prob(torch.tensor(0.0))), 4)  # minus the mean, as of a Poisson
        -2.7183
    """

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What the parameters have to be."""
        return {"log_mean": constraints.real, "log_dispersion": constraints.real}

    @property
    def support(self) -> constraints.Constraint:
        """What a value has to be."""
        return constraints.nonnegative_integer

    def __init__(self, log_mean: Tensor, log_dispersion: Tensor, validate_args: bool | None = None) -> None:
        self.log_mean, self.log_dispersion = torch.broadcast_tensors(log_mean, log_dispersion)
        super().__init__(self.log_mean.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "NegativeBinomial":
        """The same distribution with its parameters expanded to a batch shape."""
        return NegativeBinomial(
            self.log_mean.expand(batch_shape), self.log_dispersion.expand(batch_shape), validate_args=False
        )

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass in nats of counts, of the broadcast shape of value and parameters."""
        if self._validate_args:
            self._validate_sample(value)
        rising = _log_rising_factorial(self.log_dispersion, value)
        # log(1 + m / r); softplus drops what is below e^-20 of it.
        log_odds = -logsigmoid(self.log_dispersion - self.log_mean)
        spread = (self.log_dispersion.exp() + value) * log_odds
        return rising - torch.lgamma(value + 1) + value * self.log_mean - spread

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Counts as floats, (*sample_shape, *batch_shape): Poisson draws whose rate is a gamma's."""
        with torch.no_grad():
            shape = Size(sample_shape) + self.batch_shape
            dispersion = self.log_dispersion.exp().expand(shape)
            gamma = Gamma(dispersion, torch.ones_like(dispersion), validate_args=False)
            unit = (self.log_mean - self.log_dispersion).exp()
            return torch.poisson(unit * gamma.sample())

    @property
    def mean(self) -> Tensor:
        """Mean, (*batch_shape)."""
        return self.log_mean.exp()

    @property
    def variance(self) -> Tensor:
        """Variance, (*batch_shape)."""
        return self.mean + (2 * self.log_mean - self.log_dispersion).exp()


def _log_rising_factorial(log_r: Tensor, x: Tensor) -> Tensor:
    """The log of Gamma(r + x) / (Gamma(r) r^x); by Stirling's series where r is large, large terms cancelled."""
    r = log_r.exp()
    large = r > _LARGE
    big = torch.where(large, r, _LARGE)
    by_series = (big + x - 0.5) * torch.log1p(x / big) - x + _stirling(big + x) - _stirling(big)
    little = torch.where(large, _LARGE, r)
    directly = torch.lgamma(little + x) - torch.lgamma(little) - x * torch.where(large, 0.0, log_r)
    return torch.where(large, by_series, directly)


def _stirling(z: Tensor) -> Tensor:
    inverse_square = z.reciprocal().square()
    result = torch.zeros_like(z)
    for coefficient in reversed(_STIRLING):
        result = result * inverse_square + coefficient
    return result / z
