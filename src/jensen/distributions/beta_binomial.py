"""The number of heads of a coin whose bias is itself a beta's draw."""

from typing import Any

import torch
from torch import Size, Tensor
from torch.distributions import Beta, Binomial, Distribution, constraints


class BetaBinomial(Distribution):
    r"""The number of successes in n trials whose probability is a beta's draw.

    .. math::
        \log p(x) = \log \binom{n}{x} + \log B(x + a, n - x + b) - \log B(a, b)

    Args:
        total_count: Number of trials n.
        concentration1: The beta's a > 0, of successes.
        concentration0: The beta's b > 0, of failures; shapes broadcast.

    Example:
        >>> heads = BetaBinomial(3, torch.tensor(1.0), torch.tensor(1.0))
        >>> heads.log_prob(heads.enumerate_support()).exp()
        tensor([0.2500, 0.2500, 0.2500, 0.2500])
    """

    has_enumerate_support = True

    @property
    def arg_constraints(self) -> dict[str, constraints.Constraint]:
        """What the parameters have to be."""
        return {"concentration1": constraints.positive, "concentration0": constraints.positive}

    @property
    def support(self) -> constraints.Constraint:
        """What a value has to be."""
        return constraints.integer_interval(0, self.total_count)

    def __init__(
        self,
        total_count: int,
        concentration1: Tensor,
        concentration0: Tensor,
        validate_args: bool | None = None,
    ) -> None:
        self.total_count = total_count
        self.concentration1, self.concentration0 = torch.broadcast_tensors(concentration1, concentration0)
        super().__init__(self.concentration1.shape, validate_args=validate_args)

    def expand(self, batch_shape: Any, _instance: Any = None) -> "BetaBinomial":
        """The same distribution with its parameters expanded to a batch shape."""
        a, b = self.concentration1.expand(batch_shape), self.concentration0.expand(batch_shape)
        return BetaBinomial(self.total_count, a, b, validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-mass in nats of numbers of successes, of the broadcast shape of value and parameters."""
        if self._validate_args:
            self._validate_sample(value)
        a, b = self.concentration1, self.concentration0
        value = value.to(a)
        n = torch.as_tensor(self.total_count, dtype=a.dtype, device=a.device)
        failures = n - value
        ways = torch.lgamma(n + 1) - torch.lgamma(value + 1) - torch.lgamma(failures + 1)
        after = torch.lgamma(value + a) + torch.lgamma(failures + b) - torch.lgamma(n + a + b)
        return ways + after - torch.lgamma(a) - torch.lgamma(b) + torch.lgamma(a + b)

    def sample(self, sample_shape: Any = ()) -> Tensor:
        """Numbers of successes as floats, (*sample_shape, *batch_shape)."""
        with torch.no_grad():
            beta = Beta(self.concentration1, self.concentration0, validate_args=False)
            probs = beta.sample(Size(sample_shape))
            return Binomial(self.total_count, probs=probs, validate_args=False).sample()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """The numbers 0, ..., n on the first axis, (n + 1, *batch_shape)."""
        values = torch.arange(1.0 + self.total_count).to(self.concentration1)
        values = values.reshape(-1, *[1] * len(self.batch_shape))
        return values.expand(-1, *self.batch_shape) if expand else values

    @property
    def mean(self) -> Tensor:
        """Mean, (*batch_shape)."""
        return self.total_count * self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def variance(self) -> Tensor:
        """Variance, (*batch_shape)."""
        total = self.concentration1 + self.concentration0
        share = self.concentration1 / total
        return self.total_count * share * (1 - share) * (self.total_count + total) / (1 + total)
