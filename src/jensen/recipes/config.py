"""The options of a variational autoencoder, typed and checked."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from jensen.bounds import BOUNDS, GRADIENTS
from jensen.errors import ConfigError, unknown
from jensen.likelihoods import LIKELIHOODS
from jensen.nets import ACTIVATIONS, ARCHITECTURES
from jensen.posteriors import POSTERIORS
from jensen.priors import PRIORS
from jensen.registry import Registry


def _widths(value: Any) -> Any:
    """Accepts 400 and "400,200" for (400,) and (400, 200), and "" for none."""
    if isinstance(value, int):
        return (value,)
    if isinstance(value, str):
        return tuple(part.strip() for part in value.split(",") if part.strip())
    return value


Widths = Annotated[tuple[Annotated[int, Field(gt=0)], ...], BeforeValidator(_widths)]


class VAEConfig(BaseModel):
    """The options of a variational autoencoder, as ``--set key=value`` and ``jensen.VAE(options=...)`` take them."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    latent_dim: int = Field(16, gt=0, description="number of latents")
    prior: str = Field("normal", description="family of p(z)")
    components: int = Field(10, gt=0, description="components of the mixture prior")
    posterior: str = Field("normal", description="family of q(z|x)")
    likelihood: str = Field("auto", description="family of p(x|z); auto chooses from the data")
    scale: float | Literal["learned", "per-dimension", "network"] = Field(
        "learned", description="scale of the normal likelihood, in units of the data's standard deviation"
    )
    classes: int = Field(256, gt=1, description="classes of a cell of the categorical likelihood")
    network: str = Field("mlp", description="architecture of encoder and decoder")
    hidden: Widths = Field((400,), description="widths of the hidden layers of mlp, from data to latents")
    channels: Widths = Field((32, 64), description="channels of conv and residual, from data to latents")
    width: int = Field(256, gt=0, description="width of residual-mlp")
    blocks: int = Field(2, gt=0, description="blocks of residual-mlp")
    activation: str = Field("relu", description="activation between layers")
    dropout: float = Field(0.0, ge=0, lt=1, description="part of the hidden units dropped in training")
    input_dropout: float = Field(
        0.0, ge=0, lt=1, description="part of the encoder's inputs dropped in training"
    )
    bound: str = Field("elbo", description="bound that is maximised")
    samples: int = Field(1, gt=0, description="draws for each datum in training")
    gradient: str = Field("auto", description="estimator of the bound's gradient; auto chooses by the bound")
    tighten: float | None = Field(
        None,
        ge=0,
        lt=1,
        description="part of the epochs, at the end, that maximise the importance-weighted bound; by default 0.075 "
        "after the ELBO with the networks mlp and residual-mlp, where memory allows for the draws, else 0",
    )
    tighten_samples: int = Field(10, gt=1, description="draws of that bound for each datum")
    beta: float = Field(1.0, ge=0, description="weight of the KL; other than 1 it is no longer the bound")
    free_bits: float = Field(0.0, ge=0, description="nats of KL that aren't punished")
    kl_warm_up: float = Field(0.0, ge=0, description="epochs over which the weight of the KL grows to beta")
    epochs: int | None = Field(
        None, gt=0, description="passes over the data; by default 200, more for small data"
    )
    batch_size: int = Field(100, gt=0, description="data in a batch")
    learning_rate: float = Field(1e-3, gt=0, description="highest step size of Adam")
    warm_up: float = Field(0.01, ge=0, lt=1, description="part of the steps over which the step size grows")
    decay: bool = Field(False, description="whether the step size then falls along a half cosine to zero")
    weight_decay: float = Field(0.0, ge=0, description="decoupled weight decay")
    clip_norm: float | None = Field(100.0, gt=0, description="largest norm of the gradient")
    averaging: float | None = Field(
        0.9998, gt=0, lt=1, description="decay of the moving average of the weights"
    )
    guard: bool = Field(True, description="whether steps with a non-finite gradient are skipped and counted")
    patience: int | None = Field(
        10, gt=0, description="validations without a significant improvement until training stops"
    )
    validate_every: int = Field(1, gt=0, description="epochs from one validation to the next")
    accumulate: int = Field(
        1, gt=0, description="parts in which a batch is taken, one after the other, to save memory"
    )
    precision: Literal["32", "bf16-mixed"] = Field(
        "32", description="of the networks' products in training; probabilities keep 32 bits"
    )
    checkpointing: bool = Field(
        False, description="whether activations are computed again in the backward pass, to save memory"
    )
    compile: bool = Field(
        False, description="whether torch.compile turns the networks into code of their own"
    )
    capture: Literal["auto", "off"] = Field(
        "auto",
        description="whether steps are repeated from a recording, on a GPU as a CUDA graph, where that can be",
    )
    threads: int | None = Field(
        None, gt=0, description="threads of the processor; by default one for small models, else all"
    )

    @property
    def second_stage(self) -> float:
        """What ``tighten`` is to the training loop."""
        return self.tighten or 0.0

    @model_validator(mode="after")
    def _names_exist(self) -> "VAEConfig":
        families: list[tuple[str, Registry[Any]]] = [
            (self.prior, PRIORS),
            (self.posterior, POSTERIORS),
            (self.network, ARCHITECTURES),
            (self.activation, ACTIVATIONS),
            (self.bound, BOUNDS),
        ]
        for name, registry in families:
            registry[name]
        if self.likelihood != "auto":
            LIKELIHOODS[self.likelihood]
        if self.gradient != "auto":
            GRADIENTS[self.gradient]
        return self


C = TypeVar("C", bound=BaseModel)


def parse(defaults: Mapping[str, Any], options: Mapping[str, Any]) -> VAEConfig:
    """The options over the defaults, checked.

    Args:
        defaults: What a recipe sets.
        options: What the user sets; values may be text, as from a command line.

    Returns:
        The config.

    Raises:
        ConfigError: If an option doesn't exist (the message names the nearest one) or can't take its value.

    Example:
        >>> parse({}, {"latent_dim": "8", "hidden": "200,200"}).hidden
        (200, 200)
    """
    return parse_as(VAEConfig, defaults, options)


def parse_as(kind: type[C], defaults: Mapping[str, Any], options: Mapping[str, Any]) -> C:
    """The options over the defaults, checked, as a config of that kind; see ``parse``."""
    for key in options:
        if key not in kind.model_fields:
            raise ConfigError(unknown("option", key, kind.model_fields))
    values = {**defaults, **options}
    optional = [key for key, field in kind.model_fields.items() if type(None) in get_args(field.annotation)]
    values |= {
        key: None for key in optional if isinstance(values.get(key), str) and values[key].lower() == "none"
    }
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        cause = first.get("ctx", {}).get("error")
        if isinstance(cause, ConfigError):
            raise cause from None
        # A value that may be of several types has failed each of them.
        wanted = [e["msg"].lower() for e in error.errors() if e["input"] is first["input"]]
        raise ConfigError(
            f"option {first['loc'][0]}: {', or '.join(dict.fromkeys(wanted))}, got {first['input']!r}"
        ) from None
