"""Step size and coordinates learnt from all chains together before draws count."""

from collections.abc import Callable

import numpy as np

from jensen.inference.mcmc.density import Array, Metric
from jensen.inference.mcmc.step_size import DualAveraging

WINDOWS = (0.15, 0.3, 0.5, 0.85)
"""Shares of the warm-up: at first only the step size is adapted, at each later mark the covariance is learnt."""

_PRIOR_DRAWS = 5
"""The covariance is pulled to its diagonal as if so many draws had shown no correlation."""


def relearnt(metric: Metric, positions: Array, dense: bool) -> Metric:
    """Coordinates by the covariance of draws of all chains, or by their variances.

    The covariance is estimated in the coordinates so far, and there pulled to its diagonal: what is known of strong
    correlations already isn't blurred again.

    Args:
        metric: The coordinates so far.
        positions: Unconstrained, (draws, dim).
        dense: Whether correlations are kept.

    Returns:
        New coordinates.
    """
    centre = positions.mean(0)
    if not dense:
        before = np.diag(metric.covariance) if metric.dense else metric.covariance
        # A coordinate in which no chain has moved keeps some width.
        return Metric(centre, np.sqrt(np.maximum(positions.var(0, ddof=1), 1e-10 * before)))
    z = metric.inward(positions - centre + metric.centre)
    n = len(z)
    variances = np.maximum(z.var(0, ddof=1), 1e-10)
    covariance = z.T @ z / (n - 1) * (n / (n + _PRIOR_DRAWS))
    np.fill_diagonal(covariance, variances)
    try:
        root = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        root = np.diag(np.sqrt(variances))
    return Metric(centre, metric.factor @ root if metric.dense else metric.factor[:, None] * root)


class WarmUp:
    """Adapts a step size by the chains' mean acceptance and the coordinates by their draws' pooled covariance.

    Args:
        metric: To begin with.
        dense: Whether coordinates are mixed.
        wanted: The acceptance wanted.
        chains: How many there are.
        iterations: Transitions of a chain, on average.
        guess: From a metric to a step size to begin with.
    """

    def __init__(
        self,
        metric: Metric,
        dense: bool,
        wanted: float,
        chains: int,
        iterations: int,
        guess: Callable[[Metric], float],
    ) -> None:
        self.metric = metric
        self.dense = dense
        self.guess = guess
        self.total = chains * iterations
        self.marks = [int(share * self.total) for share in WINDOWS]
        self.batch = chains
        self.steps = DualAveraging(guess(metric), wanted)
        self.finished = 0
        self.passed = 0
        self.window: list[Array] = []
        self.acceptances: list[Array] = []
        self.waiting = 0
        self.widths: list[Array] = []
        self.paths: list[np.ndarray] = []
        self.unturned = 0.0

    @property
    def share(self) -> float:
        """How much of the warm-up is done."""
        return min(1.0, self.finished / max(self.total, 1))

    def take(self, acceptance: Array, positions: Array, unturned: np.ndarray | None = None) -> bool:
        """Learns from transitions that ended.

        Args:
            acceptance: Of each, (k,).
            positions: Unconstrained, (k, dim).
            unturned: Which paths were as long as they may be and hadn't turned yet, (k,).

        Returns:
            Whether the coordinates are new.
        """
        self.finished += len(acceptance)
        self.acceptances.append(acceptance)
        self.waiting += len(acceptance)
        if self.waiting >= self.batch:
            self.steps.update(float(np.concatenate(self.acceptances).mean()))
            self.acceptances, self.waiting = [], 0
        if self.passed > 0:
            self.window.append(positions)
            if unturned is not None:
                self.paths.append(unturned)
        if self.passed == len(self.marks) or self.finished < self.marks[self.passed]:
            return False
        self.passed += 1
        return self.passed > 1 and self._learn()

    def _learn(self) -> bool:
        """A new metric from the window's draws, if there are enough of them."""
        positions = np.concatenate(self.window)
        dim = positions.shape[1]
        enough = len(positions) >= 2 * dim
        if len(positions) < 10 or (self.metric.dense and not enough):
            return False
        self.widths.append(positions.std(0))
        if self.paths:
            self.unturned = float(np.concatenate(self.paths).mean())
        self.window, self.paths = [], []
        self.metric = relearnt(self.metric, positions, self.dense and enough)
        self.steps.restart(self.guess(self.metric))
        return True
