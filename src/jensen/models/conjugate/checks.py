"""What conjugate models hold their numbers and data to."""

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor
from torch.distributions import Distribution

from jensen.errors import ConfigError, DataError, ShapeError, SupportError

Numbers = float | ArrayLike | Tensor


@runtime_checkable
class Conjugate(Protocol):
    """A model whose posterior is of the prior's family: prior and posterior are both values of it."""

    @property
    def parameter(self) -> Distribution:
        """What is believed of the unknown now."""
        ...

    @property
    def predictive(self) -> Distribution:
        """What is expected of the next observation now."""
        ...

    def update(self, x: Numbers) -> "Conjugate":
        """The model after observations."""
        ...

    def log_evidence(self, x: Numbers) -> Tensor:
        """The logarithm of the marginal likelihood of observations, nats."""
        ...


def number(value: Numbers, name: str, *, positive: bool = True) -> Float[Tensor, "*shape"]:
    """A hyperparameter in float64.

    Raises:
        ConfigError: If it isn't finite, or not above 0 where it has to be.
        DataError: If it isn't a number.
    """
    found = _float64(value, name)
    if not bool(torch.isfinite(found).all()) or (positive and not bool((found > 0).all())):
        wanted = "a finite number above 0" if positive else "a finite number"
        raise ConfigError(f"{name} has to be {wanted}; got {value}")
    return found


def together(**given: Tensor) -> tuple[Tensor, ...]:
    """Hyperparameters in one batch shape.

    Raises:
        ShapeError: If their shapes don't broadcast.
    """
    try:
        return tuple(torch.broadcast_tensors(*given.values()))
    except RuntimeError:
        shapes = ", ".join(f"{name} {tuple(value.shape)}" for name, value in given.items())
        raise ShapeError(f"the shapes of {shapes} don't broadcast; give numbers, or equal shapes") from None


def throws(n: int | float) -> int:
    """A number of throws.

    Raises:
        ConfigError: If it isn't a whole number, or negative.
    """
    if n < 0 or n != int(n):
        raise ConfigError(f"the number of throws has to be 0, 1, 2, ...; got n={n}")
    return int(n)


def observations(x: Numbers, batch: torch.Size, support: str) -> Float[Tensor, "n *batch"]:
    """Observations in float64, the first axis counting them.

    Args:
        x: Numbers, (n, *batch); n may be zero.
        batch: Of the model.
        support: "binary", "counts" or "real".

    Raises:
        ShapeError: If the axes are others.
        DataError: If something isn't a finite number.
        SupportError: If one can't be.
    """
    found = _float64(x, "the observations")
    if found.ndim == 0 or found.shape[1:] != batch:
        raise ShapeError(
            f"the observations have shape {tuple(found.shape)}; wanted (n, {', '.join(map(str, batch))}) "
            "with one row for each observation"
        )
    if not bool(torch.isfinite(found).all()):
        raise DataError("an observation isn't finite; leave out what is missing")
    allowed = {
        "binary": (found == 0) | (found == 1),
        "counts": (found >= 0) & (found == found.round()),
        "real": torch.ones_like(found, dtype=torch.bool),
    }[support]
    if not bool(allowed.all()):
        wanted = {"binary": "0 or 1", "counts": "0, 1, 2, ..."}[support]
        raise SupportError(f"an observation is {float(found[~allowed][0]):g}; wanted {wanted}")
    return found


def _float64(value: Numbers, name: str) -> Tensor:
    try:
        return torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} should be numbers, got {value!r:.60} ({error})") from None


def summed(x: Tensor) -> tuple[int, Tensor, Tensor]:
    """The number of observations, their mean, and the sum of squares about it; zeros if there are none."""
    n = len(x)
    mean = x.sum(0) / max(n, 1)
    return n, mean, (x - mean).square().sum(0)
