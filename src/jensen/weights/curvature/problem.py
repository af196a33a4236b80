"""What a curvature is taken of: a network, one set of its weights, data, and how the likelihood curves."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.weights.curvature.outputs import fisher_root, fisher_total, score
from jensen.weights.likelihoods import Likelihood
from jensen.weights.network import MEMORY, FunctionalNetwork, Values

Curvature = Literal["ggn", "empirical"]


@dataclass(frozen=True)
class CurvatureProblem:
    """A network at one set of weights, with the data whose log-likelihood's curvature is wanted.

    Attributes:
        network: As a function.
        weights: Unknown ones by name, one set.
        x: Data (n, *event).
        y: Targets as the likelihood takes them.
        likelihood: p(y | f); a normal one counts with noise of scale one.
        curvature: "ggn", the generalised Gauss-Newton matrix (which is the Fisher information for these likelihoods),
            or "empirical", the sum of squared gradients at the targets that were seen.
        masks: Which entries of a weight are unknown, for those of which not all are.
        memory: Bytes of intermediate results at once.
    """

    network: FunctionalNetwork
    weights: Values
    x: Tensor
    y: Tensor
    likelihood: Likelihood
    curvature: Curvature = "ggn"
    masks: Mapping[str, Tensor] | None = None
    memory: int = MEMORY

    def columns(self, outputs: Float[Tensor, "n outputs"], y: Tensor) -> Float[Tensor, "n outputs k"]:
        """Vectors c with sum_k c c^T the curvature of -log p(y | f) in f at each datum."""
        if self.curvature == "empirical":
            return score(self.likelihood, outputs, y)
        return fisher_root(self.likelihood, outputs)

    def total(self, outputs: Float[Tensor, "n outputs"], y: Tensor) -> Float[Tensor, "outputs outputs"]:
        """Sum of that curvature over data."""
        if self.curvature == "empirical":
            columns = score(self.likelihood, outputs, y)[..., 0]
            return columns.T @ columns
        return fisher_total(self.likelihood, outputs)

    @torch.no_grad()
    def chunks(self, row_bytes: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Data and targets in parts of bounded memory.

        Args:
            row_bytes: Of intermediate results for one datum.
        """
        size = max(1, self.memory // max(1, row_bytes))
        for start in range(0, len(self.x), size):
            yield self.x[start : start + size], self.y[start : start + size]

    @torch.no_grad()
    def outputs(self) -> int:
        """How many numbers the network returns for a datum."""
        return self.network.single(self.weights, self.x[:1]).shape[1]

    def refined(self, weights: Values) -> "CurvatureProblem":
        """The same at other weights."""
        return CurvatureProblem(
            self.network, weights, self.x, self.y, self.likelihood, self.curvature, self.masks, self.memory
        )
