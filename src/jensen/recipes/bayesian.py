"""Classifiers and regressors with a posterior over a network's weights, assembled from a config."""

from collections.abc import Mapping
from itertools import pairwise
from math import prod
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from jensen.data import Schema
from jensen.errors import ConfigError, ShapeError, unknown
from jensen.nets import ACTIVATIONS
from jensen.recipes.config import Widths
from jensen.weights import METHODS, Standardised
from jensen.weights.network import REFUSALS
from jensen.weights.options import TrainingOptions
from jensen.weights.options import parse as parse_options
from jensen.weights.standardised import embeds

STEPS = 1000
"""Steps of training that small data get by default."""

LEAST_EPOCHS, MOST_EPOCHS = 10, 500
"""Passes over the data by default, at least and at most."""

DROPPED = 0.1
"""Part of the units that MC-dropout drops by default."""

LOGITS = 5.0
"""About the standard deviation of a class's logit before any data: small tables call for sure predictions."""

_SMALLEST_IMAGE = 8
"""Side from which on images get a convolutional network by default."""


class BayesianConfig(BaseModel):
    """The options that classifiers and regressors share; those of the method come along under their own names."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str = Field("ensemble", description="how the posterior over the weights is found")
    network: Literal["auto", "mlp", "conv", "own"] = Field(
        "auto",
        description="mlp or conv; auto: conv for images of at least 8x8 cells; own: of the user, in Python",
    )
    hidden: Widths = Field((50,), description="widths of the hidden layers of mlp")
    channels: Widths = Field((16, 32), description="channels of conv, each halving the sides")
    activation: str = Field("relu", description="activation between layers")
    standardise: bool = Field(
        True,
        description="whether the network sees data (unless it has embeddings), and normal targets, in units of their "
        "spread",
    )
    prior: str = Field("normal", description="family of the weights' prior: normal, scale-mixture, laplace")
    prior_scale: float | Literal["learned"] | None = Field(
        None,
        description="of the prior; none: learned by methods that do so, else by the widths of the layers",
    )
    epochs: int | None = Field(
        None, ge=0, description="passes over the data; by default about 1000 steps, 10 to 500 passes"
    )
    batch_size: int | None = Field(
        None, gt=0, description="data in a batch; by default 100, less of small data"
    )
    learning_rate: float | None = Field(
        None, gt=0, description="highest step size; by default 0.01, conv 0.002"
    )
    predictive_samples: int = Field(64, gt=0, description="sets of weights that predictions average over")
    options: dict[str, Any] = Field(
        default_factory=dict[str, Any], description="further options of the method by name"
    )

    @classmethod
    def gathered(cls, options: Mapping[str, Any]) -> dict[str, Any]:
        """Options of the method, given by their own names, put under ``options``.

        Args:
            options: As the user gave them.

        Returns:
            The same with no name that the config doesn't know.

        Raises:
            ConfigError: If neither the config nor the method has an option of that name.
        """
        known = cls.model_fields
        chosen = str(options.get("method", known["method"].default))
        own = METHODS[chosen].options.model_fields
        result = {key: value for key, value in options.items() if key in known}
        of_method = {**dict(options.get("options") or {})}
        for key, value in options.items():
            if key in known:
                continue
            if key not in own and key not in _PRIOR_OPTIONS:
                raise ConfigError(
                    unknown(
                        f"option of method '{chosen}'", key, {*known, *own, *_PRIOR_OPTIONS} - {"options"}
                    )
                )
            of_method[key] = value
        return {**result, "options": of_method} if of_method else result


_PRIOR_OPTIONS = ("mixture_weight", "scale_ratio")
"""Of the prior "scale-mixture"."""


class ClassifierConfig(BayesianConfig):
    """The options of a classifier."""

    classes: int | None = Field(
        None, gt=1, description="how many classes there are; by default those of the data"
    )


class RegressorConfig(BayesianConfig):
    """The options of a regressor."""

    likelihood: Literal["normal", "poisson"] = Field(
        "normal", description="of the targets: numbers with noise, or counts"
    )
    noise_scale: float | Literal["learned", "network"] = Field(
        "learned",
        description="standard deviation of normal noise: a number in the targets' unit, learned, or given by the "
        "network for each datum",
    )
    targets: int | None = Field(
        None, gt=0, description="how many numbers belong to a datum; by default those of the data"
    )


def resolve(config: Any, schema: Schema, n: int) -> Any:
    """Fills in what the config leaves to the data.

    Args:
        config: Of a classifier or regressor.
        schema: What one datum looks like.
        n: Number of data.

    Returns:
        The config with every choice made.

    Raises:
        ConfigError: If choices contradict each other, or an option of the method can't take its value.
    """
    choices: dict[str, Any] = {}
    event = schema.event_shape
    if config.network == "auto":
        images = len(event) > 1 and min(event[-2:]) >= _SMALLEST_IMAGE
        choices["network"] = "conv" if images else "mlp"
    network = choices.get("network", config.network)
    ACTIVATIONS[config.activation]
    found = METHODS[config.method].options
    trained = issubclass(found, TrainingOptions)
    if trained:
        size = config.batch_size or min(100, max(8, n // 10))
        choices["batch_size"] = min(size, max(n, 1))
        if config.learning_rate is None:
            choices["learning_rate"] = 2e-3 if network == "conv" else 1e-2
        if config.epochs is None:
            steps = max(1, -(-n // choices["batch_size"]))
            choices["epochs"] = min(MOST_EPOCHS, max(LEAST_EPOCHS, -(-STEPS // steps)))
    elif config.epochs is None and "epochs" in found.model_fields:
        choices["epochs"] = found.model_fields["epochs"].default
    if getattr(config, "likelihood", None) == "poisson" and config.noise_scale != "learned":
        raise ConfigError(
            f"noise_scale={config.noise_scale!r} belongs to likelihood='normal', and counts have no noise; leave it out"
        )
    options = dict(config.options)
    if config.method == "dropout" and network != "own":
        options.setdefault("insert", DROPPED)
    choices["options"] = options
    resolved = config.model_copy(update=choices)
    fitting_options(resolved)
    return resolved


def fitting_options(config: Any) -> dict[str, Any]:
    """The options of the method in a resolved config, checked.

    Raises:
        ConfigError: If one doesn't exist or can't take its value.
    """
    kind = METHODS[config.method].options
    of_prior = {key: value for key, value in config.options.items() if key in _PRIOR_OPTIONS}
    given = {key: value for key, value in config.options.items() if key not in of_prior}
    for name in ("epochs", "batch_size", "learning_rate"):
        value = getattr(config, name)
        if name in kind.model_fields and value is not None:
            given[name] = value
        elif name not in kind.model_fields and value is not None:
            raise ConfigError(f"method='{config.method}' has no option {name}; leave it out")
    parsed = parse_options(kind, given, config.method)
    return {**{key: getattr(parsed, key) for key in given}, **of_prior}


def assemble(
    config: Any, schema: Schema, x: Tensor | None = None, network: nn.Module | None = None
) -> Standardised:
    """Builds the model of a resolved config, without a posterior.

    Args:
        config: Every choice made; of a classifier with the number of classes.
        schema: What one datum looks like.
        x: Not needed.
        network: The user's own, where the config says so.

    Returns:
        The model, its weights drawn from torch's generator.

    Raises:
        ConfigError: If the config says "own" and no network is given, or the other way round.
        ShapeError: If the network needs images and the data are none.
    """
    likelihood = "categorical" if isinstance(config, ClassifierConfig) else config.likelihood
    if (config.network == "own") != (network is not None):
        raise ConfigError(
            "network='own' needs the network that it is about: give it as network=net"
            if network is None
            else f"network='{config.network}' is built from its options; give none, or set network='own'"
        )
    event = schema.event_shape
    if network is not None:
        if likelihood == "categorical":
            found = outputs(network, event)
            if config.classes == 2 and found == 1:
                likelihood = "bernoulli"
            elif config.classes and found and found != config.classes:
                raise ShapeError(
                    f"the network returns {found} numbers a datum, and there are {config.classes} classes; give one "
                    "with one output a class (or with one for two classes)"
                )
        return Standardised(network, event, likelihood, scale=config.standardise)
    if isinstance(config, ClassifierConfig):
        wanted = config.classes or 2
    else:
        each = 2 if config.likelihood == "normal" and config.noise_scale == "network" else 1
        wanted = each * (config.targets or 1)
    if config.network == "conv":
        built, view = _convolutional(config, event, wanted)
    else:
        # Many small products are as fast in 64 bits, in which a datum's answer doesn't depend on its neighbours.
        built, view = _dense(config, prod(event), wanted).double(), (prod(event),)
    return Standardised(built, view, likelihood, scale=config.standardise, columns=len(event) == 1)


def prior_scales(config: Any, network: nn.Module) -> Any:
    """The scales of the prior of a network's weights.

    Where they are left open, and the method doesn't learn them, a weight has g / sqrt(inputs of its unit) and a bias 1,
    with g = sqrt(2), which ReLU keeps variances by. In the last layer g is 1 for numbers, whose spread is one, and
    ``LOGITS`` for classes: outputs then have such standard deviations before any data, however wide the layers are.

    Args:
        config: Resolved.
        network: Over whose weights.

    Returns:
        As ``jensen.weights.fit`` takes them.
    """
    if config.prior_scale is not None:
        return config.prior_scale
    if METHODS[config.method].tunes_scales and config.prior == "normal":
        return None
    if not config.standardise:
        return 1.0
    free = {name: value for name, value in network.named_parameters() if value.requires_grad}
    weights = [name for name, value in free.items() if value.ndim > 1]
    last = LOGITS if isinstance(config, ClassifierConfig) else 1.0
    gains = {name: last if name == weights[-1] else 2**0.5 for name in weights}
    return {
        name: gains[name] / prod(value.shape[1:]) ** 0.5 if name in gains else 1.0
        for name, value in free.items()
    }


def outputs(network: nn.Module, event: tuple[int, ...]) -> int | None:
    """How many numbers a network returns for a datum; None if it can't be told."""
    weight = next((p for p in network.parameters()), None)
    # A lazy module would take its shapes from this call, and the network isn't ours to change.
    if weight is None or any(map(nn.parameter.is_lazy, network.parameters())):
        return None
    some = torch.zeros(
        2, *event, dtype=torch.int64 if embeds(network) else weight.dtype, device=weight.device
    )
    modes = [(module, module.training) for module in network.modules()]
    try:
        network.eval()
        with torch.no_grad():
            found = network(some)
    except REFUSALS:
        return None
    finally:
        for module, mode in modes:
            module.training = mode
    if not isinstance(found, Tensor) or found.ndim not in (1, 2):
        return None
    return 1 if found.ndim == 1 else int(found.shape[-1])


def _dense(config: Any, cells: int, wanted: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    widths = [cells, *config.hidden]
    for narrow, wide in pairwise(widths):
        layers += [nn.Linear(narrow, wide), ACTIVATIONS[config.activation]()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], wanted))


def _convolutional(config: Any, event: tuple[int, ...], wanted: int) -> tuple[nn.Sequential, tuple[int, ...]]:
    if len(event) not in (2, 3):
        raise ShapeError(
            f"network='conv' needs images (height, width) or (channels, height, width), got {event}; reshape the data "
            "or use network='mlp'"
        )
    view = (1, *event) if len(event) == 2 else event
    layers: list[nn.Module] = []
    width, height, breadth = view
    for wider in config.channels:
        layers += [nn.Conv2d(width, wider, 4, stride=2, padding=1), ACTIVATIONS[config.activation]()]
        width, height, breadth = wider, height // 2, breadth // 2
    if not height or not breadth:
        raise ShapeError(
            f"images of shape {event} are too small to be halved {len(config.channels)} times; give fewer channels or "
            "use network='mlp'"
        )
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(width * height * breadth, wanted)), view
