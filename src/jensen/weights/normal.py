"""Normal posteriors over weights: independent ones, or of low rank plus a diagonal."""

from collections.abc import Mapping
from math import log, pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jensen.errors import ConfigError
from jensen.linalg import LowRankPlusDiagonal
from jensen.weights.likelihoods import Likelihood
from jensen.weights.network import FunctionalNetwork, Values, flat, unflat
from jensen.weights.optimise import History
from jensen.weights.posterior import Posterior
from jensen.weights.priors import NormalPrior, Prior


class NormalPosterior(Posterior):
    r"""q(w) = N(m, diag(s^2) + F^T F) over all unknown weights as one vector.

    Args:
        loc: m, (P,), in the order of the network's unknown weights.
        scale: s, (P,).
        factor: F, (R, P), one noise vector of R numbers for all tensors together; None: none.
        values: Unknowns of the likelihood, without a dimension of sets.
        statistics: Data by which the running statistics of batch normalisation are computed for each draw, (m, *event);
            None: those of the network serve all draws.
        network, likelihood, prior, method, options, history: See ``Posterior``.
    """

    kind: ClassVar[str] = "normal"

    def __init__(
        self,
        loc: Float[Tensor, " p"],
        scale: Float[Tensor, " p"],
        network: FunctionalNetwork,
        likelihood: Likelihood,
        prior: Prior,
        method: str,
        options: Mapping[str, Any] | None = None,
        history: History | None = None,
        factor: Float[Tensor, "r p"] | None = None,
        values: Mapping[str, Tensor] | None = None,
        statistics: Tensor | None = None,
    ) -> None:
        super().__init__(network, likelihood, prior, method, options, history)
        self.loc = loc.detach()
        self.scale = scale.detach()
        self.factor = None if factor is None else factor.detach()
        self.values: Values = {name: value.detach() for name, value in (values or {}).items()}
        self.statistics = statistics

    @property
    def mean(self) -> Values:
        """The mean of each parameter, of its shape."""
        return unflat(self.loc, self.network.weights)

    @property
    def std(self) -> Values:
        """The standard deviation of each weight, of its parameter's shape."""
        low_rank = 0.0 if self.factor is None else self.factor.square().sum(0)
        return unflat((self.scale.square() + low_rank).sqrt(), self.network.weights)

    def draw(self, samples: int) -> Values:
        """Draws of the normal."""
        drawn = torch.randn(samples, len(self.loc)).to(self.loc)
        # In place, since many sets of a large network don't fit into a cache.
        drawn.mul_(self.scale).add_(self.loc)
        if self.factor is not None:
            drawn.addmm_(torch.randn(samples, len(self.factor)).to(self.loc), self.factor)
        rest = {name: value.expand(samples, *value.shape) for name, value in self.values.items()}
        sets = unflat(drawn, self.network.weights)
        if self.statistics is None:
            return {**sets, **rest}
        return {**sets, **rest, **batch_statistics(self.network, sets, self.statistics)}

    def log_prob(self, weights: Mapping[str, Tensor]) -> Float[Tensor, " s"]:
        """Log q(w) of sets of weights in nats, (S,)."""
        deviation = flat(weights, self.network.weights) - self.loc
        if self.factor is not None:
            covariance = LowRankPlusDiagonal(self.factor.T, self.scale.square())
            return covariance.log_prob(deviation)[0]
        cells = -0.5 * (deviation / self.scale).square() - self.scale.log() - 0.5 * log(2 * pi)
        return cells.sum(-1)

    def as_prior(self) -> NormalPrior:
        """Today's posterior as tomorrow's prior.

        Raises:
            ConfigError: If the weights aren't independent.
        """
        if self.factor is not None:
            raise ConfigError(
                "a normal of low rank plus diagonal isn't a prior that weights can be updated from; fit with "
                "structure='mean-field', or by method='laplace'"
            )
        return NormalPrior(unflat(self.scale, self.network.weights), loc=self.mean)

    def update(self, X: Any, y: Any, **options: Any) -> "Posterior":
        """Online learning by variational inference, with this posterior as the prior and where it starts.

        Args:
            X: New data, of the same columns as before.
            y: Their targets.
            **options: Of method "bayes-by-backprop", where they differ from this fit's; ``seed`` too.

        Returns:
            Another posterior; this one stays.

        Raises:
            ConfigError: If the posterior wasn't fitted so, its weights aren't independent, or an option would change
                what it starts from.
            ShapeError: If the data have other columns than before.
        """
        if self.method != "bayes-by-backprop":
            raise ConfigError(
                f"the normal of method='{self.method}' is as wide as its step size lets it be, not as the data say, so "
                "it can't be the next prior; fit by method='bayes-by-backprop' or 'laplace' to learn online"
            )
        # It makes posteriors of this class.
        from jensen.weights.backprop import BackpropOptions, fit_backprop
        from jensen.weights.fitting import problem_of
        from jensen.weights.options import parse

        for key in ("structure", "rank", "subset", "rest", "initial_scale"):
            if key in options:
                raise ConfigError(
                    f"update can't change {key}, since it starts from this posterior ({self.options[key]!r}); leave it "
                    "out, or fit anew on all data"
                )
        prior = self.as_prior()
        seed = options.pop("seed", 0)
        parsed = parse(
            BackpropOptions, {**self.options, "subset": "all", "rest": "fixed", **options}, self.method
        )
        network = self.network.changed(self.mean)
        problem = problem_of(network, X, y, self.likelihood, None, prior, seed, several=False)
        return fit_backprop(problem, parsed, start=self)

    def state(self) -> tuple[Values, dict[str, Any]]:
        """Means, scales and factor."""
        tensors = {"loc": self.loc, "scale": self.scale}
        if self.factor is not None:
            tensors["factor"] = self.factor
        if self.statistics is not None:
            tensors["statistics"] = self.statistics
        return tensors | {f"value/{name}": value for name, value in self.values.items()}, {}

    @classmethod
    def restored(
        cls, common: Mapping[str, Any], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> "NormalPosterior":
        """The normal again."""
        values = {k.removeprefix("value/"): v for k, v in tensors.items() if k.startswith("value/")}
        return cls(
            tensors["loc"],
            tensors["scale"],
            factor=tensors.get("factor"),
            values=values,
            statistics=tensors.get("statistics"),
            **common,
        )


@torch.no_grad()
def batch_statistics(network: FunctionalNetwork, sets: Mapping[str, Tensor], x: Tensor) -> Values:
    """The running statistics of batch normalisation that belong to each set of weights.

    Args:
        network: Whose batch normalisation it is; dropout is off.
        sets: Weights, (S, *shape).
        x: Data, all of which make one batch.

    Returns:
        All buffers of the network by name, (S, *shape).
    """

    def change(skeleton: nn.Module) -> nn.Module:
        for module in skeleton.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.momentum = 1.0
            elif isinstance(module, nn.modules.dropout._DropoutNd):
                module.p = 0.0
        return skeleton

    count = len(next(iter(sets.values())))
    buffers = {name: value.expand(count, *value.shape).clone() for name, value in network.buffers.items()}
    network.rebuilt(change)(sets, x, buffers, training=True)
    return buffers
