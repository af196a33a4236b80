"""MC-dropout: networks with units dropped at random as draws of the posterior."""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional

from jensen.errors import ConfigError
from jensen.seeding import seeded
from jensen.weights.likelihoods import Likelihood
from jensen.weights.map import most_probable
from jensen.weights.network import FunctionalNetwork, Values
from jensen.weights.noisy import exchanged
from jensen.weights.optimise import History
from jensen.weights.options import TrainingOptions
from jensen.weights.posterior import Posterior
from jensen.weights.priors import Prior
from jensen.weights.problem import Problem
from jensen.weights.stacked import Layer, linear_layer

_DROPPING = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d)
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class DropoutOptions(TrainingOptions):
    """Options of method "dropout"."""

    insert: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="probability to drop the inputs of each linear or convolutional layer but the first; by default "
        "the network's own Dropout modules are used",
    )


class Masked(nn.Module):
    """Dropout that in evaluation multiplies by a mask it is given, one for all data.

    In training each datum has a mask of its own, as ever. A mask holds zeros, and 1 / (1 - p) elsewhere.

    Args:
        p: Probability to drop.
        channels: Whether whole channels are dropped.
    """

    mask: Tensor

    def __init__(self, p: float, channels: bool) -> None:
        super().__init__()
        self.p = p
        self.channels = channels
        self.register_buffer("mask", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        """The data with units dropped."""
        return _dropped(self, x)

    def stacked(self, name: str) -> Layer | None:
        """The same for many sets of masks in a chain of layers."""
        return None if self.channels else _mask_layer(name, self.p)


class MaskedLayer(nn.Module):
    """A linear or convolutional layer whose inputs are dropped; its parameters keep their names.

    Args:
        layer: The layer.
        p: Probability to drop.
    """

    mask: Tensor

    def __init__(self, layer: nn.Module, p: float) -> None:
        super().__init__()
        self.weight = layer.weight
        self.bias = layer.bias
        self.register_buffer("mask", torch.ones(()))
        self.p = p
        self.channels = not isinstance(layer, nn.Linear)
        self.apply_weights: Callable[[Tensor, Any, Any], Tensor]
        if isinstance(layer, nn.Linear):
            self.apply_weights = functional.linear
        else:
            self.apply_weights = layer._conv_forward  # pyright: ignore[reportAttributeAccessIssue]

    def forward(self, x: Tensor) -> Tensor:
        """The layer's outputs for inputs of which some were dropped."""
        return self.apply_weights(_dropped(self, x), self.weight, self.bias)

    def stacked(self, name: str) -> Layer | None:
        """The same for many sets of weights and masks in a chain of layers."""
        if self.channels:
            return None
        drop = _mask_layer(name, self.p)
        multiply = linear_layer(name, isinstance(self.bias, Tensor))
        return lambda values, x, training: multiply(values, drop(values, x, training), training)


def _dropped(module: Masked | MaskedLayer, x: Tensor) -> Tensor:
    if not module.training:
        return x * module.mask
    if module.channels:
        return torch.feature_dropout(x, module.p, True)
    return functional.dropout(x, module.p)


def _mask_layer(name: str, p: float) -> Layer:
    def apply(values: Mapping[str, Tensor], x: Tensor, training: bool) -> Tensor:
        if training:
            return functional.dropout(x, p)
        mask = values[f"{name}mask"]
        return x * mask.reshape(len(mask), *[1] * (x.ndim - mask.ndim), *mask.shape[1:])

    return apply


def masked(network: FunctionalNetwork, insert: float | None) -> FunctionalNetwork:
    """The network with dropout whose masks can be given.

    Args:
        network: As it is.
        insert: Probability to drop the inputs of all linear and convolutional layers but the first; None: the
            network's own Dropout modules.

    Raises:
        ConfigError: If it has no such modules, or none of its own.
    """
    modules = dict(network.skeleton.named_modules())
    if insert is None:
        names = [name for name, m in modules.items() if isinstance(m, _DROPPING) and m.p > 0]
        if not names:
            raise ConfigError(
                "the network has no Dropout modules (dropout as a function can't be found); give insert=0.1 to drop "
                "the inputs of its layers, or put nn.Dropout into it"
            )
    else:
        names = [name for name, m in modules.items() if type(m) in _WEIGHTED][1:]
        if not names:
            raise ConfigError(
                "insert drops the inputs of linear and convolutional layers after the first one, of which the network "
                "has none; put nn.Dropout into it"
            )

    def change(skeleton: nn.Module) -> nn.Module:
        for name in names:
            old: Any = skeleton.get_submodule(name)
            made = Masked(old.p, type(old) is not nn.Dropout) if insert is None else MaskedLayer(old, insert)
            skeleton = exchanged(skeleton, name, made.train(old.training))
        return skeleton

    return network.rebuilt(change)


Masks = dict[str, tuple[float, tuple[int, ...]]]
"""For each mask's name the probability to drop and the mask's shape."""


def masks_of(network: FunctionalNetwork, x: Tensor) -> Masks:
    """The masks that a network with dropout takes for such data.

    Raises:
        ConfigError: If a module gets inputs of several shapes.
    """
    found: Masks = {}
    handles: list[Any] = []

    def note(name: str) -> Callable[[nn.Module, Any], None]:
        def hook(module: nn.Module, inputs: Any) -> None:
            assert isinstance(module, Masked | MaskedLayer), "others have no hook"
            event = tuple(inputs[0].shape[1:])
            shape = (event[0], *[1] * (len(event) - 1)) if module.channels else event
            key = f"{name}.mask" if name else "mask"
            if found.setdefault(key, (module.p, shape)) != (module.p, shape):
                raise ConfigError(
                    f"dropout module '{name}' gets inputs of shapes {found[key][1]} and {shape}; give each place a "
                    "module of its own"
                )

        return hook

    for name, module in network.skeleton.named_modules():
        if isinstance(module, Masked | MaskedLayer):
            handles.append(module.register_forward_pre_hook(note(name)))
    try:
        with torch.no_grad():
            network.single({}, x[:2])
    finally:
        for handle in handles:
            handle.remove()
    return found


class DropoutPosterior(Posterior):
    """One set of weights, and masks drawn at random; each draw of the masks is a network.

    Args:
        values: Weights and the likelihood's unknowns, without a dimension of sets.
        masks: As ``masks_of`` finds them.
        network, likelihood, prior, method, options, history: See ``Posterior``; the network has masks.
    """

    kind: ClassVar[str] = "dropout"

    def __init__(
        self,
        values: Mapping[str, Tensor],
        masks: Masks,
        network: FunctionalNetwork,
        likelihood: Likelihood,
        prior: Prior,
        method: str,
        options: Mapping[str, Any] | None = None,
        history: History | None = None,
    ) -> None:
        super().__init__(network, likelihood, prior, method, options, history)
        self.values: Values = {name: value.detach() for name, value in values.items()}
        self.masks = masks

    def draw(self, samples: int) -> Values:
        """The weights as they are, and masks."""
        drawn = {name: value.expand(samples, *value.shape) for name, value in self.values.items()}
        for name, (p, shape) in self.masks.items():
            kept = torch.rand(samples, *shape) >= p
            drawn[name] = kept.to(self.network.device, self.network.dtype) / (1 - p)
        return drawn

    def sample(self, n: int | torch.Size = 1, seed: int | None = None) -> Values:
        """Draws masks.

        Args:
            n: How many; a torch.Size gives as many dimensions.
            seed: None: torch's generator as it is.

        Returns:
            For each unknown parameter (n, *shape), all alike, and for each mask's name, as "2.mask", (n, *shape): zero,
            or 1 / (1 - p). A linear layer whose inputs are dropped has the weights W diag(mask).
        """
        shape = (n,) if isinstance(n, int) else tuple(n)
        count = 1
        for size in shape:
            count *= size
        with seeded(seed):
            drawn = self.draw(count)
        names = [*self.network.weights, *self.masks]
        return {name: drawn[name].reshape(*shape, *drawn[name].shape[1:]) for name in names}

    def state(self) -> tuple[Values, dict[str, Any]]:
        """The weights, and what is dropped."""
        return self.values, {"masks": {name: [p, list(shape)] for name, (p, shape) in self.masks.items()}}

    @classmethod
    def restored(
        cls, common: Mapping[str, Any], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> "DropoutPosterior":
        """The same again."""
        masks: Masks = {name: (p, tuple(shape)) for name, (p, shape) in about["masks"].items()}
        network = masked(common["network"], common["options"]["insert"])
        rest = {name: value for name, value in common.items() if name != "network"}
        return cls(tensors, masks, network, **rest)


def fit_dropout(problem: Problem, options: DropoutOptions) -> DropoutPosterior:
    """The most probable weights under dropout, which stays on in predictions.

    Args:
        problem: Network, data, likelihood and prior.
        options: How to train, and where dropout goes if the network has none.

    Returns:
        The posterior.

    Raises:
        ConfigError: If there is no place for dropout.
        FitError: If training can't go on.

    Source: Dropout as a Bayesian approximation, 2016, https://arxiv.org/abs/1506.02142.
    """
    network = masked(problem.network, options.insert)
    masks = masks_of(network, problem.x)
    found, values, history = most_probable(problem.with_network(network), options)
    return DropoutPosterior(
        values,
        masks,
        found.network,
        problem.likelihood,
        problem.prior,
        "dropout",
        options.model_dump(),
        history,
    )
