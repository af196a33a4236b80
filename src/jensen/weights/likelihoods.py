"""Likelihoods p(y | outputs of a network), for many sets of outputs at once."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import inf, log, pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Distribution, Normal, Poisson
from torch.nn import functional

from jensen.distributions import Bernoulli, IntegerCategorical
from jensen.errors import ConfigError, DataError, ShapeError, SupportError
from jensen.registry import Registry
from jensen.weights.network import Values, tensor_of
from jensen.weights.options import is_scale

NOISE = "likelihood.log_noise_scale"
"""The name of the noise's unknown log-scale among the values that are fitted; no parameter of a network has it."""

NoiseScale = float | int | str
"""A standard deviation, "learned" or "network"."""


class Likelihood(ABC):
    """p(y | f) of one target given the network's outputs f for one datum.

    Outputs come as (S, n, outputs): S sets of weights, n data. Targets are (n, *event), or (S, n, *event) where each
    set has data of its own.

    Attributes:
        name: As ``fit`` and files know it.
        density: Whether it gives a density, whose nats depend on the targets' unit, not a probability.
    """

    name: ClassVar[str]
    density: ClassVar[bool] = False

    @abstractmethod
    def targets(self, y: Any, outputs: int) -> Shaped[Tensor, "n *event"]:
        """Targets as the density takes them, checked.

        Args:
            y: As the user gave them.
            outputs: How many numbers the network returns for a datum.

        Raises:
            ShapeError: If there are not as many as the outputs ask for.
            DataError: If one isn't finite.
            SupportError: If one can't be.
        """

    def trainable(self, y: Shaped[Tensor, "n *event"]) -> None:  # noqa: B027
        """Refuses checked targets of which nothing can be learned.

        Raises:
            DataError: If all are of one class.
        """

    @abstractmethod
    def cells(self, outputs: Float[Tensor, "s n outputs"], values: Mapping[str, Tensor]) -> Distribution:
        """The distribution of each cell of each target, of batch shape (S, n, *event).

        Args:
            outputs: Of the network.
            values: What else is drawn with the weights, as the noise's scale, (S,).
        """

    def start(self, like: Tensor) -> Values:
        """Unknowns of its own where fitting starts, without a dimension of sets, of that tensor's type and device."""
        return {}

    def log_prob(
        self,
        outputs: Float[Tensor, "s n outputs"],
        y: Shaped[Tensor, "..."],
        values: Mapping[str, Tensor] | None = None,
    ) -> Float[Tensor, "s n"]:
        """Log p(y | f) of each target in nats, constants kept, (S, n)."""
        cells = self.cells(outputs, values or {}).log_prob(y)
        return cells.flatten(2).sum(-1) if cells.ndim > 2 else cells

    def about(self) -> dict[str, Any]:
        """What JSON keeps of it: the arguments of ``likelihood`` that make it again."""
        return {"likelihood": self.name}


class CategoricalLikelihood(Likelihood):
    """p(y = k | f) = softmax(f)_k; targets are integers 0, ..., K - 1 for K outputs."""

    name: ClassVar[str] = "categorical"

    def targets(self, y: Any, outputs: int) -> Tensor:
        """Class numbers, (n,) int64."""
        found = _vector(tensor_of(y, "y"), "class numbers (n,)")
        if outputs < 2:
            raise ShapeError(
                f"a categorical likelihood needs a network with one output a class, got {outputs}; use "
                "likelihood='bernoulli' for two classes and one output"
            )
        _integers(found, f"class numbers 0, ..., {outputs - 1}", outputs - 1)
        return found.long()

    def trainable(self, y: Tensor) -> None:
        """Refuses targets of one class."""
        _several(y)

    def cells(self, outputs: Tensor, values: Mapping[str, Tensor]) -> IntegerCategorical:
        """One categorical a datum."""
        return IntegerCategorical(logits=outputs, validate_args=False)

    def log_prob(self, outputs: Tensor, y: Tensor, values: Mapping[str, Tensor] | None = None) -> Tensor:
        """Log softmax(f)_y, (S, n)."""
        return -functional.cross_entropy(
            outputs.flatten(0, 1), y.expand(outputs.shape[:2]).reshape(-1), reduction="none"
        ).view(outputs.shape[:2])


class BernoulliLikelihood(Likelihood):
    """p(y = 1 | f) = sigmoid(f); targets are 0 or 1, one for each output."""

    name: ClassVar[str] = "bernoulli"

    def targets(self, y: Any, outputs: int) -> Tensor:
        """Zeros and ones, (n,) or (n, outputs), floating."""
        found = _events(tensor_of(y, "y"), outputs, "zeros and ones")
        _integers(found, "0 or 1", 1)
        return _floating(found)

    def trainable(self, y: Tensor) -> None:
        """Refuses targets of one class."""
        _several(y)

    def cells(self, outputs: Tensor, values: Mapping[str, Tensor]) -> Bernoulli:
        """One Bernoulli an output."""
        return Bernoulli(logits=_cells(outputs), validate_args=False)


class PoissonLikelihood(Likelihood):
    """p(y | f) = Poisson(y; exp(f)); targets are counts, one for each output."""

    name: ClassVar[str] = "poisson"

    def targets(self, y: Any, outputs: int) -> Tensor:
        """Counts, (n,) or (n, outputs), floating."""
        found = _events(tensor_of(y, "y"), outputs, "counts")
        _integers(found, "counts 0, 1, 2, ...", inf)
        return _floating(found)

    def cells(self, outputs: Tensor, values: Mapping[str, Tensor]) -> Poisson:
        """One Poisson an output."""
        return Poisson(_cells(outputs).exp(), validate_args=False)


class NormalLikelihood(Likelihood):
    """p(y | f) = N(y; f, s^2), a density in the targets' units.

    Args:
        noise_scale: The standard deviation s: a number; "learned", one number fitted with the weights; or "network",
            whose outputs are then twice as many, locations first and the logarithms of s after them.

    Raises:
        ConfigError: If it is none of these.
    """

    name: ClassVar[str] = "normal"
    density: ClassVar[bool] = True

    def __init__(self, noise_scale: NoiseScale = "learned") -> None:
        known = (
            noise_scale in ("learned", "network") if isinstance(noise_scale, str) else is_scale(noise_scale)
        )
        if not known:
            raise ConfigError(
                f"noise_scale is a standard deviation above 0, 'learned' or 'network'; got {noise_scale!r}"
            )
        # Numbers of any library become one that JSON can hold.
        self.noise_scale = noise_scale if isinstance(noise_scale, str) else float(noise_scale)

    def targets(self, y: Any, outputs: int) -> Tensor:
        """Numbers, (n,) or (n, outputs), floating."""
        if self.noise_scale == "network":
            if outputs % 2:
                raise ShapeError(
                    f"noise_scale='network' needs two outputs for each target, a location and a log-scale; the "
                    f"network has {outputs}"
                )
            outputs //= 2
        found = _events(tensor_of(y, "y"), outputs, "numbers")
        _finite(found)
        return _floating(found)

    def start(self, like: Tensor) -> Values:
        """The log-scale of the noise where it is learned: zero, a scale of one."""
        if self.noise_scale != "learned":
            return {}
        return {NOISE: like.new_zeros(())}

    def split(
        self, outputs: Tensor, values: Mapping[str, Tensor]
    ) -> tuple[Float[Tensor, "s n *event"], Float[Tensor, "..."]]:
        """Locations, and log-scales that broadcast with them."""
        if self.noise_scale == "network":
            loc, log_scale = outputs.chunk(2, -1)
            return _cells(loc), _cells(log_scale)
        loc = _cells(outputs)
        if self.noise_scale == "learned":
            return loc, values[NOISE].reshape(-1, *[1] * (loc.ndim - 1))
        return loc, loc.new_full((), log(float(self.noise_scale)))

    def cells(self, outputs: Tensor, values: Mapping[str, Tensor]) -> Normal:
        """One normal a target cell."""
        loc, log_scale = self.split(outputs, values)
        return Normal(loc, log_scale.exp().expand_as(loc), validate_args=False)

    def log_prob(self, outputs: Tensor, y: Tensor, values: Mapping[str, Tensor] | None = None) -> Tensor:
        """The density without objects on the way, for the inner loop."""
        loc, log_scale = self.split(outputs, values or {})
        deviation = (y - loc) * (-log_scale).exp()
        cells = -0.5 * deviation.square() - log_scale - 0.5 * log(2 * pi)
        return cells.sum(-1) if cells.ndim > 2 else cells

    def about(self) -> dict[str, Any]:
        """What JSON keeps of it."""
        return {"likelihood": self.name, "noise_scale": self.noise_scale}


LIKELIHOODS: Registry[type[Likelihood]] = Registry(
    "likelihood",
    {
        family.name: family
        for family in (CategoricalLikelihood, BernoulliLikelihood, NormalLikelihood, PoissonLikelihood)
    },
)


def likelihood(name: str | Likelihood, noise_scale: NoiseScale | None = None) -> Likelihood:
    """The likelihood of that name.

    Args:
        name: One of ``LIKELIHOODS``, or a likelihood, which is returned.
        noise_scale: Of the normal likelihood, see there; None: learned.

    Raises:
        ConfigError: If there is none of that name, or a noise scale is given to one that has no noise.

    Example:
        >>> likelihood("normal", 0.1).noise_scale
        0.1
    """
    if isinstance(name, Likelihood):
        found = name
    elif name == "normal":
        return NormalLikelihood("learned" if noise_scale is None else noise_scale)
    else:
        found = LIKELIHOODS[name]()
    if noise_scale is not None:
        raise ConfigError(
            f"noise_scale belongs to likelihood='normal' given by its name, not to {found.name!r}; leave it out"
        )
    return found


def _floating(y: Tensor) -> Tensor:
    return y if y.is_floating_point() else y.to(torch.get_default_dtype())


def _cells(outputs: Tensor) -> Tensor:
    """Outputs (S, n, 1) as (S, n), others as they are."""
    return outputs[..., 0] if outputs.shape[-1] == 1 else outputs


def _vector(y: Tensor, wanted: str) -> Tensor:
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise ShapeError(f"wanted {wanted}, got targets of shape {tuple(y.shape)}")
    return y


def _events(y: Tensor, outputs: int, what: str) -> Tensor:
    """Targets (n,) for one output, (n, outputs) for several."""
    if outputs == 1:
        return _vector(y, f"{what} (n,) for the network's one output")
    if y.ndim != 2 or y.shape[1] != outputs:
        raise ShapeError(
            f"wanted {what} (n, {outputs}) for {outputs} outputs of the network, got targets of shape "
            f"{tuple(y.shape)}"
        )
    return y


def _finite(y: Tensor) -> None:
    if y.is_complex():
        raise DataError("the targets are complex numbers; give real ones")
    if y.is_floating_point() and not bool(y.isfinite().all()):
        bad = int((~y.isfinite()).sum())
        raise DataError(f"{bad} of {y.numel()} targets are NaN or infinite; leave those data out")


def _integers(y: Tensor, wanted: str, largest: float | int) -> None:
    """Refuses targets that aren't whole numbers from 0 to the largest."""
    _finite(y)
    if y.dtype == torch.bool:
        return
    wrong = (y < 0) | (y > largest)
    if y.is_floating_point():
        wrong |= y != y.round()
    if bool(wrong.any()):
        raise SupportError(
            f"wanted targets that are {wanted}, got {float(y[wrong][0]):g} ({int(wrong.sum())} such); choose "
            "another likelihood or mend the targets"
        )


def _several(y: Tensor) -> None:
    """Refuses targets that are all alike, of which no classifier can be learned."""
    if y.numel() > 1 and bool((y == y.flatten()[0]).all()):
        raise DataError(
            f"all {y.numel()} targets are of one class, {int(y.flatten()[0])}; give data of at least two classes"
        )
