"""Numbers for each datum with their errors, made of logarithms of weights."""

from math import log

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.information import Estimate


def log_mean(log_weights: Float[Tensor, "samples n"]) -> Estimate:
    """Log of the average of weights that are given by their logarithms.

    The standard error is that of the delta method, sqrt(sum w^2 / (sum w)^2 - 1/S).

    Args:
        log_weights: In nats, (S, n).

    Returns:
        Of each datum, float64 (n,).

    Example:
        >>> log_mean(torch.tensor([[0.0], [0.0]])).standard_error
        tensor([0.], dtype=torch.float64)
    """
    log_weights = log_weights.double()
    total, squares = log_weights.logsumexp(0), (2 * log_weights).logsumexp(0)
    samples = len(log_weights)
    variance = (squares - 2 * total).exp() - 1 / samples
    return Estimate(total - log(samples), variance.clamp(min=0).sqrt(), samples)


def mean(values: Float[Tensor, "samples n"]) -> Estimate:
    """The average over the samples with its standard error; infinite for one sample, which shows no spread.

    Args:
        values: In nats, (S, n).

    Returns:
        Of each datum, float64 (n,).

    Example:
        >>> mean(torch.tensor([[1.0], [3.0]])).value
        tensor([2.], dtype=torch.float64)
    """
    values = values.double()
    samples = len(values)
    error = values.std(0) / samples**0.5 if samples > 1 else torch.full_like(values[0], torch.inf)
    return Estimate(values.mean(0), error, samples)


def exactly(value: Float[Tensor, " n"]) -> Estimate:
    """A number that is known without error.

    Args:
        value: In nats, (n,).

    Returns:
        It, with an error of zero.
    """
    return Estimate(value.double(), torch.zeros_like(value, dtype=torch.float64), 0)
