"""The scikit-learn face of variational autoencoders."""

import copy
from collections.abc import Mapping
from numbers import Real
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, DensityMixin, TransformerMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from jensen.data import Schema, check_matches, from_array
from jensen.errors import ConfigError, ShapeError
from jensen.estimators.fitted import how_many
from jensen.evaluation import evidence, posterior_means, reconstructions
from jensen.models import LatentVariableModel
from jensen.recipes import RECIPES, VAEConfig
from jensen.runs import Run, Watcher, fit
from jensen.seeding import seeded

Array = NDArray[Any]


class VAE(ClassNamePrefixFeaturesOutMixin, TransformerMixin, DensityMixin, BaseEstimator):
    r"""A variational autoencoder: a density p(x) = E_p(z)[p(x|z)] and an embedding E_q[z|x].

    It maximises a lower bound on log p(x),

    .. math::
        E_{q(z|x)}[\log p(x|z)] - KL(q(z|x) \,\|\, p(z)) \le \log p(x).

    Args:
        latent_dim: Number of latents.
        prior: Family of p(z): "normal", "learned-normal", "mixture".
        posterior: Family of q(z|x): "normal", "full-normal".
        likelihood: Family of p(x|z); "auto" chooses from the data: binary cells, uint8, counts, or real.
        network: Architecture: "mlp", "conv", "residual", "residual-mlp".
        bound: What is maximised: "elbo", "iwae", "renyi".
        epochs: Passes over the data; None: 200, more for small data.
        batch_size: Data in a batch.
        learning_rate: Highest step size.
        recipe: Named autoencoder: "vae", "beta-vae", "iwae", "linear-vae". Its defaults are used for every parameter
            above that is left at its own.
        options: Further options of the recipe by name, as ``jensen models vae`` lists them; one that is a parameter too
            goes before it.
        validation_fraction: Part of the data that is held out to choose the weights that are kept and when to
            stop; 0 trains for all epochs.
        evidence_samples: Importance samples for each datum in ``score_samples``.
        device: "auto", "cpu" or "cuda".
        random_state: Seed of everything random; an int, or a RandomState to draw it from.

    Attributes:
        run_: The fitted Run.
        n_features_in_: Number of columns; for data of more dimensions the length of their first one.
        likelihood_: The likelihood that was chosen.

    Source: Auto-encoding variational Bayes, 2013, https://arxiv.org/abs/1312.6114.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X = load_iris().data
        >>> vae = VAE(latent_dim=2, epochs=2, random_state=0).fit(X)
        >>> vae.transform(X).shape
        (150, 2)
    """

    run_: Run
    feature_names_in_: NDArray[np.object_]
    n_features_in_: int
    likelihood_: str

    def __init__(
        self,
        latent_dim: int = 16,
        *,
        prior: str = "normal",
        posterior: str = "normal",
        likelihood: str = "auto",
        network: str = "mlp",
        bound: str = "elbo",
        epochs: int | None = None,
        batch_size: int = 100,
        learning_rate: float = 1e-3,
        recipe: str = "vae",
        options: Mapping[str, Any] | None = None,
        validation_fraction: float = 0.0,
        evidence_samples: int = 500,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.latent_dim = latent_dim
        self.prior = prior
        self.posterior = posterior
        self.likelihood = likelihood
        self.network = network
        self.bound = bound
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.recipe = recipe
        self.options = options
        self.validation_fraction = validation_fraction
        self.evidence_samples = evidence_samples
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None, *, watcher: Watcher | None = None) -> "VAE":
        """Fits the model.

        Args:
            X: Data (n, ...) without gaps; uint8 for intensities.
            y: Ignored.
            watcher: Told how the fit goes, as a progress bar wants.

        Returns:
            Itself.

        Raises:
            ConfigError: If an option is wrong.
            DataError: If the data can't be used.
        """
        array = self._check(X, reset=True)
        columns = getattr(self, "feature_names_in_", None)
        names = None if columns is None else tuple(str(name) for name in columns)
        self.run_ = fit(
            from_array(array, name="array", columns=names),
            self.recipe,
            self._recipe_options(),
            valid=self._fraction(),
            seed=self._seed(),
            device=self.device,
            watcher=watcher,
        )
        self.likelihood_ = self.run_.config.likelihood
        self.n_iter_ = len(self.run_.history)
        return self

    def transform(self, X: Any) -> Array:
        """The embedding: posterior means E_q[z|x], (n, latent_dim)."""
        x = self._prepare(X)
        return posterior_means(self._exact_model, x).cpu().numpy()

    def inverse_transform(self, Z: Any) -> Array:
        """The expected data E[x|z] for latents (n, latent_dim), (n, ...).

        Raises:
            ShapeError: If there is another number of latents.
        """
        check_is_fitted(self)
        z = torch.as_tensor(cast(Any, check_array)(Z, dtype=np.float64), device=self.run_.device)
        latent_dim = self.run_.config.latent_dim
        if z.shape[1] != latent_dim:
            raise ShapeError(f"latents should have shape (n, {latent_dim}), got {tuple(z.shape)}")
        with torch.inference_mode():
            return self._exact_model.decode(z).mean.cpu().numpy()

    def reconstruct(self, X: Any) -> Array:
        """What comes back from the posterior mean, E[x' | z = E_q[z|x]], (n, ...)."""
        return reconstructions(self._exact_model, self._prepare(X)).cpu().numpy()

    def score_samples(self, X: Any) -> Array:
        """Importance-sampled log p(x) of each datum in nats, (n,); a lower bound in expectation.

        All data share their noise, so that the score of a datum doesn't depend on the others.
        """
        x = self._prepare(X)
        estimate = evidence(self._exact_model, x, self.evidence_samples, seed=0, common_noise=True)
        return estimate.value.cpu().numpy()

    def score(self, X: Any, y: Any = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride] scikit-learn declares None and returns numbers
        """Mean of ``score_samples``, nats a datum; larger is better."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, *, random_state: int | None = None) -> Array:
        """New data from p(x), (n_samples, ...).

        Args:
            n_samples: How many.
            random_state: Seed of the draws; by default the estimator's own.

        Raises:
            ConfigError: If n_samples is no whole number above 0.
        """
        check_is_fitted(self)
        with seeded(self._seed() if random_state is None else random_state):
            return self.run_.model.sample(how_many(n_samples)).cpu().numpy()

    def save(self, folder: str | Path) -> None:
        """Writes the fitted model into a folder, from which ``jensen.load`` gives it back.

        Raises:
            RunError: If the folder can't be written.
        """
        check_is_fitted(self)
        self.run_.save(folder)

    @property
    def _n_features_out(self) -> int:
        """Number of columns of the embedding, by which scikit-learn names them vae0, vae1, ..."""
        return self.run_.config.latent_dim

    @property
    def _exact_model(self) -> LatentVariableModel:
        """A copy of the model in float64: there a datum's answer doesn't depend on the batch it came in."""
        return copy.deepcopy(self.run_.model).double()

    def _prepare(self, X: Any) -> torch.Tensor:
        check_is_fitted(self)
        array = self._check(X, reset=False)
        dataset = check_matches(self.run_.schema, from_array(array))
        return self.run_.prepare(dataset).double()

    def _check(self, X: Any, *, reset: bool) -> Array:
        checked = validate_data(self, X, reset=reset, dtype="numeric", allow_nd=True, ensure_min_samples=1)
        return cast(Array, checked)

    def _recipe_options(self) -> dict[str, Any]:
        """Parameters that differ from their defaults, so that a recipe's own defaults stand, and the options."""
        autoencoders = [name for name, recipe in RECIPES.items() if recipe.config_type is VAEConfig]
        if self.recipe not in autoencoders and self.recipe in RECIPES:
            raise ConfigError(
                f"{self.recipe} is no autoencoder, so VAE can't fit it; give one of {', '.join(autoencoders)}, or take "
                "the estimator that is made for it"
            )
        if not isinstance(cast(Any, self.options), Mapping | None):
            raise ConfigError(
                f"options is a dict from names to values, as in {{'hidden': (200, 200)}}; got {self.options!r}"
            )
        names = ("latent_dim", "prior", "posterior", "likelihood", "network", "bound", "epochs")
        defaults = VAE()
        chosen = {
            name: getattr(self, name)
            for name in (*names, "batch_size", "learning_rate")
            if getattr(self, name) != getattr(defaults, name)
        }
        return {**chosen, **dict(self.options or {})}

    def _fraction(self) -> float | None:
        """The part to validate on, None for none."""
        if not isinstance(cast(Any, self.validation_fraction), Real):
            raise ConfigError(f"validation_fraction is a number, as in 0.1; got {self.validation_fraction!r}")
        return float(self.validation_fraction) or None

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))


def loaded(run: Run, device: str = "cpu") -> VAE:
    """The fitted estimator of a Run of an autoencoder."""
    config = run.config
    # A recipe's own default goes before a parameter that has the estimator's, so it needs an explicit option.
    named = set(VAE().get_params()) - set(RECIPES[run.recipe].defaults)
    result = VAE(
        config.latent_dim,
        prior=config.prior,
        posterior=config.posterior,
        likelihood=config.likelihood,
        network=config.network,
        bound=config.bound,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        recipe=run.recipe,
        options=config.model_dump(exclude=named),
        device=device,
        random_state=run.about.get("seed"),
    )
    result.run_ = run
    result.likelihood_ = config.likelihood
    result.n_iter_ = len(run.history)
    result.n_features_in_ = _features(run.schema)
    if run.schema.columns is not None:
        result.feature_names_in_ = np.asarray(run.schema.columns, dtype=object)
    return result


def _features(schema: Schema) -> int:
    return schema.event_shape[0]
