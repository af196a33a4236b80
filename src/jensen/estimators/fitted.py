"""What the faces of the exact models share."""

from abc import ABC
from numbers import Integral
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, DensityMixin
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from jensen.data import check_matches, from_array
from jensen.errors import ConfigError
from jensen.recipes import RECIPES
from jensen.runs import Run, fit
from jensen.seeding import seeded

Array = NDArray[Any]


PARAMETERS = {
    "latent_dim": "n_components",
    "components": "n_components",
    "covariance": "covariance_type",
    "restarts": "n_init",
    "epochs": "max_iter",
    "tolerance": "tol",
}
"""Options of recipes that scikit-learn has another word for; the others have the same name on both sides."""


def how_many(n_samples: Any) -> int:
    """A number of draws.

    Raises:
        ConfigError: If it is no whole number above 0.

    Example:
        >>> how_many(np.int64(3))
        3
    """
    if not isinstance(n_samples, Integral) or n_samples < 1:
        raise ConfigError(f"n_samples is a whole number of at least 1, got {n_samples!r}")
    return int(n_samples)


class ExactEstimator(DensityMixin, BaseEstimator, ABC):
    """Fitting, densities, draws and saving of models whose answers are exact; faces add what is their own."""

    recipe_name: str
    least_data: int = 2
    random_state: Any
    run_: Run
    n_features_in_: int
    n_iter_: int
    lower_bound_: float
    lower_bounds_: Array
    note_: str

    def _options(self) -> dict[str, Any]:
        """The recipe's options, from the parameters; those that are None are left at the recipe's defaults."""
        given = self.get_params(deep=False)
        known = RECIPES[self.recipe_name].config_type.model_fields
        options = {option: given.get(PARAMETERS.get(option, option)) for option in known}
        return {option: value for option, value in options.items() if value is not None}

    def _adopt(self, run: Run) -> Any:
        """Takes a fitted Run, and what attributes tell of it."""
        self.run_ = run
        n = run.about.get("n", 1)
        self.lower_bounds_ = np.array([record["train"]["elbo"] for record in run.history]) * n
        self.lower_bound_ = float(self.lower_bounds_[-1]) if len(self.lower_bounds_) else float("nan")
        self.n_iter_ = len(run.history)
        self.note_ = str(run.history[-1].get("note", "")) if run.history else ""
        self.converged_ = bool(run.history) and bool(run.history[-1]["converged"])
        self.n_features_in_ = run.schema.event_shape[0]
        if run.schema.columns is not None:
            self.feature_names_in_ = np.asarray(run.schema.columns, dtype=object)
        return self

    def _fit(self, X: Any) -> Any:
        options = self._options()
        array = self._check(X, reset=True)
        names = getattr(self, "feature_names_in_", None)
        columns = None if names is None else tuple(str(name) for name in names)
        dataset = from_array(array, name="array", columns=columns, exact=True)
        return self._adopt(fit(dataset, self.recipe_name, options, seed=self._seed()))

    def score_samples(self, X: Any) -> Array:
        """Log p(x) of the observed cells of each datum in nats, exact, (n,)."""
        return self.run_model.log_prob(self._prepare(X)).numpy()

    def score(self, X: Any, y: Any = None) -> float:  # pyright: ignore[reportIncompatibleMethodOverride] scikit-learn declares None and returns numbers
        """Mean of ``score_samples``, nats a datum; larger is better."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, *, random_state: int | None = None) -> Array:
        """New data, (n_samples, ...).

        Args:
            n_samples: How many.
            random_state: Seed of the draws; by default the estimator's own.

        Raises:
            ConfigError: If n_samples is no whole number above 0.
        """
        check_is_fitted(self)
        with seeded(self._seed() if random_state is None else random_state):
            return self.run_.model.sample(how_many(n_samples)).numpy()

    def impute(self, X: Any) -> Array:
        """Data whose missing cells (NaN) hold their conditional mean given the observed ones, (n, ...)."""
        return self.run_model.impute(self._prepare(X)).numpy()

    def save(self, folder: str | Path) -> None:
        """Writes the fitted model into a folder, from which ``jensen.load`` gives it back.

        Raises:
            RunError: If the folder can't be written.
        """
        check_is_fitted(self)
        self.run_.save(folder)

    @property
    def run_model(self) -> Any:
        """The fitted model."""
        check_is_fitted(self)
        return self.run_.model

    def _prepare(self, X: Any) -> torch.Tensor:
        check_is_fitted(self)
        dataset = from_array(self._check(X, reset=False), exact=True)
        if self.recipe_name != "hmm":
            dataset = check_matches(self.run_.schema, dataset)
        return self.run_.prepare(dataset)

    def _check(self, X: Any, *, reset: bool) -> Array:
        checked = validate_data(
            self,
            X,
            reset=reset,
            dtype="numeric",
            allow_nd=True,
            ensure_all_finite="allow-nan",
            ensure_min_samples=self.least_data if reset else 1,
        )
        return cast(Array, checked)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def __sklearn_tags__(self) -> Any:
        """Says that cells may be missing."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
