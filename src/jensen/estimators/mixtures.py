"""The scikit-learn faces of mixtures."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from jensen.estimators.fitted import ExactEstimator
from jensen.runs import Run

Array = NDArray[Any]


class _Mixture(ExactEstimator):
    """What mixtures share."""

    weights_: Array
    means_: Array

    def predict(self, X: Any) -> Array:
        """The most probable component of each datum, (n,)."""
        return self.run_model.responsibilities(self._prepare(X)).argmax(1).numpy()

    def predict_proba(self, X: Any) -> Array:
        """Responsibilities p(component | x) given the observed cells, (n, K)."""
        return self.run_model.responsibilities(self._prepare(X)).numpy()

    def fit_predict(self, X: Any, y: Any = None) -> Array:
        """Fits the mixture and gives the component of each datum, (n,)."""
        return self._fit(X).predict(X)

    def _adopt(self, run: Run) -> Any:
        super()._adopt(run)
        self.weights_ = run.model.weights.numpy().copy()
        self.means_ = run.model.predictive.mean.numpy().copy()
        return self


class GaussianMixture(_Mixture):
    r"""A mixture of normals, by variational Bayes or maximum likelihood.

    .. math::
        \log p(X) \ge E_q[\log p(X, z, \theta, \pi)] - E_q[\log q(z, \theta, \pi)]

    With priors, densities are predictive: mixtures of Student's t with what is known of the parameters integrated out.

    Args:
        n_components: Number of components K; with priors, those that aren't needed stay empty.
        solver: "cavi", "gradient" (steps along the natural gradient of the same bound), "plain-gradient" (steps along
            its gradient by means, then by log variances, as in the lecture; with covariance_type "unit" only),
            "stochastic" (natural steps on minibatches), or "em" (maximum likelihood).
        covariance_type: "full", "diag", "spherical", "tied" (with "em" only), or "unit": known variance one, means
            from N(0, prior_scale^2), equal weights.
        weights: Prior of the weights: "dirichlet", "dirichlet-process", "uniform" (known, equal); "auto".
        concentration: Of that prior; None: 1 / K, or 1 for the process.
        prior_scale: See ``covariance_type``.
        mean_precision: How many data the prior of a mean counts for.
        freedom: Degrees of freedom of the prior of the precisions; None: the number of cells (1 for "diag").
        n_init: Starts by k-means++, climbed at once; the best is kept (chosen on a part of more than 10,000 data).
        max_iter: Passes over the data at most.
        tol: Gain in nats a datum at which it stops.
        batch_size: Of "stochastic".
        random_state: Seed of starts and shuffles.

    Attributes:
        lower_bound_: The bound on the log evidence of all training data in nats, all constants kept; with "em" the
            log-likelihood.
        lower_bounds_: Its history.
        weights_: Expected weights, (K,).
        means_: Expected means, (K, D).
        covariances_: Of the components' predictive densities, (K, D, D).

    Source: Pattern Recognition and Machine Learning, 2006, section 10.2.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X = load_iris().data
        >>> mixture = GaussianMixture(3, solver="em", random_state=0).fit(X)
        >>> mixture.predict_proba(X).shape
        (150, 3)
    """

    recipe_name = "mixture"
    covariances_: Array

    def __init__(
        self,
        n_components: int = 5,
        solver: str = "cavi",
        *,
        covariance_type: str = "full",
        weights: str = "auto",
        concentration: float | None = None,
        prior_scale: float = 10.0,
        mean_precision: float = 1.0,
        freedom: float | None = None,
        n_init: int = 5,
        max_iter: int = 500,
        tol: float = 1e-5,
        batch_size: int = 256,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.covariance_type = covariance_type
        self.weights = weights
        self.concentration = concentration
        self.prior_scale = prior_scale
        self.mean_precision = mean_precision
        self.freedom = freedom
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "GaussianMixture":
        """Fits the mixture.

        Args:
            X: Data (n, ...); NaN where a cell is missing.
            y: Ignored.

        Returns:
            Itself.

        Raises:
            ConfigError: If an option is wrong.
            DataError: If the data can't be used.
        """
        return self._fit(X)

    def _adopt(self, run: Run) -> "GaussianMixture":
        super()._adopt(run)
        self.covariances_ = run.model.predictive.covariance.numpy().copy()
        return self


class BernoulliMixture(_Mixture):
    """A mixture of independent binary cells, by variational Bayes or maximum likelihood; cells may be missing (NaN).

    Args:
        n_components: Number of components K.
        solver: "cavi", "gradient", "stochastic", or "em" (maximum likelihood).
        weights: Prior of the weights: "dirichlet", "dirichlet-process", "uniform"; "auto".
        concentration: Of that prior; None: 1 / K, or 1 for the process.
        cell_concentration: a of the Beta(a, a) prior of each cell's probability.
        binarize: Threshold above which a cell counts as one; None: the data are 0 and 1 already.
        n_init: Starts, climbed at once; the best is kept.
        max_iter: Passes over the data at most.
        tol: Gain in nats a datum at which it stops.
        batch_size: Of "stochastic".
        random_state: Seed of starts and shuffles.

    Attributes:
        lower_bound_: The bound on the log evidence of all training data in nats; with "em" the log-likelihood.
        lower_bounds_: Its history.
        weights_: Expected weights, (K,).
        means_: Expected probabilities of a one, (K, D).

    Source: Pattern Recognition and Machine Learning, 2006, section 9.3.3.

    Example:
        >>> X = (np.random.default_rng(0).random((50, 4)) < 0.5).astype(int)
        >>> BernoulliMixture(2, random_state=0).fit(X).means_.shape
        (2, 4)
    """

    recipe_name = "bernoulli-mixture"

    def __init__(
        self,
        n_components: int = 5,
        solver: str = "cavi",
        *,
        weights: str = "auto",
        concentration: float | None = None,
        cell_concentration: float = 1.0,
        binarize: float | None = None,
        n_init: int = 5,
        max_iter: int = 500,
        tol: float = 1e-5,
        batch_size: int = 256,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.weights = weights
        self.concentration = concentration
        self.cell_concentration = cell_concentration
        self.binarize = binarize
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.batch_size = batch_size
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "BernoulliMixture":
        """Fits the mixture.

        Args:
            X: Data (n, ...) of 0 and 1; NaN where a cell is missing.
            y: Ignored.

        Returns:
            Itself.

        Raises:
            ConfigError: If an option is wrong.
            DataError: If the data can't be used; a SupportError where they aren't binary.
        """
        self._fit(X)
        self.run_.about["binarize"] = self.binarize
        return self

    def _check(self, X: Any, *, reset: bool) -> Array:
        array = super()._check(X, reset=reset)
        if self.binarize is None:
            return array
        return np.where(np.isnan(array), np.nan, array > self.binarize)
