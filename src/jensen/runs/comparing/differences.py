"""Whether two models differ by more than chance: paired over data, with the spread over seeds."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, nan, sqrt

from jaxtyping import Float
from scipy.special import stdtr
from torch import Tensor

LEVEL = 0.05
"""Probability of a false alarm among all differences of a comparison from which one counts as significant."""


@dataclass(frozen=True)
class Difference:
    """How much better one model describes the test data than another.

    Attributes:
        better: Label of the model with the smaller NLL.
        worse: That of the other.
        nats: NLL of the worse less that of the better, nats a datum.
        standard_error: Of ``nats``, over data and seeds.
        data_error: The part of it that comes from the choice of the test data.
        seed_error: The part that comes from the seeds; None where a model has one seed.
        degrees_of_freedom: Of Student's distribution that ``nats / standard_error`` has where there is no difference.
        p_value: Probability of as large a difference by chance, adjusted for the number of pairs (Holm).
        significant: Whether that is below 0.05.
    """

    better: str
    worse: str
    nats: float
    standard_error: float
    data_error: float
    seed_error: float | None
    degrees_of_freedom: float
    p_value: float
    significant: bool


def paired_difference(
    one: Float[Tensor, "seeds n"], other: Float[Tensor, "others n"], names: tuple[str, str] = ("one", "other")
) -> Difference:
    r"""Compares log p(x) of two models on the same data.

    With d_i the difference of the two models' means over seeds for datum i, and s^2 the variance over seeds of a
    model's mean over data,

    .. math::
        \text{error}^2 = \frac{\operatorname{var}_i d_i}{n} + \frac{s_1^2}{S_1} + \frac{s_2^2}{S_2},

    with Welch's and Satterthwaite's degrees of freedom. What data have in common for both models cancels. What
    varies by datum and seed together is in the first part and the others, so the error is if anything too large. With
    one seed its part is unknown and left out: then only the two fits are compared, not the two models.

    Args:
        one: log p(x) by seed and datum, nats, (seeds, n).
        other: The same of the other model, on the same data in the same order.
        names: Labels of both.

    Returns:
        The difference; its p-value is that of this pair alone.

    Source: The generalization of 'Student's' problem when several different population variances are involved, 1947,
    https://doi.org/10.1093/biomet/34.1-2.28.

    Example:
        >>> import torch
        >>> a = torch.tensor([[-1.0, -3.0, -2.0, -4.0]])
        >>> found = paired_difference(a, a - torch.tensor([0.9, 1.1, 1.0, 1.0]))
        >>> found.better, round(found.nats, 3), found.significant
        ('one', 1.0, True)
    """
    one, other = one.double(), other.double()
    n = one.shape[1]
    paired = one.mean(0) - other.mean(0)
    mean = float(paired.mean())
    data = float(paired.var()) / n if n > 1 else nan
    parts = [(data, n - 1)]
    parts += [(float(s.mean(1).var()) / len(s), len(s) - 1) for s in (one, other) if len(s) > 1]
    total = sum(variance for variance, _ in parts)
    seeds = None if len(one) < 2 or len(other) < 2 else sqrt(parts[1][0] + parts[2][0])
    # A part of no size has no say in the degrees of freedom.
    squares = sum(variance**2 / degrees for variance, degrees in parts if variance > 0)
    degrees = total**2 / squares if squares > 0 else float(n - 1)
    if not isfinite(total):
        p = nan
    elif total > 0:
        p = float(2 * stdtr(degrees, -abs(mean) / sqrt(total)))
    else:
        p = 1.0 if mean == 0 else 0.0
    better, worse = names if mean >= 0 else names[::-1]
    return Difference(better, worse, abs(mean), sqrt(total), sqrt(data), seeds, float(degrees), p, p < LEVEL)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted so that the chance of any false alarm among them stays below the level.

    Args:
        p_values: Of the single tests, in any order; NaN counts as one.

    Returns:
        In the same order.

    Source: A simple sequentially rejective multiple test procedure, 1979, https://www.jstor.org/stable/4615733.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    known = [p if isfinite(p) else 1.0 for p in p_values]
    adjusted = [1.0] * len(known)
    largest = 0.0
    for place, index in enumerate(sorted(range(len(known)), key=lambda i: known[i])):
        largest = max(largest, min(1.0, (len(known) - place) * known[index]))
        adjusted[index] = largest
    return adjusted
