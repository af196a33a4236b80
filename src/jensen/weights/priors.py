"""Priors over the weights of a network."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import log, pi, sqrt
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.registry import Registry
from jensen.weights.network import Values, flat
from jensen.weights.options import is_scale

_LOG_TWO_PI = log(2 * pi)

PriorScale = float | int | str | Mapping[str, float | int]
"""A standard deviation: one number, one for each layer by its name, or one a tensor learned by the evidence."""


class Prior(ABC):
    """p(w), independent from weight to weight.

    Args:
        scales: The scale of each unknown parameter, by name, broadcastable to it; of a normal the standard deviation.
        learned: Whether methods that have a bound on the evidence are to fit the scales.

    Attributes:
        name: As ``fit`` and files know it.
    """

    name: ClassVar[str]

    def __init__(self, scales: Mapping[str, Tensor], learned: bool = False) -> None:
        self.scales = dict(scales)
        self.learned = learned

    @abstractmethod
    def cells(self, name: str, values: Float[Tensor, "*shape"], scale: Tensor) -> Float[Tensor, "*shape"]:
        """Log-density of each weight of a tensor, in nats."""

    def log_prob(self, weights: Mapping[str, Float[Tensor, "s *shape"]]) -> Float[Tensor, " s"]:
        """Log p(w) of S sets of weights in nats: a sum over all weights, (S,)."""
        parts = [_rows(self.cells(name, weights[name], scale)).sum(-1) for name, scale in self.scales.items()]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum(0)

    def kl(self, name: str, loc: Tensor, log_scale: Tensor, prior_log_scale: Tensor) -> Tensor | None:
        """KL(N(loc, diag scale^2) || p) of each weight of a tensor, where there is a closed form; else None."""
        return None

    def restricted(self, names: Any) -> "Prior":
        """The prior of some of the parameters."""
        return self.with_scales({name: self.scales[name] for name in names})

    @abstractmethod
    def with_scales(self, scales: Mapping[str, Tensor]) -> "Prior":
        """The same family with those scales."""

    def state(self) -> tuple[Values, dict[str, Any]]:
        """What is kept on disk: tensors, and what JSON can hold."""
        return {f"scale/{name}": value for name, value in self.scales.items()}, {
            "prior": self.name,
            "learned": self.learned,
        }


class NormalPrior(Prior):
    r"""w ~ N(m, s^2), m zero unless it is another posterior's mean.

    Args:
        scales: Standard deviations s by name, broadcastable to the parameters.
        learned: Whether the evidence is to fit them.
        loc: Means m by name, (\*shape); None: zero.
    """

    name: ClassVar[str] = "normal"

    def __init__(
        self, scales: Mapping[str, Tensor], learned: bool = False, loc: Mapping[str, Tensor] | None = None
    ) -> None:
        super().__init__(scales, learned)
        self.loc = None if loc is None else dict(loc)
        self._constant: Tensor | None = None

    def log_prob(self, weights: Mapping[str, Tensor]) -> Tensor:
        """The sum of ``cells``, its constant computed once, for the inner loop."""
        if self._constant is None:
            sizes = {name: weights[name][0].numel() for name in self.scales}
            logs = [s.log().sum() * (sizes[n] / s.numel()) for n, s in self.scales.items()]
            self._constant = torch.stack(logs).sum() + 0.5 * _LOG_TWO_PI * sum(sizes.values())
        total = -self._constant
        for name, scale in self.scales.items():
            deviation = weights[name] if self.loc is None else weights[name] - self.loc[name]
            if scale.ndim == 0:
                total = total - (0.5 / scale.square()) * _rows(deviation).square().sum(-1)
            else:
                total = total - 0.5 * _rows(deviation / scale).square().sum(-1)
        return total

    def cells(self, name: str, values: Tensor, scale: Tensor) -> Tensor:
        """Log-density of a normal."""
        deviation = values if self.loc is None else values - self.loc[name]
        return -0.5 * (deviation / scale).square() - scale.log() - 0.5 * _LOG_TWO_PI

    def kl(self, name: str, loc: Tensor, log_scale: Tensor, prior_log_scale: Tensor) -> Tensor:
        """KL between normals."""
        shift = loc if self.loc is None else loc - self.loc[name]
        precision = (-2 * prior_log_scale).exp()
        return 0.5 * ((2 * log_scale).exp() + shift.square()) * precision + prior_log_scale - log_scale - 0.5

    def with_scales(self, scales: Mapping[str, Tensor]) -> "NormalPrior":
        """The same means with those scales."""
        loc = None if self.loc is None else {name: self.loc[name] for name in scales}
        return NormalPrior(scales, self.learned, loc)

    def state(self) -> tuple[Values, dict[str, Any]]:
        """What is kept on disk."""
        tensors, about = super().state()
        return tensors | {f"loc/{name}": value for name, value in (self.loc or {}).items()}, about


class LaplacePrior(Prior):
    """w ~ Laplace(0, b), scale b; its standard deviation is b sqrt(2)."""

    name: ClassVar[str] = "laplace"

    def cells(self, name: str, values: Tensor, scale: Tensor) -> Tensor:
        """Log-density of a Laplace distribution."""
        return -values.abs() / scale - (2 * scale).log()

    def kl(self, name: str, loc: Tensor, log_scale: Tensor, prior_log_scale: Tensor) -> Tensor:
        """From the mean of |w| for w ~ N(m, s^2): s sqrt(2 / pi) exp(-m^2 / 2 s^2) + m erf(m / s sqrt 2)."""
        ratio = loc * (-log_scale).exp()
        mean_size = log_scale.exp() * sqrt(2 / pi) * (-0.5 * ratio.square()).exp() + loc * torch.erf(
            ratio / sqrt(2)
        )
        return (
            mean_size * (-prior_log_scale).exp()
            + log(2)
            + prior_log_scale
            - log_scale
            - 0.5 * (1 + _LOG_TWO_PI)
        )

    def with_scales(self, scales: Mapping[str, Tensor]) -> "LaplacePrior":
        """The family with those scales."""
        return LaplacePrior(scales, self.learned)


class ScaleMixturePrior(Prior):
    r"""w ~ pi N(0, s^2) + (1 - pi) N(0, (r s)^2): many weights near zero, few large ones.

    Args:
        scales: Standard deviations s of the wide component, by name.
        learned: Whether the evidence is to fit them.
        mixture_weight: Part pi of the wide component.
        ratio: r, of the narrow component's standard deviation to the wide one's.

    Raises:
        ConfigError: If the part isn't between 0 and 1, or the ratio not above 0.

    Source: Weight uncertainty in neural networks, 2015, https://arxiv.org/abs/1505.05424.
    """

    name: ClassVar[str] = "scale-mixture"

    def __init__(
        self,
        scales: Mapping[str, Tensor],
        learned: bool = False,
        mixture_weight: float = 0.5,
        ratio: float = 0.0025,
    ) -> None:
        super().__init__(scales, learned)
        if not (is_scale(mixture_weight) and float(mixture_weight) < 1 and is_scale(ratio)):
            raise ConfigError(
                f"a scale mixture needs mixture_weight between 0 and 1 and scale_ratio above 0; got "
                f"{mixture_weight!r} and {ratio!r}"
            )
        self.mixture_weight = float(mixture_weight)
        self.ratio = float(ratio)

    def cells(self, name: str, values: Tensor, scale: Tensor) -> Tensor:
        """Log-density of the mixture."""
        squares = values.square() * (-0.5 / scale.square())
        log_scale = scale.log() + 0.5 * _LOG_TWO_PI
        wide = squares + (log(self.mixture_weight) - log_scale)
        narrow = squares / self.ratio**2 + (log(1 - self.mixture_weight) - log(self.ratio) - log_scale)
        return torch.logaddexp(wide, narrow)

    def with_scales(self, scales: Mapping[str, Tensor]) -> "ScaleMixturePrior":
        """The family with those scales."""
        return ScaleMixturePrior(scales, self.learned, self.mixture_weight, self.ratio)

    def state(self) -> tuple[Values, dict[str, Any]]:
        """What is kept on disk."""
        tensors, about = super().state()
        return tensors, about | {"mixture_weight": self.mixture_weight, "ratio": self.ratio}


PRIORS: Registry[type[Prior]] = Registry(
    "prior over weights",
    {family.name: family for family in (NormalPrior, ScaleMixturePrior, LaplacePrior)},
)


def prior(name: str, weights: Mapping[str, Tensor], prior_scale: PriorScale = 1.0, **options: float) -> Prior:
    """The prior of that name over a network's weights.

    Args:
        name: One of ``PRIORS``.
        weights: The unknown parameters.
        prior_scale: Of all weights; by the name of a parameter or module; or "learned", one a tensor.
        **options: ``mixture_weight`` and ``ratio`` of the scale mixture.

    Raises:
        ConfigError: If there is no such prior or parameter, a parameter is left out, or a scale isn't above 0.

    Example:
        >>> found = prior("normal", {"0.weight": torch.zeros(2, 3)}, 2.0)
        >>> round(float(found.log_prob({"0.weight": torch.zeros(1, 2, 3)})), 3)
        -9.673
    """
    family: Any = PRIORS[name]
    if options and family is not ScaleMixturePrior:
        raise ConfigError(f"{', '.join(options)}: only prior='scale-mixture' has these; leave them out")
    learned = prior_scale == "learned"
    if isinstance(prior_scale, str) and not learned:
        raise ConfigError(f"prior_scale is a number, numbers by layer, or 'learned'; got {prior_scale!r}")
    scales: dict[str, Tensor] = {}
    for parameter, value in weights.items():
        number = 1.0 if isinstance(prior_scale, str) else _scale_of(parameter, prior_scale)
        if not is_scale(number):
            raise ConfigError(f"prior_scale is a standard deviation above 0; got {number!r} for {parameter}")
        scales[parameter] = value.new_tensor(float(number))
    if isinstance(prior_scale, Mapping):
        for wanted in prior_scale:
            if not any(_owns(wanted, parameter) for parameter in weights):
                raise ConfigError(
                    f"prior_scale names '{wanted}', which no unknown parameter is or lies in; there are: "
                    f"{', '.join(weights)}"
                )
    return family(scales, learned, **options)


def flat_prior(prior: Prior, weights: Mapping[str, Tensor]) -> Prior:
    """The prior of all weights as one tensor, whose name is empty.

    Args:
        prior: Over the weights by name.
        weights: Them, in the order of the tensor.
    """
    kinds = {float(scale) if scale.ndim == 0 else None for scale in prior.scales.values()}
    if len(kinds) == 1 and None not in kinds:
        scales = {"": next(iter(prior.scales.values()))}
    else:
        scales = {"": flat({name: prior.scales[name].expand_as(v) for name, v in weights.items()}, weights)}
    if isinstance(prior, NormalPrior):
        loc = None if prior.loc is None else {"": flat(prior.loc, weights)}
        return NormalPrior(scales, prior.learned, loc)
    return prior.with_scales(scales)


class TrainedPrior:
    """A prior over values that are trained, whether they lie in one tensor or not.

    Args:
        prior: Over the weights by name.
        weights: Them, which come first among the values.
    """

    def __init__(self, prior: Prior, weights: Mapping[str, Tensor]) -> None:
        self.prior = prior
        self.flat = flat_prior(prior, weights)
        self.size = sum(value.numel() for value in weights.values())

    def log_prob(self, values: Mapping[str, Tensor]) -> Float[Tensor, " s"]:
        """Log p(w) of S sets of values in nats, (S,)."""
        if "" in values:
            return self.flat.log_prob({"": values[""][:, : self.size]})
        return self.prior.log_prob(values)


def _rows(values: Float[Tensor, "s *shape"]) -> Float[Tensor, "s size"]:
    """A row of numbers a set, also of sets of single numbers."""
    return values.reshape(len(values), -1)


def _owns(wanted: str, parameter: str) -> bool:
    return parameter == wanted or parameter.startswith(f"{wanted}.")


def _scale_of(parameter: str, prior_scale: float | Mapping[str, float | int]) -> float:
    if not isinstance(prior_scale, Mapping):
        return prior_scale
    owners = [wanted for wanted in prior_scale if _owns(wanted, parameter)]
    if not owners:
        raise ConfigError(
            f"prior_scale says nothing of '{parameter}'; it has {', '.join(prior_scale)}. Name every layer"
        )
    return prior_scale[max(owners, key=len)]


def restored(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> Prior:
    """The prior that ``state`` was taken of."""
    scales = {k.removeprefix("scale/"): v for k, v in tensors.items() if k.startswith("scale/")}
    loc = {k.removeprefix("loc/"): v for k, v in tensors.items() if k.startswith("loc/")}
    options = {k: v for k, v in about.items() if k in ("mixture_weight", "ratio")}
    family: Any = PRIORS[about["prior"]]
    if loc:
        options["loc"] = loc
    return family(scales, about["learned"], **options)
