"""Variational autoencoders, assembled from a config."""

from math import inf, prod
from typing import Any

import torch
from torch import Tensor, nn

from jensen.bounds import BOUNDS, GRADIENTS, Stage, VariationalObjective
from jensen.data import Schema, Stored
from jensen.errors import ConfigError, SupportError
from jensen.likelihoods import LIKELIHOODS, Likelihood
from jensen.likelihoods.counts import Counts
from jensen.models import LatentVariableModel
from jensen.nets import ARCHITECTURES, Checkpointed, DropInputs, HalfPrecision, Log1p, Rescale, compiled
from jensen.posteriors import POSTERIORS
from jensen.priors import PRIORS
from jensen.recipes.config import VAEConfig

AUTO = {"binary": "bernoulli", "uint8": "logistic-256", "counts": "negative-binomial", "real": "normal"}
"""The likelihood that ``likelihood="auto"`` chooses for each kind of data."""


TIGHTEN = 0.075
"""Of the epochs, on the importance-weighted bound, by default."""

MANY = 20_000_000
"""Numbers that the decoder returns for all draws of a batch above which the default is to leave that out."""

_TIGHTEN_SAMPLES = VAEConfig.model_fields["tighten_samples"].default


def resolve(config: VAEConfig, schema: Schema, n: int) -> VAEConfig:
    """Fills in what the config leaves to the data.

    Args:
        config: With "auto" for the likelihood or None for the epochs, perhaps.
        schema: What one datum looks like.
        n: Number of training data.

    Returns:
        The config with every choice made.

    Raises:
        ConfigError: If choices contradict each other.
    """
    choices: dict[str, Any] = {}
    if config.likelihood == "auto":
        choices["likelihood"] = AUTO[schema.kind]
    _refuse_idle(config.model_copy(update=choices))
    if config.epochs is None:
        steps = -(-n // config.batch_size)
        choices["epochs"] = max(200, -(-2000 // steps))
    if (config.prior == "class") != (config.posterior == "class"):
        raise ConfigError("a class as the latent needs both prior='class' and posterior='class'")
    gradient = config.gradient
    if gradient == "auto":
        gradient = choices["gradient"] = _gradient(config)
    if config.posterior == "class" and gradient != "score":
        raise ConfigError(
            "a class as the latent has no path-wise gradient; use gradient='score' and samples=8"
        )
    if gradient == "score" and config.samples < 2:
        raise ConfigError("the score-function gradient needs samples of at least 2; try samples=8")
    if gradient == "doubly-reparameterised" and config.bound != "iwae":
        raise ConfigError("gradient='doubly-reparameterised' is that of bound='iwae'")
    if config.bound != "elbo" and (config.beta != 1 or config.free_bits > 0 or config.kl_warm_up > 0):
        raise ConfigError("beta, free_bits and kl_warm_up weigh the ELBO's KL; use them with bound='elbo'")
    if config.tighten is None:
        small = _decoded(config.model_copy(update=choices), schema) <= MANY
        choices["tighten"] = TIGHTEN if small and not _why_not_tighten(config) else 0.0
    elif config.tighten > 0 and (reason := _why_not_tighten(config)):
        raise ConfigError(
            f"tighten ends the fit of an ELBO on the importance-weighted bound, and {reason}; leave it out"
        )
    if not choices.get("tighten", config.tighten) and config.tighten_samples != _TIGHTEN_SAMPLES:
        raise ConfigError(
            "tighten_samples would do nothing, as no part of the fit is on the importance-weighted bound; leave it out"
        )
    if config.compile or config.checkpointing:
        # Neither can be a part of a step that is captured as a whole.
        choices["capture"] = "off"
    return config.model_copy(update=choices)


def assemble(config: VAEConfig, schema: Schema, x: Tensor | Stored | None = None) -> LatentVariableModel:
    """Builds the model of a resolved config.

    Args:
        config: Every choice made.
        schema: What one datum looks like.
        x: Training data, in memory or on disk, whose mean and spread set the units of real data; None where the
            weights are loaded afterwards.

    Returns:
        The model, its weights drawn from torch's generator.

    Raises:
        ShapeError: If the network needs images and the data are none.
        SupportError: If the likelihood can't have made the data.
    """
    event = schema.event_shape
    family = LIKELIHOODS[config.likelihood]
    options = _of_likelihood(config)
    outputs = family.output_count(**options)
    if config.likelihood == "normal":
        shift, unit = _units(schema, x)
        options |= {"shift": shift, "unit": unit}
    elif issubclass(family, Counts):
        options["level"] = _level(schema, x)

    architecture = ARCHITECTURES[config.network]
    settings = {name: getattr(config, name) for name in architecture.options}
    reverse = {name: tuple(reversed(v)) if isinstance(v, tuple) else v for name, v in settings.items()}
    posterior = POSTERIORS[config.posterior]
    encoder = architecture.encoder(event, posterior.parameter_shape(config.latent_dim), **settings)
    decoder = architecture.decoder((config.latent_dim,), (outputs, *event), **reverse)

    encoder, decoder = (_economic(network, config, fitting=x is not None) for network in (encoder, decoder))

    likelihood: Likelihood = family(decoder, event, **options)
    if x is not None:
        _check(likelihood, x)
    return LatentVariableModel(
        prior=_prior(config),
        posterior=posterior(_inputs(encoder, config, schema, x)),
        likelihood=likelihood,
    )


def objective(model: LatentVariableModel, config: VAEConfig) -> VariationalObjective:
    """What training minimises for that config."""
    tight = Stage(BOUNDS["iwae"], GRADIENTS["doubly-reparameterised"], config.tighten_samples)
    return VariationalObjective(
        model,
        BOUNDS[config.bound],
        GRADIENTS[config.gradient],
        config.samples,
        tight if config.tighten else None,
        beta=config.beta,
        free_bits=config.free_bits,
        warm_up=config.kl_warm_up,
    )


def _decoded(config: VAEConfig, schema: Schema) -> int | float:
    """How many numbers the decoder returns in a step of the second stage; of images, layers between hold more."""
    if not config.network.endswith("mlp"):
        return inf
    outputs = LIKELIHOODS[config.likelihood].output_count(**_of_likelihood(config))
    return config.batch_size * config.tighten_samples * outputs * prod(schema.event_shape)


def _of_likelihood(config: VAEConfig) -> dict[str, Any]:
    """The options of the likelihood's family."""
    if config.likelihood == "normal":
        return {"scale": config.scale}
    return {"classes": config.classes} if config.likelihood == "categorical" else {}


def _why_not_tighten(config: VAEConfig) -> str | None:
    """What stands against a second stage on the importance-weighted bound."""
    if config.bound != "elbo":
        return f"bound is {config.bound!r} already"
    if config.beta != 1 or config.free_bits > 0:
        return "beta or free_bits weigh the KL"
    if config.posterior == "class" or config.gradient == "score":
        return "it takes path-wise gradients"
    return None


def _refuse_idle(config: VAEConfig) -> None:
    """Refuses an option that was set for a family that isn't chosen, where it would do nothing."""
    owners: dict[str, tuple[str, tuple[str, ...]]] = {
        "components": ("prior", ("mixture",)),
        "scale": ("likelihood", ("normal",)),
        "classes": ("likelihood", ("categorical",)),
    }
    for option in {option for architecture in ARCHITECTURES.values() for option in architecture.options}:
        takers = [name for name, architecture in ARCHITECTURES.items() if option in architecture.options]
        owners[option] = ("network", tuple(takers))
    for option, (choice, takers) in sorted(owners.items()):
        chosen = getattr(config, choice)
        if chosen not in takers and getattr(config, option) != VAEConfig.model_fields[option].default:
            raise ConfigError(
                f"{option} is for {choice}={' or '.join(map(repr, takers))} and would do nothing for "
                f"{choice}={chosen!r}; leave {option} out, or set {choice}"
            )


def _economic(network: nn.Module, config: VAEConfig, *, fitting: bool) -> nn.Module:
    """The network as it is to be computed."""
    if config.compile and fitting:
        network = compiled(network)
    if config.checkpointing:
        # What is compiled is one piece.
        network = Checkpointed(network, whole=config.compile and fitting)
    return HalfPrecision(network) if config.precision == "bf16-mixed" else network


def _gradient(config: VAEConfig) -> str:
    """The estimator of least variance among those without bias for that bound."""
    if config.posterior == "class":
        return "pathwise"
    if config.bound == "iwae" and config.samples > 1:
        return "doubly-reparameterised"
    return "sticking-the-landing" if config.bound == "elbo" and config.free_bits == 0 else "pathwise"


def _prior(config: VAEConfig) -> Any:
    options = {"components": config.components} if config.prior == "mixture" else {}
    return PRIORS[config.prior](config.latent_dim, **options)


def _check(likelihood: Likelihood, x: Tensor | Stored) -> None:
    """Refuses data that the likelihood can't have made; of data on disk, extreme values are looked at first."""
    if isinstance(x, Tensor):
        likelihood.check(x)
        return
    try:
        likelihood.check(torch.as_tensor(x.witnesses().x).float())
    except SupportError:
        x.find(lambda rows: likelihood.check(torch.as_tensor(rows).float()))


def _units(schema: Schema, x: Tensor | Stored | None, *, log: bool = False) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of each cell, or of log(1 + it); a constant cell has unit one.

    Raises:
        SupportError: If float32 has no square of the units.
    """
    if x is None:
        return torch.zeros(schema.event_shape), torch.ones(schema.event_shape)
    if isinstance(x, Tensor):
        x = x.double().log1p() if log else x.double()
        mean, spread = x.mean(0), x.std(0, correction=0)
    else:
        moments = x.statistics.log1p if log else x.statistics.plain
        assert moments is not None, "counts have logarithms"
        mean, spread = torch.as_tensor(moments.mean), torch.as_tensor(moments.variance()).sqrt()
    # Less than that is the rounding of the mean, or nothing to float32, which has no square of it.
    varies = (spread > 1e-12 * mean.abs()) & (spread > 1e-16)
    largest = float(torch.maximum(mean.abs(), spread).max())
    if largest > 1e18:
        raise SupportError(
            f"the data are as large as {largest:.1e}, whose square single precision doesn't hold; divide them by a "
            "power of ten, and add its logarithm to the NLL of each cell"
        )
    return mean.float(), torch.where(varies, spread, 1.0).float()


def _level(schema: Schema, x: Tensor | Stored | None) -> Tensor:
    """Mean of each cell of counts; that of half a count in all where there was none."""
    if x is None:
        return torch.ones(schema.event_shape)
    if isinstance(x, Tensor):
        n, mean = len(x), x.double().mean(0)
    else:
        n, mean = x.statistics.plain.count, torch.as_tensor(x.statistics.plain.mean)
    return mean.clamp(min=0.5 / n).float()


def _inputs(encoder: nn.Module, config: VAEConfig, schema: Schema, x: Tensor | Stored | None) -> nn.Module:
    """The encoder with its input in units that networks like."""
    if config.input_dropout > 0:
        encoder = DropInputs(encoder, config.input_dropout)
    if schema.kind == "uint8":
        return Rescale(encoder, 127.5, 127.5)
    if schema.kind == "counts":
        return Log1p(Rescale(encoder, *_units(schema, x, log=True)))
    if schema.kind == "real":
        return Rescale(encoder, *_units(schema, x))
    return encoder
