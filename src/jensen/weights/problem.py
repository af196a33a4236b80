"""What every method gets: the network as a function, the data, likelihood and prior."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from jaxtyping import Float, Shaped
from torch import Tensor

from jensen.weights.likelihoods import Likelihood
from jensen.weights.network import FunctionalNetwork, Subset, Values
from jensen.weights.priors import Prior


@dataclass(frozen=True)
class Problem:
    """The joint density p(y, w | x) of data and weights.

    Attributes:
        network: As a function of its unknown weights.
        x: Data as the network takes them, (n, *event).
        y: Targets as the likelihood takes them, (n, *event).
        likelihood: p(y | network(x)).
        prior: p(w).
        seed: Of all that is random.
        full_prior: The prior of all parameters that aren't frozen, where fewer are unknown; None: ``prior`` is it.
        on_epoch: Called after each epoch of training with the number done and the number planned.
    """

    network: FunctionalNetwork
    x: Shaped[Tensor, "n *event"]
    y: Shaped[Tensor, "n *target"]
    likelihood: Likelihood
    prior: Prior
    seed: int = 0
    on_epoch: Callable[[int, int], None] | None = None
    full_prior: Prior | None = None

    def __len__(self) -> int:
        """Number of data."""
        return len(self.x)

    def start(self) -> Values:
        """The weights as they are, and the likelihood's own unknowns, without a dimension of sets."""
        return {**self.network.weights, **self.likelihood.start(next(iter(self.network.all.values())))}

    def with_network(self, network: FunctionalNetwork) -> "Problem":
        """The same data with that network."""
        return replace(self, network=network)

    def restricted(self, subset: Subset) -> "Problem":
        """The same with fewer unknown weights; the others stay as they are."""
        network = self.network.changed(subset=subset)
        prior = self.prior.restricted(network.chosen)
        return replace(self, network=network, prior=prior, full_prior=self.full_prior or self.prior)

    def log_likelihood(
        self, values: Values, x: Tensor, y: Tensor, *, training: bool = False
    ) -> Float[Tensor, "s n"]:
        """Log p(y | x, w) of some data for S sets of values, nats."""
        weights = {name: value for name, value in values.items() if not name.startswith("likelihood.")}
        return self.likelihood.log_prob(self.network(weights, x, training=training), y, values)

    def log_joint(self, values: Values, x: Tensor, y: Tensor) -> Float[Tensor, " s"]:
        """Log p(w) plus the data's log-likelihood, of which some stand for all: N / B times their sum, nats, (S,).

        Args:
            values: Weights and the likelihood's unknowns by name, (S, *shape).
            x: Some of the data, (b, *event).
            y: Their targets.
        """
        total = self.log_likelihood(values, x, y).sum(-1) * (len(self) / len(x))
        return total + self.prior.log_prob(values)
