"""The scikit-learn face of hidden Markov models."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_array

from jensen.estimators.fitted import ExactEstimator
from jensen.models.sequences import padded
from jensen.runs import Run

Array = NDArray[Any]


class HiddenMarkovModel(ExactEstimator):
    r"""A hidden Markov model: each row of X is a sequence, emitted by a chain of K states.

    .. math::
        p(x) = \sum_z \pi_{z_1} \prod_{t>1} A_{z_{t-1} z_t} \prod_t p(x_t | z_t)

    Args:
        n_components: Number of states K.
        solver: "em" (maximum likelihood) or "vb" (variational Bayes).
        emissions: "normal", "categorical", "poisson", "bernoulli"; "auto" chooses from the data.
        covariance_type: Of normal emissions: "full", "diag", "spherical", "tied" (with "em" only).
        symbols: Of categorical emissions, 0, 1, ...; None: as many as were seen.
        concentration: Of the Dirichlet priors with "vb".
        n_init: Starts; the best after a tenth of the passes is kept.
        max_iter: Passes over the data at most.
        tol: Gain in nats a sequence at which it stops.
        random_state: Seed of the start.

    Attributes:
        start_: Probabilities of the first state, (K,).
        transition_: From row to column, (K, K).
        means_: Of the emissions, (K, D).
        covariances_: Of normal emissions (with "vb" of their predictive densities), (K, D, D); None of others.
        lower_bound_: Log-likelihood of all training data in nats; with "vb" the bound on their log evidence.
        lower_bounds_: Its history.
        note_: What the answer has to be read with, such as a variance at its lowest value; else empty.

    Source: A tutorial on hidden Markov models and selected applications in speech recognition, 1989,
        https://doi.org/10.1109/5.18626.

    Example:
        >>> hmm = HiddenMarkovModel(2, random_state=0).fit([[0.1, 0.2, 5.1, 4.9], [5.0, 5.2, 0.3]])
        >>> hmm.predict([[0.0, 0.1, 5.0, 5.1]]).shape
        (1, 4)
    """

    recipe_name = "hmm"
    least_data = 1
    start_: Array
    transition_: Array
    means_: Array
    covariances_: Array | None

    def __init__(
        self,
        n_components: int = 3,
        solver: str = "em",
        *,
        emissions: str = "auto",
        covariance_type: str = "full",
        symbols: int | None = None,
        concentration: float = 1.0,
        n_init: int = 1,
        max_iter: int = 200,
        tol: float = 1e-4,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_components = n_components
        self.solver = solver
        self.emissions = emissions
        self.covariance_type = covariance_type
        self.symbols = symbols
        self.concentration = concentration
        self.n_init = n_init
        self.max_iter = max_iter
        self.tol = tol
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> "HiddenMarkovModel":
        """Fits the model.

        Args:
            X: Sequences: an array (n, T), or (n, T, D) for D numbers at a time, NaN behind a sequence's end and where
                a cell is missing; or a list of arrays of unequal length. Later sequences in a list, or in an array
                (n, T, D), may be longer or shorter than those of the fit.
            y: Ignored.

        Returns:
            Itself.

        Raises:
            ConfigError: If an option is wrong.
            DataError: If the data can't be used, such as a sequence of length 0.
        """
        return self._fit(X)

    def predict(self, X: Any) -> Array:
        """The most probable path of states of each sequence, (n, T); -1 behind its end."""
        return self.run_model.paths(self._prepare(X)).numpy()

    def predict_proba(self, X: Any) -> Array:
        """p(state at each time | the whole sequence), (n, T, K); zeros behind a sequence's end."""
        return self.run_model.states(self._prepare(X)).numpy()

    def _check(self, X: Any, *, reset: bool) -> Array:
        given, free = X, getattr(X, "ndim", 0) == 3
        if isinstance(X, list | tuple):
            parts = [np.asarray(part) for part in cast("list[Any]", X)]
            if all(part.ndim > 0 for part in parts):
                given, free = padded(parts), True
        if reset or not free:
            return super()._check(given, reset=reset)
        # Sequences of their own length; the cells at a time are compared with those of the fit later.
        checked = cast(Any, check_array)(given, dtype="numeric", allow_nd=True, ensure_all_finite="allow-nan")
        return cast(Array, checked)

    def _adopt(self, run: Run) -> "HiddenMarkovModel":
        super()._adopt(run)
        model = run.model
        self.start_ = model.start.numpy().copy()
        self.transition_ = model.transition.numpy().copy()
        predictive = model.emissions.predictive(model.statistics.data)
        self.means_ = predictive.mean.numpy().copy()
        normal = run.config.emissions == "normal"
        self.covariances_ = predictive.covariance.numpy().copy() if normal else None
        return self
