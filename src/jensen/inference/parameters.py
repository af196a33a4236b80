"""Parameters of a log-joint: their shapes, their supports, and the way there from unconstrained coordinates."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from math import prod
from numbers import Integral
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.distributions import constraints
from torch.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    CorrCholeskyTransform,
    ExpTransform,
    SigmoidTransform,
    StickBreakingTransform,
    Transform,
    identity_transform,
)

from jensen.errors import ConfigError, ShapeError

Parameters = Mapping[str, Tensor]
"""Values of parameters by their names."""

Bound = int | float | Tensor | Callable[[Parameters], Tensor]
"""A number, a tensor that broadcasts to the parameter, or a function of the parameters named before it."""


@dataclass(frozen=True)
class Parameter:
    """One named unknown of a log-joint.

    Attributes:
        support: What it is called, as in "positive".
        shape: Of its value.
        unconstrained: Shape of the coordinates that it is made of, any real numbers.
        transform: Makes the bijection from coordinates to value out of the parameters named before.
        states: Values that each number of a discrete parameter can take; zero for the others. A discrete parameter has
            no coordinates of its own.
    """

    support: str
    shape: tuple[int, ...]
    unconstrained: tuple[int, ...]
    transform: Callable[[Parameters], Transform] = field(repr=False)
    states: int = 0

    @property
    def size(self) -> int:
        """How many coordinates it has."""
        return prod(self.unconstrained)

    def constrain(self, coordinates: Tensor, before: Parameters) -> tuple[Tensor, Tensor]:
        """The value and log |d value / d coordinates|, in nats, of coordinates (size,)."""
        bijection = self.transform(before)
        coordinates = coordinates.reshape(self.unconstrained)
        value: Any = bijection(coordinates)
        return value, bijection.log_abs_det_jacobian(coordinates, value).sum()

    def inverse(self, value: Tensor, before: Parameters) -> Tensor:
        """The coordinates (size,) of a value."""
        back: Any = self.transform(before).inv
        return back(value).reshape(-1)


class _Ordered(Transform):
    """x_1, x_1 + exp(x_2), x_1 + exp(x_2) + exp(x_3), ...: any numbers to increasing ones."""

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def _call(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :1], x[..., 1:].exp()], -1).cumsum(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat([y[..., :1], y.diff(dim=-1).log()], -1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x[..., 1:].sum(-1)


class _PositiveOrdered(_Ordered):
    """exp(x_1), exp(x_1) + exp(x_2), ...: any numbers to positive, increasing ones."""

    def _call(self, x: Tensor) -> Tensor:
        return x.exp().cumsum(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.cat([y[..., :1], y.diff(dim=-1)], -1).log()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x.sum(-1)


def _checked(shape: tuple[int, ...]) -> tuple[int, ...]:
    if any(not isinstance(size, Integral) or size < 1 for size in shape):
        raise ConfigError(
            f"a parameter's shape is made of positive integers, one argument each as in real(3, 4), got {shape}"
        )
    return shape


def _vector(size: int, least: int, support: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(size, Integral) or size < least:
        raise ConfigError(f"{support} needs a size of at least {least}, got {size!r}")
    return _checked(shape)


def _states(states: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    if not isinstance(states, Integral) or states < 1:
        raise ConfigError(f"a discrete parameter needs at least one state, got {states!r}")
    return _checked(shape)


def _value(bound: Bound, before: Parameters, shape: tuple[int, ...]) -> Tensor:
    try:
        value = bound(before) if callable(bound) else bound
    except KeyError as error:
        raise ConfigError(
            f"a bound asks for {error}, but it knows the parameters named before its own alone: "
            f"{', '.join(before) or 'none'}"
        ) from error
    value = torch.as_tensor(value, dtype=torch.float64)
    try:
        # torch's own loads a library for symbols, which takes longer than a fit.
        fits = np.broadcast_shapes(value.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits:
        raise ShapeError(
            f"a bound of shape {tuple(value.shape)} for a parameter of shape {shape}; give the parameter its shape, as "
            "in interval(0, 1, 3), or a bound that broadcasts to it"
        )
    return value


def real(*shape: int) -> Parameter:
    """Any real numbers.

    Args:
        *shape: Of the value; nothing for a scalar.

    Example:
        >>> real(8).size
        8
    """
    return Parameter("real", _checked(shape), shape, lambda before: identity_transform)


def positive(*shape: int) -> Parameter:
    """Numbers above zero, by exp.

    Args:
        *shape: Of the value; nothing for a scalar.

    Example:
        >>> positive().constrain(torch.zeros(1), {})[0]
        tensor(1.)
    """
    return Parameter("positive", _checked(shape), shape, lambda before: ExpTransform())


def lower_bounded(bound: Bound, *shape: int) -> Parameter:
    """Numbers above a bound, bound + exp(x).

    Args:
        bound: A number, a tensor, or a function of the parameters named before this one.
        *shape: Of the value.

    Example:
        >>> lower_bounded(2.0).constrain(torch.zeros(1), {})[0]
        tensor(3., dtype=torch.float64)
    """

    def transform(before: Parameters) -> Transform:
        return ComposeTransform([ExpTransform(), AffineTransform(_value(bound, before, shape), 1.0)])

    return Parameter("lower-bounded", _checked(shape), shape, transform)


def interval(low: Bound, high: Bound, *shape: int) -> Parameter:
    """Numbers between two bounds, low + (high - low) sigmoid(x).

    Args:
        low: A number, a tensor, or a function of the parameters named before this one.
        high: Likewise, above ``low``.
        *shape: Of the value.

    Raises:
        ConfigError: If both are numbers and ``low`` isn't the smaller one.

    Example:
        >>> share = interval(0.0, lambda before: 1 - before["first"])
        >>> share.constrain(torch.zeros(1), {"first": torch.tensor(0.5)})[0]
        tensor(0.2500, dtype=torch.float64)
    """
    if not callable(low) and not callable(high) and not bool(torch.as_tensor(low < high).all()):
        raise ConfigError(f"an interval needs low < high, got {low} and {high}")

    def transform(before: Parameters) -> Transform:
        start, end = _value(low, before, shape), _value(high, before, shape)
        # Where bounds that depend on other parameters cross there is no value, and so no density.
        width = torch.where(end > start, end - start, torch.nan)
        return ComposeTransform([SigmoidTransform(), AffineTransform(start, width)])

    return Parameter("interval", _checked(shape), shape, transform)


def simplex(size: int, *shape: int) -> Parameter:
    """Positive numbers that sum to one, by stick-breaking.

    Args:
        size: How many numbers, at least 2.
        *shape: Of a whole array of such vectors.

    Example:
        >>> simplex(3).size
        2
    """
    shape = _vector(size, 2, "a simplex", shape)
    return Parameter("simplex", (*shape, size), (*shape, size - 1), lambda before: StickBreakingTransform())


def ordered(size: int, *shape: int) -> Parameter:
    """Increasing numbers.

    Args:
        size: How many numbers.
        *shape: Of a whole array of such vectors.

    Example:
        >>> ordered(2).constrain(torch.zeros(2), {})[0]
        tensor([0., 1.])
    """
    shape = _vector(size, 1, "an ordered vector", shape)
    return Parameter("ordered", (*shape, size), (*shape, size), lambda before: _Ordered())


def positive_ordered(size: int, *shape: int) -> Parameter:
    """Increasing numbers above zero.

    Args:
        size: How many numbers.
        *shape: Of a whole array of such vectors.

    Example:
        >>> positive_ordered(2).constrain(torch.zeros(2), {})[0]
        tensor([1., 2.])
    """
    shape = _vector(size, 1, "a positive ordered vector", shape)
    return Parameter("positive-ordered", (*shape, size), (*shape, size), lambda before: _PositiveOrdered())


def cholesky_correlation(size: int, *shape: int) -> Parameter:
    """Cholesky factors of correlation matrices: lower triangular, positive diagonal, rows of length one.

    The density that the log-joint gives is one of the factor, such as torch's LKJCholesky.

    Args:
        size: Rows of the matrix, at least 2.
        *shape: Of a whole array of such matrices.

    Example:
        >>> cholesky_correlation(3).size
        3
    """
    shape = _vector(size, 2, "a correlation matrix", shape)
    coordinates = (*shape, size * (size - 1) // 2)
    return Parameter(
        "cholesky-correlation", (*shape, size, size), coordinates, lambda before: CorrCholeskyTransform()
    )


def discrete(states: int, *shape: int) -> Parameter:
    """Numbers 0, 1, ..., states - 1, as integers.

    The target sums over all that its discrete parameters can be, or, where that is too much, keeps them as sites.

    Args:
        states: How many values each can take, at least 1.
        *shape: Of the value; nothing for a single number.

    Example:
        >>> discrete(2, 3).states
        2
    """
    shape = _states(states, shape)
    return Parameter("discrete", shape, (0,), lambda before: identity_transform, states)
