"""Models that are solved, not trained: probabilistic PCA, factor analysis, mixtures, hidden Markov models."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from jensen.data import Schema
from jensen.data.arrays import chunks
from jensen.errors import ConfigError, DataError, SupportError
from jensen.models import ppca
from jensen.models.factor_analysis import check_latent_dim
from jensen.models.families import (
    WEIGHTS,
    BernoulliCells,
    CategoricalSymbol,
    Family,
    NormalCells,
    NormalFull,
    NormalWishart,
    PoissonCells,
    UnitNormal,
)
from jensen.models.hidden_markov import HiddenMarkov, fit_hidden_markov
from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.linear_gaussian_em import em
from jensen.models.mixture import Mixture
from jensen.models.mixture_solver import Settings, climb
from jensen.models.progress import Iteration
from jensen.models.rows import Rows
from jensen.models.sequences import Sequences
from jensen.models.stored_array import StoredArray

Array = NDArray[Any] | StoredArray
"""Data (n, *event), in memory or on disk."""


class _Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class PPCAConfig(_Config):
    """The options of probabilistic PCA."""

    latent_dim: int | Literal["laplace", "held-out"] = Field(
        2, description="number of latents, or by what to choose it: laplace evidence, or held-out data"
    )
    solver: Literal["auto", "eigh", "em", "gradient"] = Field(
        "auto", description="auto: the closed form (eigh) for complete data, EM where cells are missing"
    )
    epochs: int = Field(1000, gt=0, description="iterations at most")
    tolerance: float = Field(1e-8, gt=0, description="gain in nats a datum and cell at which it stops")


class FactorAnalysisConfig(_Config):
    """The options of factor analysis."""

    latent_dim: int = Field(2, gt=0, description="number of factors")
    solver: Literal["em", "gradient"] = Field("em", description="how it is fitted")
    epochs: int = Field(1000, gt=0, description="iterations at most")
    tolerance: float = Field(1e-8, gt=0, description="gain in nats a datum and cell at which it stops")


class BernoulliMixtureConfig(_Config):
    """The options of a mixture of Bernoullis, and those that all mixtures share."""

    components: int = Field(5, gt=0, description="number of components")
    solver: Literal["cavi", "em", "gradient", "plain-gradient", "stochastic"] = Field(
        "cavi",
        description="em: maximum likelihood; cavi: variational Bayes; gradient: along natural gradients of its "
        "bound; plain-gradient: along its gradients by means and log variances, of covariance=unit; stochastic: on "
        "minibatches",
    )
    weights: Literal["auto", "dirichlet", "dirichlet-process", "uniform"] = Field(
        "auto", description="prior of the weights; auto: dirichlet, none with em"
    )
    concentration: float | None = Field(
        None, gt=0, description="of the weights' prior; none: 1 / components, or 1 for the process"
    )
    restarts: int = Field(5, gt=0, description="starts that are climbed at once; the best is kept")
    epochs: int = Field(500, gt=0, description="passes over the data at most")
    tolerance: float = Field(1e-5, gt=0, description="gain in nats a datum at which it stops")
    step: float = Field(0.5, gt=0, le=1, description="step along the natural gradient")
    batch_size: int = Field(256, gt=0, description="data in a batch of the stochastic solver")
    cell_concentration: float = Field(1.0, gt=0, description="a of the Beta(a, a) prior of each cell")


class MixtureConfig(BernoulliMixtureConfig):
    """The options of a Gaussian mixture."""

    covariance: Literal["full", "tied", "diag", "spherical", "unit"] = Field(
        "full", description="of the components; unit: known variance one, normal prior on the means"
    )
    prior_scale: float = Field(
        10.0,
        gt=0,
        description="standard deviation of the means' prior with covariance=unit, in the data's unit",
    )
    mean_precision: float = Field(1.0, gt=0, description="how many data the prior of a mean counts for")
    freedom: float | None = Field(
        None,
        gt=0,
        description="degrees of freedom of the precisions' prior; none: number of cells (1 for diag)",
    )


class HMMConfig(_Config):
    """The options of a hidden Markov model."""

    components: int = Field(3, gt=0, description="number of states")
    solver: Literal["em", "vb"] = Field("em", description="em: maximum likelihood; vb: variational Bayes")
    emissions: Literal["auto", "normal", "categorical", "poisson", "bernoulli"] = Field(
        "auto", description="what a state emits; auto chooses from the data"
    )
    covariance: Literal["full", "tied", "diag", "spherical"] = Field(
        "full", description="of normal emissions"
    )
    symbols: int | None = Field(
        None, gt=1, description="of categorical emissions; none: as many as were seen"
    )
    concentration: float = Field(1.0, gt=0, description="of the Dirichlet priors with vb")
    restarts: int = Field(1, gt=0, description="starts; the best after a tenth of the passes is kept")
    epochs: int = Field(200, gt=0, description="passes over the data at most")
    tolerance: float = Field(1e-4, gt=0, description="gain in nats a sequence at which it stops")


@dataclass(frozen=True)
class Exact:
    """What a recipe needs of such a model."""

    title: str
    source: str
    config_type: type[BaseModel]
    resolve: Callable[[Any, Schema, int], Any]
    assemble: Callable[[Any, Schema, Array | None], Any]
    solve: Callable[[Any, Any, Array, int], Iterator[Iteration]]
    defaults: Mapping[str, Any] = field(default_factory=dict[str, Any])
    least_data: int = 2


def _cells(schema: Schema) -> int:
    return int(np.prod(schema.event_shape))


def _linear_resolve(config: Any, schema: Schema, n: int) -> Any:
    if isinstance(config.latent_dim, int):
        check_latent_dim(config.latent_dim, _cells(schema))
    return config


def _linear_assemble(config: Any, schema: Schema, x: Array | None) -> LinearGaussian:
    latent_dim = config.latent_dim
    if isinstance(latent_dim, str):
        assert x is not None
        rows = Rows(x)
        check_latent_dim(1, rows.dim)
        if latent_dim == "laplace":
            if _gaps(x):
                raise DataError(
                    "the Laplace evidence is of complete data, and cells are missing; choose the number of latents by "
                    "'held-out', or give it"
                )
            latent_dim = ppca.choose_by_evidence(ppca.spectrum(rows))
        else:
            latent_dim = ppca.choose_by_held_out(rows)
    shared = isinstance(config, PPCAConfig)
    return LinearGaussian(latent_dim, schema.event_shape, shared_noise=shared)


def _linear_solve(model: LinearGaussian, config: Any, x: Array, seed: int) -> Iterator[Iteration]:
    rows = Rows(x)
    solver = config.solver
    if solver == "auto":
        solver = "em" if _gaps(x) else "eigh"
    # Not torch's own, seeded for a block: between iterations that would be everybody's.
    generator = torch.Generator().manual_seed(seed)
    if solver == "eigh":
        yield from ppca.eigh(model, rows)
    elif solver == "em":
        yield from em(model, rows, iterations=config.epochs, tolerance=config.tolerance, generator=generator)
    else:
        yield from ppca.gradient(model, rows, iterations=config.epochs, generator=generator)


def _gaps(x: Array) -> bool:
    """Whether cells are missing; data that were opened on disk have none."""
    if isinstance(x, StoredArray) or x.dtype.kind != "f":
        return False
    return any(bool(np.isnan(chunk.sum())) for _, chunk in chunks(x))


def _mixture_resolve(config: Any, schema: Schema, n: int) -> Any:
    bayesian = config.solver != "em"
    if not bayesian and n < config.components:
        raise DataError(
            f"fewer data than components: n_samples = {n}, components = {config.components}; choose fewer, or "
            "solver='cavi', whose priors stand in for data"
        )
    if config.solver == "em" and config.weights not in ("auto", "uniform"):
        raise ConfigError(f"solver='em' has no priors, got weights='{config.weights}'; use solver='cavi'")
    if isinstance(config, MixtureConfig):
        if config.covariance == "unit" and not bayesian:
            raise ConfigError("covariance='unit' has a prior on the means; use solver='cavi'")
        if config.solver == "plain-gradient" and config.covariance != "unit":
            raise ConfigError(
                "solver='plain-gradient' is of components of known variance, covariance='unit' "
                "(covariance_type='unit' of an estimator); solver='gradient' follows natural gradients of any"
            )
        if config.covariance == "tied" and bayesian:
            raise ConfigError("covariance='tied' is fitted by solver='em' only; use full, diag or spherical")
        low = _cells(schema) - 1 if config.covariance == "full" else 0
        if config.freedom is not None and config.freedom <= low:
            raise ConfigError(
                f"freedom has to be above the number of cells less one, {low}; got {config.freedom}"
            )
    elif config.solver == "plain-gradient":
        raise ConfigError("solver='plain-gradient' is of normal components of known variance; use 'gradient'")
    elif schema.kind != "binary":
        raise SupportError(
            f"a mixture of Bernoullis needs binary data (0 and 1), got {schema.kind} data; use model 'mixture', or "
            "threshold them, as in x > 127"
        )
    weights = config.weights
    if weights == "auto" and bayesian:
        unit = isinstance(config, MixtureConfig) and config.covariance == "unit"
        weights = "uniform" if unit else "dirichlet"
    return config.model_copy(update={"weights": weights})


def _components(config: Any, dim: int) -> Family:
    bayesian = config.solver != "em"
    if not isinstance(config, MixtureConfig):
        return BernoulliCells(dim, config.cell_concentration if bayesian else None)
    if config.covariance == "unit":
        return UnitNormal(dim, config.prior_scale)
    if config.covariance in ("diag", "spherical"):
        return NormalCells(
            dim,
            cast(Any, config.covariance),
            prior=bayesian,
            mean_precision=config.mean_precision,
            freedom=1.0 if config.freedom is None else config.freedom,
        )
    if bayesian:
        return NormalWishart(dim, config.mean_precision, config.freedom)
    return NormalFull(dim, cast(Any, config.covariance))


def _mixture_assemble(config: Any, schema: Schema, x: Array | None) -> Mixture:
    weights = "none" if config.weights == "auto" else config.weights
    return Mixture(
        _components(config, _cells(schema)),
        WEIGHTS[weights](config.concentration),
        config.components,
        schema.event_shape,
    )


def _mixture_solve(model: Mixture, config: Any, x: Array, seed: int) -> Iterator[Iteration]:
    methods = {"em": "coordinate", "cavi": "coordinate"}
    settings = Settings(
        cast(Any, methods.get(config.solver, config.solver)),
        config.epochs,
        config.tolerance,
        config.restarts,
        config.step,
        config.batch_size,
    )
    yield from climb(model, Rows(x), settings, torch.Generator().manual_seed(seed))


def _hmm_resolve(config: HMMConfig, schema: Schema, n: int) -> HMMConfig:
    if len(schema.event_shape) > 2:
        raise DataError(
            f"sequences should have shape (n, T) or (n, T, D), got (n, *{schema.event_shape}); reshape them"
        )
    dim = int(np.prod(schema.event_shape[1:]))
    emissions = config.emissions
    if emissions == "auto":
        binary = "categorical" if dim == 1 else "bernoulli"
        emissions = {"real": "normal", "counts": "poisson", "uint8": "poisson", "binary": binary}[schema.kind]
    if emissions == "categorical" and dim > 1:
        raise ConfigError(
            f"categorical emissions are of one symbol at a time, got {dim} cells; use shape (n, T)"
        )
    allowed = {"bernoulli": ("binary",), "poisson": ("binary", "uint8", "counts")}
    allowed["categorical"] = allowed["poisson"]
    if schema.kind not in allowed.get(emissions, (schema.kind,)):
        raise SupportError(
            f"{emissions} emissions can't have made {schema.kind} data; use emissions='normal'"
        )
    if config.solver == "vb" and emissions == "normal" and config.covariance == "tied":
        raise ConfigError("covariance='tied' is fitted by solver='em' only; use full, diag or spherical")
    return config.model_copy(update={"emissions": emissions})


def _hmm_assemble(config: HMMConfig, schema: Schema, x: Array | None) -> HiddenMarkov:
    dim = int(np.prod(schema.event_shape[1:]))
    prior = config.concentration if config.solver == "vb" else None
    family: Family
    if config.emissions == "categorical":
        symbols = config.symbols
        seen = 2 if x is None else int(np.nanmax(Rows(x).whole)) + 1
        if symbols is None:
            symbols = max(2, seen)
        elif seen > symbols:
            raise SupportError(
                f"symbols go from 0 to {seen - 1}, but the option symbols is {symbols}; raise it"
            )
        family = CategoricalSymbol(symbols, prior)
    elif config.emissions == "poisson":
        family = PoissonCells(dim, prior)
    elif config.emissions == "bernoulli":
        family = BernoulliCells(dim, prior)
    elif config.covariance in ("diag", "spherical"):
        family = NormalCells(dim, cast(Any, config.covariance), prior=prior is not None)
    elif prior is not None:
        family = NormalWishart(dim)
    else:
        family = NormalFull(dim, cast(Any, config.covariance))
    return HiddenMarkov(family, config.components, schema.event_shape, prior)


def _hmm_solve(model: HiddenMarkov, config: HMMConfig, x: Array, seed: int) -> Iterator[Iteration]:
    yield from fit_hidden_markov(
        model,
        Sequences(Rows(x).whole),
        torch.Generator().manual_seed(seed),
        iterations=config.epochs,
        tolerance=config.tolerance,
        restarts=config.restarts,
    )


def settled(config: Any, model: Any) -> Any:
    """The config with the choices that assembling the model made from the data."""
    if isinstance(config, PPCAConfig) and isinstance(config.latent_dim, str):
        return config.model_copy(update={"latent_dim": model.latent_dim})
    if isinstance(config, HMMConfig) and config.emissions == "categorical":
        return config.model_copy(update={"symbols": model.emissions.symbols})
    return config


EXACT: Mapping[str, Exact] = {
    "ppca": Exact(
        "probabilistic PCA, by its closed form or by EM where cells are missing",
        "Probabilistic principal component analysis, 1999, https://doi.org/10.1111/1467-9868.00196",
        PPCAConfig,
        _linear_resolve,
        _linear_assemble,
        _linear_solve,
    ),
    "factor-analysis": Exact(
        "factor analysis: linear latents, and a noise variance for each cell",
        "EM algorithms for ML factor analysis, 1982, https://doi.org/10.1007/BF02293851",
        FactorAnalysisConfig,
        _linear_resolve,
        _linear_assemble,
        _linear_solve,
    ),
    "mixture": Exact(
        "mixture of normals, by variational Bayes or EM",
        "Pattern Recognition and Machine Learning, 2006, section 10.2, "
        "https://www.microsoft.com/en-us/research/publication/pattern-recognition-machine-learning/",
        MixtureConfig,
        _mixture_resolve,
        _mixture_assemble,
        _mixture_solve,
    ),
    "bernoulli-mixture": Exact(
        "mixture of independent binary cells, by variational Bayes or EM",
        "Pattern Recognition and Machine Learning, 2006, section 9.3.3, "
        "https://www.microsoft.com/en-us/research/publication/pattern-recognition-machine-learning/",
        BernoulliMixtureConfig,
        _mixture_resolve,
        _mixture_assemble,
        _mixture_solve,
    ),
    "hmm": Exact(
        "hidden Markov model of sequences, by EM or variational Bayes",
        "A tutorial on hidden Markov models and selected applications in speech recognition, 1989, "
        "https://doi.org/10.1109/5.18626",
        HMMConfig,
        _hmm_resolve,
        _hmm_assemble,
        _hmm_solve,
        least_data=1,
    ),
}
"""The models by name."""
