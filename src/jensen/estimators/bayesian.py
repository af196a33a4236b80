"""The scikit-learn faces of networks with a posterior over their weights."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import nn

from jensen.data import Dataset, from_array
from jensen.errors import DataError
from jensen.recipes import RECIPES
from jensen.runs import Run, Watcher, class_numbers, fit, predict, probabilities
from jensen.weights import Posterior, Predictive

Array = NDArray[Any]

ONLINE = ("laplace", "bayes-by-backprop", "pbp")
"""Methods whose posterior can be the next prior."""


def _online(estimator: Any) -> bool:
    return estimator.method in ONLINE


class _Bayesian(BaseEstimator):
    """What classifier and regressor share."""

    recipe_name: str
    network: str | nn.Module | None
    method: str
    options: Mapping[str, Any] | None
    device: str
    random_state: Any
    run_: Run
    n_features_in_: int
    n_iter_: int

    def predict_distribution(self, X: Any, samples: int | None = None) -> Predictive:
        """The predictive distribution of targets: mean, std, quantiles, entropy, mutual information, log_prob, sample.

        Args:
            X: Data (n, ...).
            samples: Sets of weights to average over; None: the recipe's ``predictive_samples``.

        Returns:
            The predictive. A classifier's counts classes as in ``classes_``; a regressor's is in the targets' unit.
        """
        check_is_fitted(self)
        return predict(self.run_, self._dataset(self._check(X, reset=False)), samples)

    @property
    def posterior_(self) -> Posterior:
        """The posterior over the network's weights, which sees data in units of their spread."""
        check_is_fitted(self)
        return self.run_.model.posterior

    def save(self, folder: str | Path) -> None:
        """Writes the fitted model into a folder, from which ``jensen.load`` gives it back.

        A network of your own isn't kept, only its weights: ``jensen.load(folder, network=net)``.

        Raises:
            RunError: If the folder can't be written.
        """
        check_is_fitted(self)
        self.run_.save(folder)

    def _options(self) -> dict[str, Any]:
        """The recipe's options, from the parameters that aren't None."""
        names = (
            "method",
            "hidden",
            "epochs",
            "batch_size",
            "learning_rate",
            "prior",
            "prior_scale",
            "noise_scale",
        )
        given = {name: getattr(self, name, None) for name in names}
        chosen = {name: value for name, value in given.items() if value is not None}
        network = "own" if isinstance(self.network, nn.Module) else self.network or "auto"
        return {**chosen, "network": network, **dict(self.options or {})}

    def _fit_labels(self, array: Array, y: Array, watcher: Watcher | None) -> Any:
        names = getattr(self, "feature_names_in_", None)
        columns = None if names is None else tuple(str(name) for name in names)
        self.run_ = fit(
            self._dataset(array, y, columns),
            self.recipe_name,
            self._options(),
            seed=self._seed(),
            device=self.device,
            watcher=watcher,
            network=self.network if isinstance(self.network, nn.Module) else None,
        )
        self.n_iter_ = len(self.run_.history)
        return self

    def _update(self, array: Array, y: Array) -> None:
        """Today's posterior as the prior of further data."""
        run = self.run_
        x = run.prepare(self._dataset(array))
        model = run.model.update(x, torch.as_tensor(y), seed=self._seed())
        about = {**run.about, "n": run.about["n"] + len(x)}
        self.run_ = replace(run, model=model, about=about, folder=None)

    @staticmethod
    def _dataset(array: Array, y: Array | None = None, columns: tuple[str, ...] | None = None) -> Dataset:
        # Tables keep their precision; images are as large in 32 bits as they need be.
        exact = array.ndim == 2 and array.dtype.kind == "f"
        return from_array(array, y, columns=columns, exact=exact, several=True)

    def _check(self, X: Any, *, reset: bool, **options: Any) -> Any:
        """The data checked; with labels among the options a pair."""
        return validate_data(self, X, reset=reset, dtype="numeric", allow_nd=True, **options)

    def _seed(self) -> int:
        if isinstance(self.random_state, int | np.integer):
            return int(self.random_state)
        return int(check_random_state(self.random_state).randint(2**31 - 1))

    def _adopt(self, run: Run) -> Any:
        self.run_ = run
        self.n_iter_ = len(run.history)
        self.n_features_in_ = run.schema.event_shape[0]
        if run.schema.columns is not None:
            self.feature_names_in_ = np.asarray(run.schema.columns, dtype=object)
        return self


class BayesianClassifier(ClassifierMixin, _Bayesian):
    r"""A classifier that averages over what is known of its network's weights.

    .. math::
        p(y \mid x, data) = \int softmax(f_w(x))_y \, p(w \mid data) \, dw

    Args:
        network: None: by the data's shape, a network of one hidden layer for tables, a convolutional one for images;
            "mlp" or "conv"; or a ``torch.nn.Module`` of your own that returns one number a class (or one for two
            classes). It isn't changed.
        method: How the posterior is found: a name in ``jensen.weights.METHODS``, as "ensemble", "laplace",
            "bayes-by-backprop", "dropout", "swag".
        hidden: Widths of the hidden layers of "mlp".
        epochs: Passes over the data; None: about as many as small data need.
        batch_size: Data in a batch; None: 100, less of small data.
        learning_rate: Highest step size; None: by the network.
        prior: Of the weights: "normal", "scale-mixture", "laplace".
        prior_scale: Of the prior; None: learned by methods that can, else by the recipe.
        options: Further options of the recipe and of the method by name.
        device: "auto", "cpu" or "cuda".
        random_state: Seed of everything random; an int, or a RandomState to draw it from.

    Attributes:
        classes_: The labels.
        run_: The fitted Run.
        posterior_: Over the weights.
        n_features_in_: Number of columns; for data of more dimensions the length of their first one.

    Source: Simple and scalable predictive uncertainty estimation using deep ensembles, 2017,
    https://arxiv.org/abs/1612.01474.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X, y = load_iris(return_X_y=True)
        >>> classifier = BayesianClassifier(epochs=10, random_state=0).fit(X, y)
        >>> classifier.predict_proba(X).shape
        (150, 3)
        >>> classifier.predict_distribution(X).mutual_information.shape
        torch.Size([150])
    """

    recipe_name = "bayes-classifier"
    classes_: Array

    def __init__(
        self,
        network: str | nn.Module | None = None,
        method: str = "ensemble",
        *,
        hidden: Sequence[int] | int = (50,),
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        prior: str = "normal",
        prior_scale: float | str | None = None,
        options: Mapping[str, Any] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.network = network
        self.method = method
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.prior = prior
        self.prior_scale = prior_scale
        self.options = options
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, watcher: Watcher | None = None) -> "BayesianClassifier":
        """Fits the posterior.

        Args:
            X: Data (n, ...) without gaps.
            y: Labels (n,), numbers or strings.
            watcher: Told how the fit goes.

        Returns:
            Itself.

        Raises:
            ConfigError: If an option is wrong.
            DataError: If the data can't be used, or are of one class.
        """
        array, labels = self._labelled(X, y, reset=True)
        self._fit_labels(array, labels, watcher)
        self.classes_ = np.unique(labels)
        return self

    @available_if(_online)
    def partial_fit(self, X: Any, y: Any, classes: Any = None) -> "BayesianClassifier":
        """Online learning: the posterior so far becomes the prior of these data; the first call fits.

        Units of the data stay those of the first call.

        Args:
            X: Data (n, ...).
            y: Their labels, of classes of the first call.
            classes: All labels that there will be; the first call has to see each of them.

        Returns:
            Itself.

        Raises:
            DataError: If a label is of no known class, or the first call lacks one.
        """
        if not hasattr(self, "run_"):
            if classes is not None and len(missing := np.setdiff1d(classes, np.unique(y))):
                raise DataError(
                    f"the first data have no label {missing[0]!s}; a posterior needs data of each class to start with"
                )
            return self.fit(X, y)
        array, labels = self._labelled(X, y, reset=False)
        self._update(array, class_numbers(self.run_, labels, "y"))
        return self

    def predict_proba(self, X: Any) -> Array:
        """Probabilities of the classes, (n, K), in the order of ``classes_``."""
        return probabilities(self.predict_distribution(X))

    def predict(self, X: Any) -> Array:
        """The most probable label of each datum, (n,)."""
        check_is_fitted(self)
        return self.classes_[self.predict_proba(X).argmax(1)]

    def _labelled(self, X: Any, y: Any, *, reset: bool) -> tuple[Array, Array]:
        array, labels = cast("tuple[Array, Array]", self._check(X, reset=reset, y=y))
        check_classification_targets(labels)
        if labels.ndim > 1:
            raise DataError(f"wanted one label a datum, (n,), got labels of shape {labels.shape}")
        if labels.dtype.kind == "O":
            labels = labels.astype(str)
        return array, labels

    def _adopt(self, run: Run) -> "BayesianClassifier":
        super()._adopt(run)
        self.classes_ = np.asarray(run.about["classes"])
        return self


class BayesianRegressor(RegressorMixin, _Bayesian):
    r"""A regressor that averages over what is known of its network's weights, and knows its noise.

    .. math::
        p(y \mid x, data) = \int N(y; f_w(x), s^2) \, p(w \mid data) \, dw

    Args:
        network: None: by the data's shape; "mlp" or "conv"; or a ``torch.nn.Module`` of your own that returns one
            number for each target of a datum (two with noise_scale="network": first all means, then all logarithms of
            scales). It sees data and targets in units of their spread, and isn't changed.
        method: See ``BayesianClassifier``; also "pbp".
        noise_scale: Standard deviation of the noise: "learned", one for all data (of several targets the same part of
            each one's spread); "network", given by the network for each; or a number in the unit of one target.
        hidden: Widths of the hidden layers of "mlp".
        epochs: Passes over the data; None: about as many as small data need.
        batch_size: Data in a batch; None: 100, less of small data.
        learning_rate: Highest step size; None: by the network.
        prior: Of the weights.
        prior_scale: Of the prior.
        options: Further options of the recipe and of the method by name.
        device: "auto", "cpu" or "cuda".
        random_state: Seed of everything random.

    Attributes:
        run_: The fitted Run.
        posterior_: Over the weights.
        n_features_in_: Number of columns; for data of more dimensions the length of their first one.

    Source: Probabilistic backpropagation for scalable learning of Bayesian neural networks, 2015,
    https://arxiv.org/abs/1502.05336.

    Example:
        >>> X = np.linspace(-1, 1, 40)[:, None]
        >>> regressor = BayesianRegressor(method="laplace", epochs=20, random_state=0).fit(X, 3 * X[:, 0])
        >>> mean, std = regressor.predict(X, return_std=True)
        >>> mean.shape, bool((std > 0).all())
        ((40,), True)
    """

    recipe_name = "bayes-regressor"

    def __init__(
        self,
        network: str | nn.Module | None = None,
        method: str = "ensemble",
        *,
        noise_scale: float | str = "learned",
        hidden: Sequence[int] | int = (50,),
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate: float | None = None,
        prior: str = "normal",
        prior_scale: float | str | None = None,
        options: Mapping[str, Any] | None = None,
        device: str = "auto",
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.network = network
        self.method = method
        self.noise_scale = noise_scale
        self.hidden = hidden
        self.epochs = epochs
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.prior = prior
        self.prior_scale = prior_scale
        self.options = options
        self.device = device
        self.random_state = random_state

    def fit(self, X: Any, y: Any, *, watcher: Watcher | None = None) -> "BayesianRegressor":
        """Fits the posterior.

        Args:
            X: Data (n, ...) without gaps.
            y: Targets (n,), or (n, d) of several a datum, which one network predicts together.
            watcher: Told how the fit goes.

        Returns:
            Itself.

        Raises:
            ConfigError: If an option is wrong.
            DataError: If the data can't be used.
        """
        self._fit_labels(*self._labelled(X, y, reset=True), watcher)
        return self

    @available_if(_online)
    def partial_fit(self, X: Any, y: Any) -> "BayesianRegressor":
        """Online learning: the posterior so far becomes the prior of these data; the first call fits.

        Units of data and targets stay those of the first call.

        Args:
            X: Data (n, ...).
            y: Their targets, as in the first call.

        Returns:
            Itself.
        """
        if not hasattr(self, "run_"):
            return self.fit(X, y)
        self._update(*self._labelled(X, y, reset=False))
        return self

    def predict(self, X: Any, return_std: bool = False) -> Any:
        """Predictive means, in the targets' unit.

        Args:
            X: Data (n, ...).
            return_std: Whether to give the standard deviations too, of noise and ignorance together.

        Returns:
            (n,), or (n, d) of several targets; or a pair of such.
        """
        found = self.predict_distribution(X)
        mean = found.mean.double().cpu().numpy()
        return (mean, found.std.double().cpu().numpy()) if return_std else mean

    def _labelled(self, X: Any, y: Any, *, reset: bool) -> tuple[Array, Array]:
        array, targets = cast(
            "tuple[Array, Array]", self._check(X, reset=reset, y=y, y_numeric=True, multi_output=True)
        )
        if targets.ndim > 2:
            raise DataError(f"wanted targets (n,) or (n, d), got targets of shape {targets.shape}")
        if targets.ndim == 2 and targets.shape[1] == 1:
            targets = targets[:, 0]
        if not reset:
            wanted, got = self.run_.config.targets or 1, targets.shape[1] if targets.ndim > 1 else 1
            if got != wanted:
                raise DataError(f"wanted {wanted} targets a datum, as in the first call, got {got}")
        return array, np.asarray(targets, np.float64)

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn may expect: several targets a datum too."""
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags


LABELLED: dict[str, type[BayesianClassifier] | type[BayesianRegressor]] = {
    face.recipe_name: face for face in (BayesianClassifier, BayesianRegressor)
}
"""Faces by recipe."""


def loaded(run: Run, device: str = "cpu") -> Any:
    """The fitted estimator of a Run of a classifier or regressor."""
    config = run.config
    face = LABELLED[run.recipe]()
    own = set(face.get_params()) & set(RECIPES[run.recipe].config_type.model_fields)
    settings = {name: getattr(config, name) for name in own - {"network", "options"}}
    extra = config.model_dump(
        exclude={*own, "options", "classes", "likelihood", "targets"}, exclude_none=True
    )
    if "likelihood" in type(config).model_fields:
        extra["likelihood"] = config.likelihood
    network = copy.deepcopy(run.model.network) if config.network == "own" else config.network
    face.set_params(
        **settings,
        network=network,
        options={**extra, **config.options},
        device=device,
        random_state=run.about.get("seed"),
    )
    return face._adopt(run)
