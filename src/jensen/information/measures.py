"""Surprisal, entropies, divergences and mutual information, of tables of probabilities and of torch Distributions.

A table gives a tensor, which is exact. A Distribution gives an Estimate: exact where a closed form is known or the
outcomes can be listed (standard error and samples are zero), else a Monte Carlo average with its standard error.
"""

from typing import overload

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import Distribution

from jensen.errors import ConfigError, ShapeError
from jensen.information import distributions, tables
from jensen.information.estimate import Estimate
from jensen.information.units import in_unit

SAMPLES = 20_000
"""Draws of a Monte Carlo average, if nothing else is said."""


def surprisal(
    p: ArrayLike | Tensor | Distribution, value: Tensor | None = None, *, unit: str = "nats"
) -> Float[Tensor, "*shape"]:
    r"""How surprising an outcome is, :math:`-\log p(x)`.

    Args:
        p: A table (\*batch, outcomes), or a Distribution.
        value: With a Distribution, the outcomes (\*batch, \*event); with a table leave it out.
        unit: "nats" or "bits".

    Returns:
        With a table the surprisal of each outcome, of its shape; with a Distribution that of the value. It is
        infinite where the probability or density is zero.

    Raises:
        DataError: If the table isn't one of probabilities.
        ConfigError: If value and p don't go together, or the unit is unknown.

    Example:
        >>> surprisal([0.9, 0.1], unit="bits")  # a coin that lands heads nine times in ten
        tensor([0.1520, 3.3219], dtype=torch.float64)
    """
    if isinstance(p, Distribution):
        if value is None:
            raise ConfigError("the surprisal of a Distribution needs the value; give value=")
        return in_unit(0.0 - distributions.log_prob(p, value), unit)
    if value is not None:
        raise ConfigError(
            "a table gives the surprisal of each of its outcomes; index the result instead of giving value="
        )
    return in_unit(0.0 - tables.checked(p).log(), unit)


@overload
def entropy(
    p: Distribution, *, unit: str = "nats", samples: int = SAMPLES, seed: int | None = 0
) -> Estimate: ...
@overload
def entropy(
    p: ArrayLike | Tensor, *, unit: str = "nats", samples: int = SAMPLES, seed: int | None = 0
) -> Tensor: ...
def entropy(
    p: ArrayLike | Tensor | Distribution, *, unit: str = "nats", samples: int = SAMPLES, seed: int | None = 0
) -> Tensor | Estimate:
    r"""The expected surprisal, :math:`H(X) = -E[\log p(X)]`; differential where p has a density.

    Args:
        p: A table (\*batch, outcomes), or a Distribution.
        unit: "nats" or "bits".
        samples: Draws, where neither a closed form is known nor the outcomes can be listed.
        seed: Of those draws; None goes on with torch's generators.

    Returns:
        Of a table a tensor (\*batch); of a Distribution an Estimate of its batch shape.

    Raises:
        DataError: If the table isn't one of probabilities.
        ConfigError: If the unit is unknown or there are fewer than two samples.

    Source: A mathematical theory of communication, 1948, https://doi.org/10.1002/j.1538-7305.1948.tb01338.x.

    Example:
        >>> entropy([0.5, 0.25, 0.125, 0.125], unit="bits")
        tensor(1.7500, dtype=torch.float64)
    """
    if isinstance(p, Distribution):
        return _in_unit(distributions.entropy(p, samples, seed), unit)
    return in_unit(tables.entropy(tables.checked(p)), unit)


def joint_entropy(joint: ArrayLike | Tensor, *, unit: str = "nats") -> Float[Tensor, "*batch"]:
    r"""The entropy of two variables together, :math:`H(X, Y) = -\sum p(x, y) \log p(x, y)`.

    Args:
        joint: Table (\*batch, x, y).
        unit: "nats" or "bits".

    Returns:
        (\*batch).

    Raises:
        DataError: If the table isn't one of probabilities.

    Example:
        >>> joint_entropy([[0.5, 0.0], [0.0, 0.5]], unit="bits")
        tensor(1., dtype=torch.float64)
    """
    return in_unit(tables.entropy(tables.checked(joint, 2).flatten(-2)), unit)


def conditional_entropy(
    joint: ArrayLike | Tensor, *, given: str = "y", unit: str = "nats"
) -> Float[Tensor, "*batch"]:
    r"""What is left to learn of one variable where the other is known, :math:`H(X|Y) = +E_Y H(X|Y=y)`.

    It is H(X, Y) - H(Y), and never negative.

    Args:
        joint: Table (\*batch, x, y).
        given: The variable that is known, "x" or "y".
        unit: "nats" or "bits".

    Returns:
        (\*batch).

    Raises:
        DataError: If the table isn't one of probabilities.
        ConfigError: If ``given`` is neither.

    Example:
        >>> conditional_entropy([[0.25, 0.25], [0.25, 0.25]], unit="bits")
        tensor(1., dtype=torch.float64)
    """
    return in_unit(tables.conditional_entropy(tables.checked(joint, 2), given), unit)


@overload
def cross_entropy(
    p: Distribution, q: Distribution, *, unit: str = "nats", samples: int = SAMPLES, seed: int | None = 0
) -> Estimate: ...
@overload
def cross_entropy(
    p: ArrayLike | Tensor,
    q: ArrayLike | Tensor,
    *,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Tensor: ...
def cross_entropy(
    p: ArrayLike | Tensor | Distribution,
    q: ArrayLike | Tensor | Distribution,
    *,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Tensor | Estimate:
    r"""What a code made for q costs on what comes from p, :math:`H(p, q) = -E_p[\log q]`.

    Args:
        p: Where outcomes come from: a table (\*batch, outcomes), or a Distribution.
        q: What the code was made for, of the same kind over the same outcomes.
        unit: "nats" or "bits".
        samples: Draws from p, where they are needed.
        seed: Of those draws.

    Returns:
        Of tables a tensor (\*batch), of Distributions an Estimate. Infinite where q excludes what p doesn't; by
        samples that is seen if a draw falls there.

    Raises:
        DataError: If a table isn't one of probabilities.
        ShapeError: If the two aren't over the same outcomes.
        ConfigError: If one is a table and the other a Distribution, or one a density and the other a mass.

    Example:
        >>> cross_entropy([0.5, 0.25, 0.125, 0.125], [0.25, 0.25, 0.25, 0.25], unit="bits")
        tensor(2., dtype=torch.float64)
    """
    if isinstance(p, Distribution) and isinstance(q, Distribution):
        return _in_unit(distributions.cross_entropy(p, q, samples, seed), unit)
    return in_unit(tables.cross_entropy(*_two_tables(p, q)), unit)


@overload
def kl(
    p: Distribution, q: Distribution, *, unit: str = "nats", samples: int = SAMPLES, seed: int | None = 0
) -> Estimate: ...
@overload
def kl(
    p: ArrayLike | Tensor,
    q: ArrayLike | Tensor,
    *,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Tensor: ...
def kl(
    p: ArrayLike | Tensor | Distribution,
    q: ArrayLike | Tensor | Distribution,
    *,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Tensor | Estimate:
    r"""What a code made for q costs on what comes from p beyond need, :math:`KL(p \| q) = E_p[\log p/q]`.

    It is H(p, q) - H(p), never negative, zero only where p is q, and no metric: the order of the two matters.

    Args:
        p: Where outcomes come from: a table (\*batch, outcomes), or a Distribution.
        q: Another of the same kind over the same outcomes.
        unit: "nats" or "bits".
        samples: Draws from p, where they are needed.
        seed: Of those draws.

    Returns:
        Of tables a tensor (\*batch), of Distributions an Estimate. Infinite where q excludes what p doesn't; by
        samples that is seen if a draw falls there.

    Raises:
        DataError: If a table isn't one of probabilities.
        ShapeError: If the two aren't over the same outcomes.
        ConfigError: If one is a table and the other a Distribution, or one a density and the other a mass.

    Source: On information and sufficiency, 1951, https://doi.org/10.1214/aoms/1177729694.

    Example:
        >>> kl([0.5, 0.5], [1.0, 0.0]), kl([1.0, 0.0], [0.5, 0.5], unit="bits")
        (tensor(inf, dtype=torch.float64), tensor(1., dtype=torch.float64))
    """
    if isinstance(p, Distribution) and isinstance(q, Distribution):
        return _in_unit(distributions.kl(p, q, samples, seed), unit)
    return in_unit(tables.kl(*_two_tables(p, q)), unit)


@overload
def jensen_shannon(
    p: Distribution, q: Distribution, *, unit: str = "nats", samples: int = SAMPLES, seed: int | None = 0
) -> Estimate: ...
@overload
def jensen_shannon(
    p: ArrayLike | Tensor,
    q: ArrayLike | Tensor,
    *,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Tensor: ...
def jensen_shannon(
    p: ArrayLike | Tensor | Distribution,
    q: ArrayLike | Tensor | Distribution,
    *,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Tensor | Estimate:
    r"""The Jensen-Shannon divergence, :math:`\tfrac12 KL(p \| m) + \tfrac12 KL(q \| m)` with :math:`m = (p + q)/2`.

    It is symmetric, finite, at most one bit, and the square of a metric.

    Args:
        p: A table (\*batch, outcomes), or a Distribution.
        q: Another of the same kind over the same outcomes.
        unit: "nats" or "bits".
        samples: Draws from each, where they are needed.
        seed: Of those draws.

    Returns:
        Of tables a tensor (\*batch), of Distributions an Estimate.

    Raises:
        DataError: If a table isn't one of probabilities.
        ShapeError: If the two aren't over the same outcomes.
        ConfigError: If one is a table and the other a Distribution, or one a density and the other a mass.

    Source: Divergence measures based on the Shannon entropy, 1991, https://doi.org/10.1109/18.61115.

    Example:
        >>> jensen_shannon([1.0, 0.0], [0.0, 1.0], unit="bits")
        tensor(1., dtype=torch.float64)
    """
    if isinstance(p, Distribution) and isinstance(q, Distribution):
        return _in_unit(distributions.jensen_shannon(p, q, samples, seed), unit)
    return in_unit(tables.jensen_shannon(*_two_tables(p, q)), unit)


def pointwise_mutual_information(
    joint: ArrayLike | Tensor | Distribution,
    value: Tensor | None = None,
    *,
    marginals: tuple[Distribution, Distribution] | None = None,
    split: int = 1,
    unit: str = "nats",
) -> Float[Tensor, "*shape"]:
    r"""How much more often two outcomes come together than apart, :math:`\log \frac{p(x, y)}{p(x) p(y)}`.

    Args:
        joint: Table (\*batch, x, y), or a Distribution over vectors whose first cells are x and others y.
        value: With a Distribution, where, (\*batch, \*event); with a table leave it out.
        marginals: With a Distribution p(x) and p(y); a MultivariateNormal has its own.
        split: How many cells of a Distribution's vector are x.
        unit: "nats" or "bits".

    Returns:
        With a table one number for each cell, -inf where p(x, y) is zero; with a Distribution one for each value.

    Raises:
        DataError: If the table isn't one of probabilities.
        ShapeError: If the Distribution isn't over vectors that can be split.
        ConfigError: If value and joint don't go together, or the marginals aren't known.

    Example:
        >>> pointwise_mutual_information([[0.5, 0.0], [0.0, 0.5]], unit="bits")
        tensor([[1., -inf],
                [-inf, 1.]], dtype=torch.float64)
    """
    if isinstance(joint, Distribution):
        if value is None:
            raise ConfigError("a Distribution's pointwise mutual information needs the value; give value=")
        return in_unit(distributions.pointwise(joint, marginals, split, value), unit)
    if value is not None or marginals is not None:
        raise ConfigError(
            "a table has its own margins and gives all its cells; leave out value and marginals"
        )
    return in_unit(tables.pointwise(tables.checked(joint, 2)), unit)


@overload
def mutual_information(
    joint: Distribution,
    *,
    marginals: tuple[Distribution, Distribution] | None = None,
    split: int = 1,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Estimate: ...
@overload
def mutual_information(
    joint: ArrayLike | Tensor,
    *,
    marginals: None = None,
    split: int = 1,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Tensor: ...
def mutual_information(
    joint: ArrayLike | Tensor | Distribution,
    *,
    marginals: tuple[Distribution, Distribution] | None = None,
    split: int = 1,
    unit: str = "nats",
    samples: int = SAMPLES,
    seed: int | None = 0,
) -> Tensor | Estimate:
    r"""What one variable tells of another, :math:`I(X; Y) = KL(p(x, y) \| p(x) p(y))`.

    It is symmetric, H(X) - H(X|Y), never negative, and zero only where they are independent. From data see
    ``mutual_information_from_samples``.

    Args:
        joint: Table (\*batch, x, y), or a Distribution over vectors whose first cells are x and others y.
        marginals: With a Distribution p(x) and p(y); a MultivariateNormal has its own, and a closed form.
        split: How many cells of a Distribution's vector are x.
        unit: "nats" or "bits".
        samples: Draws, where they are needed.
        seed: Of those draws.

    Returns:
        Of a table a tensor (\*batch), of a Distribution an Estimate.

    Raises:
        DataError: If the table isn't one of probabilities.
        ShapeError: If the Distribution isn't over vectors that can be split.
        ConfigError: If marginals are missing, or given to a table.

    Example:
        >>> round(float(mutual_information([[0.5, 0.0], [0.0, 0.5]], unit="bits")), 12)
        1.0
    """
    if isinstance(joint, Distribution):
        found = distributions.mutual_information(joint, marginals, split, samples, seed)
        return _in_unit(found, unit)
    if marginals is not None:
        raise ConfigError("a table has its own margins; leave out marginals")
    return in_unit(tables.mutual_information(tables.checked(joint, 2)), unit)


def _two_tables(
    p: ArrayLike | Tensor | Distribution, q: ArrayLike | Tensor | Distribution
) -> tuple[Tensor, Tensor]:
    if isinstance(p, Distribution) or isinstance(q, Distribution):
        raise ConfigError(
            "one of the two is a table and the other a Distribution; give two of a kind, as "
            "torch.distributions.Categorical(probs=table)"
        )
    first, second = tables.checked(p, name="first table"), tables.checked(q, name="second table")
    tables.same_outcomes(first, second)
    try:
        np.broadcast_shapes(first.shape, second.shape)
    except ValueError:
        raise ShapeError(
            f"tables of shape {tuple(first.shape)} and {tuple(second.shape)} don't broadcast"
        ) from None
    return first, second


def _in_unit(estimate: Estimate, unit: str) -> Estimate:
    return Estimate(in_unit(estimate.value, unit), in_unit(estimate.standard_error, unit), estimate.samples)
