"""Mixtures of components of one exponential family, fitted by EM or variational Bayes."""

from math import prod

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jensen.errors import ShapeError
from jensen.models.families import Family, Predictive, WeightFamily
from jensen.models.rows import split_missing

CELLS = 2**20
"""Entries of expected data at once."""


class Mixture(nn.Module):
    r"""p(x) = sum_k pi_k p(x | theta_k), with whatever is known of pi and theta integrated out, in float64.

    All that is kept of the data are the sums s_k = sum_n r_nk t(x_n) of the components' features; the optimal q(theta)
    and q(pi), or the maximum-likelihood parameters, are functions of them.

    Args:
        components: Family of the components.
        weights: Family of the weights.
        count: Number of components K.
        event_shape: Shape of a datum.

    Example:
        >>> from jensen.models.families import Uniform, UnitNormal
        >>> mixture = Mixture(UnitNormal(1, 5.0), Uniform(), 3, (1,))
        >>> mixture.log_prob(torch.zeros(2, 1, dtype=torch.float64)).shape
        torch.Size([2])
    """

    def __init__(
        self, components: Family, weights: WeightFamily, count: int, event_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.components = components
        self.weight_family = weights
        self.count = count
        self.event_shape = event_shape
        self.statistics = nn.Parameter(
            torch.zeros(count, components.feature_count, dtype=torch.float64), requires_grad=False
        )

    @property
    def weights(self) -> Float[Tensor, " k"]:
        """E[pi], (K,)."""
        return self.weight_family.mean(self.statistics[:, -1])

    @property
    def predictive(self) -> Predictive:
        """The components' predictive densities."""
        return self.components.predictive(self.statistics.data)

    def joint_log_prob(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, "n k"]:
        """Log of E[pi_k] E[p(x | theta_k)], (n, K), in nats.

        Raises:
            ShapeError: If data have another shape.
        """
        if tuple(x.shape[1:]) != self.event_shape:
            raise ShapeError(f"data should have shape (n, *{self.event_shape}), got {tuple(x.shape)}")
        flat, mask = self._flat(x, observed)
        return self.predictive.log_prob(flat, mask) + self.weights.log()

    def log_prob(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, " n"]:
        """Log predictive density of the observed cells in nats, exact, (n,)."""
        return self.joint_log_prob(x, observed).logsumexp(1)

    def responsibilities(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, "n k"]:
        """p(component | observed cells), (n, K)."""
        return self.joint_log_prob(x, observed).softmax(1)

    def impute(
        self, x: Float[Tensor, "n *event"], observed: Bool[Tensor, "n *event"] | None = None
    ) -> Float[Tensor, "n *event"]:
        """Data whose missing cells hold their conditional mean E[x_missing | x_observed]."""
        flat, mask = self._flat(x, observed)
        if mask is None:
            return x
        predictive, logs, filled = self.predictive, self.weights.log(), flat.clone()
        gaps = (~mask).any(1).nonzero()[:, 0]
        for some in gaps.split(max(1, CELLS // (self.count * flat.shape[1]))):
            rows, seen = flat[some], mask[some]
            shares = (predictive.log_prob(rows, seen) + logs).softmax(1)
            mean = (shares[..., None] * predictive.conditional_mean(rows, seen)).sum(1)
            filled[some] = torch.where(seen, rows, mean)
        return filled.reshape(x.shape)

    def expected(self, shares: Float[Tensor, "n k"]) -> Float[Tensor, "n *event"]:
        """What responsibilities stand for: the components' means, weighted by them, (n, *event).

        Args:
            shares: As of ``responsibilities``, (n, K).

        Raises:
            ShapeError: If there is another number of components.
        """
        if shares.ndim != 2 or shares.shape[1] != self.count:
            raise ShapeError(
                f"responsibilities should have shape (n, {self.count}), got {tuple(shares.shape)}"
            )
        means = self.predictive.mean
        return (shares.to(means.dtype) @ means).reshape(len(shares), *self.event_shape)

    def sample(self, n: int, context: Tensor | None = None) -> Float[Tensor, "n *event"]:
        """New data (n, *event), components in a random order."""
        with torch.inference_mode():
            labels = torch.multinomial(self.weights, n, replacement=True)
            return self.predictive.sample(labels).reshape(n, *self.event_shape)

    def _flat(self, x: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        cells = prod(self.event_shape)
        mask = None if observed is None else observed.reshape(-1, cells)
        return split_missing(x.reshape(-1, cells).to(self.statistics.dtype), mask)
