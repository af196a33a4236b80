"""The scikit-learn faces of probabilistic PCA and factor analysis."""

from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted
from torch.distributions import MultivariateNormal

from jensen.errors import ShapeError
from jensen.estimators.fitted import ExactEstimator
from jensen.runs import Run

Array = NDArray[Any]


class _Linear(ClassNamePrefixFeaturesOutMixin, TransformerMixin, ExactEstimator):
    """What probabilistic PCA and factor analysis share."""

    mean_: Array
    components_: Array
    loadings_: Array
    noise_variance_: Any

    def transform(self, X: Any) -> Array:
        """The data as M numbers each: posterior means E[z|x] given the observed cells, (n, M)."""
        return self.run_model.posterior_mean(self._prepare(X)).numpy()

    def inverse_transform(self, Z: Any) -> Array:
        """The expected data W z + mu of latents (n, M), (n, ...).

        Raises:
            ShapeError: If there is another number of latents.
        """
        check_is_fitted(self)
        z = torch.as_tensor(cast(Any, check_array)(Z, dtype=np.float64))
        if z.shape[1] != self.run_model.latent_dim:
            raise ShapeError(
                f"latents should have shape (n, {self.run_model.latent_dim}), got {tuple(z.shape)}"
            )
        return self.run_model.decode(z).mean.numpy()

    def reconstruct(self, X: Any) -> Array:
        """What comes back from the posterior mean, (n, ...)."""
        return self.inverse_transform(self.transform(X))

    def posterior(self, X: Any) -> MultivariateNormal:
        """The exact posterior p(z|x) of each datum given its observed cells, normal of batch shape (n,)."""
        return self.run_model.encode(self._prepare(X))

    @property
    def _n_features_out(self) -> int:
        """Number of latents, by which scikit-learn names them."""
        return self.run_model.latent_dim

    def get_covariance(self) -> Array:
        """The model's covariance W W^T + noise, (D, D)."""
        return self.run_model.covariance().numpy()


class PPCA(_Linear):
    r"""Probabilistic principal component analysis at its maximum likelihood: x = W z + mu + noise.

    .. math::
        \log p(x) = \log N(x; \mu, W W^T + \sigma^2 I), \quad p(z|x) = N(M^{-1} W^T (x - \mu), \sigma^2 M^{-1})

    with M = W^T W + sigma^2 I. sigma^2 is the mean of the left-out eigenvalues of the covariance with divisor N (as
    maximum likelihood has it; scikit-learn's PCA divides by N - 1). Cells that are NaN are integrated out.

    Args:
        n_components: Number of latents M, less than the number of cells; "laplace" (of complete data) or
            "held-out" choose it.
        solver: "eigh" (closed form), "em", "gradient"; "auto": closed form, EM where cells are missing.
        max_iter: Iterations at most.
        tol: Gain in nats a datum and cell at which EM stops.
        random_state: Seed of the iterative solvers' start.

    Attributes:
        components_: Orthonormal principal axes, those of most variance first, (M, D).
        loadings_: W, whose columns are the axes times their length, (D, M).
        explained_variance_: Variance along each axis with divisor N, noise included, (M,).
        explained_variance_ratio_: Of the model's total variance, (M,).
        noise_variance_: sigma^2.
        mean_: (D,).
        lower_bounds_: Log-likelihood of all training data in nats after each iteration.
        note_: What the answer has to be read with, such as a variance at its lowest value; else empty.

    Source: Probabilistic principal component analysis, 1999, https://doi.org/10.1111/1467-9868.00196.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> X = load_iris().data
        >>> ppca = PPCA(2).fit(X)
        >>> ppca.transform(X).shape
        (150, 2)
    """

    recipe_name = "ppca"
    explained_variance_: Array
    explained_variance_ratio_: Array

    def __init__(
        self,
        n_components: int | str = 2,
        solver: str = "auto",
        *,
        max_iter: int = 1000,
        tol: float = 1e-8,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "PPCA":
        """Fits the model.

        Args:
            X: Data (n, ...); NaN where a cell is missing. An array on disk (``numpy.memmap``) is read in chunks.
            y: Ignored.

        Returns:
            Itself.

        Raises:
            ConfigError: If an option is wrong.
            DataError: If the data can't be used.
        """
        return self._fit(X)

    def _adopt(self, run: Run) -> "PPCA":
        super()._adopt(run)
        model = run.model
        self.mean_ = model.mean.numpy().copy()
        self.loadings_ = model.factor.numpy().copy()
        lengths = np.linalg.norm(self.loadings_, axis=0)
        self.components_ = (self.loadings_ / np.where(lengths > 0, lengths, 1)).T
        self.noise_variance_ = float(model.noise_variance)
        self.explained_variance_ = lengths**2 + self.noise_variance_
        total = (lengths**2).sum() + self.noise_variance_ * len(self.mean_)
        self.explained_variance_ratio_ = self.explained_variance_ / total
        return self


class FactorAnalysis(_Linear):
    r"""Factor analysis at its maximum likelihood: x = W z + mu + noise, with a noise variance for each cell.

    .. math::
        \log p(x) = \log N(x; \mu, W W^T + \mathrm{diag}(\psi))

    Cells that are NaN are integrated out.

    Args:
        n_components: Number of factors M, less than the number of cells.
        solver: "em" or "gradient".
        max_iter: Iterations at most.
        tol: Gain in nats a datum and cell at which EM stops.
        random_state: Seed of the start.

    Attributes:
        components_: W^T, turned so that W^T diag(1/psi) W is diagonal, (M, D).
        loadings_: W, (D, M).
        noise_variance_: psi, (D,).
        mean_: (D,).
        lower_bounds_: Log-likelihood of all training data in nats after each iteration.
        note_: What the answer has to be read with, such as a variance at its lowest value; else empty.

    Source: EM algorithms for ML factor analysis, 1982, https://doi.org/10.1007/BF02293851.

    Example:
        >>> from sklearn.datasets import load_iris
        >>> FactorAnalysis(1, random_state=0).fit(load_iris().data).noise_variance_.shape
        (4,)
    """

    recipe_name = "factor-analysis"

    def __init__(
        self,
        n_components: int = 2,
        solver: str = "em",
        *,
        max_iter: int = 1000,
        tol: float = 1e-8,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "FactorAnalysis":
        """Fits the model.

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

    def _adopt(self, run: Run) -> "FactorAnalysis":
        super()._adopt(run)
        self.mean_ = run.model.mean.numpy().copy()
        self.loadings_ = run.model.factor.numpy().copy()
        self.components_ = self.loadings_.T
        self.noise_variance_ = run.model.noise_variance.numpy().copy()
        return self
