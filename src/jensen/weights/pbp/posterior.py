"""Independent normals over a ReLU network's weights, with their predictive by moments."""

from collections.abc import Mapping
from dataclasses import fields
from math import log, pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.seeding import seeded
from jensen.weights.likelihoods import NOISE, Likelihood, NormalLikelihood
from jensen.weights.network import MEMORY, FunctionalNetwork, Values
from jensen.weights.optimise import History
from jensen.weights.options import parse
from jensen.weights.pbp.filtering import Filter, Gamma, filtered
from jensen.weights.pbp.moments import output_moments
from jensen.weights.pbp.network import relu_chain
from jensen.weights.pbp.options import PbpOptions
from jensen.weights.posterior import Posterior, positive
from jensen.weights.predictive import NormalPredictive, Predictive
from jensen.weights.priors import Prior


class PbpPosterior(Posterior):
    """What probabilistic backpropagation finds: a mean and a variance for each weight.

    Args:
        state: Of the filter, for one network.
        network, likelihood, prior, method, options, history: See ``Posterior``; the network holds the means.

    Attributes:
        state: Likewise; it goes on from here when there are more data.
    """

    kind: ClassVar[str] = "pbp"

    def __init__(
        self,
        state: Filter,
        network: FunctionalNetwork,
        likelihood: Likelihood,
        prior: Prior,
        method: str,
        options: Mapping[str, Any] | None = None,
        history: History | None = None,
    ) -> None:
        self.state_now = state
        self.chain = relu_chain(network)
        self._mean = self.chain.values(state.mean[0], 1)
        self._variance = self.chain.values(state.variance[0], 2)
        held = {name: value.to(network.dtype) for name, value in self._mean.items()}
        super().__init__(network.changed(held), likelihood, prior, method, options, history)

    @property
    def mean(self) -> Values:
        """Means of the weights, by name."""
        return self.network.weights

    def variances(self) -> Values:
        """Variances of the weights, by name."""
        return {name: self._variance[name].to(value.dtype) for name, value in self.mean.items()}

    @property
    def noise_scale(self) -> float:
        """Standard deviation of the noise: the root of its mean variance."""
        state = self.state_now
        variance = state.noise_variance if state.noise is None else state.noise.variance
        assert variance is not None
        return float(variance.sqrt())

    def draw(self, samples: int) -> Values:
        """Weights; the noise's scale is the same for all."""
        values = {
            name: value
            + self._variance[name].sqrt().to(value.dtype)
            * torch.randn(samples, *value.shape, dtype=value.dtype, device=value.device)
            for name, value in self.mean.items()
        }
        if self.state_now.noise is not None:
            values[NOISE] = torch.full(
                (samples,), log(self.noise_scale), dtype=self.network.dtype, device=self.network.device
            )
        return values

    def log_prob(self, weights: Mapping[str, Float[Tensor, "s *shape"]]) -> Float[Tensor, " s"]:
        """Log q(w) of sets of weights in nats, (S,)."""
        parts = [
            -0.5
            * ((weights[name].double() - mean).square() / self._variance[name] + self._variance[name].log())
            .flatten(1)
            .sum(1)
            for name, mean in self._mean.items()
        ]
        return torch.stack(parts).sum(0) - 0.5 * log(2 * pi) * self.network.size

    @torch.no_grad()
    def predict(
        self,
        X: Any,
        samples: int = 64,
        seed: int | None = 0,
        memory: int = MEMORY,
        *,
        predictive: str = "moments",
    ) -> Predictive:
        r"""The predictive distribution of targets.

        Args:
            X: Data (n, \*event), as the network takes them.
            samples: Draws of weights, if sampled.
            seed: Of the draws.
            memory: Bytes of intermediate results at once.
            predictive: "moments", a normal of the mean and variance that are propagated through the network; or
                "sampled", by draws of weights.

        Raises:
            ConfigError: If there is no such predictive, or ``samples`` isn't above 0.
            ShapeError: If the network can't take the data.
        """
        if predictive == "sampled":
            return super().predict(X, samples, seed, memory)
        if predictive != "moments":
            raise ConfigError(f"predictive is 'moments' or 'sampled', got {predictive!r}")
        x = self.inputs(X)
        positive(samples)
        self.network({name: value[None] for name, value in self.mean.items()}, x[:1])
        layers = self.chain.moments_of(self._mean, self._variance)
        size = max(1, memory // (64 * sum(out for out, _ in self.chain.shapes)))
        parts = [output_moments(layers, part.double()) for part in x.split(size)]
        loc = torch.cat([mean for mean, _ in parts])[:, None].to(self.network.dtype)
        variance = torch.cat([spread for _, spread in parts])[:, None, None].to(self.network.dtype)
        return NormalPredictive(self.likelihood, loc, variance, loc.new_tensor([self.noise_scale]))

    def update(self, X: Any, y: Any, *, seed: int = 0, **options: Any) -> "PbpPosterior":
        """Online learning: filtering goes on with further data from where it is.

        The new data are gone over as often as the first ones were, unless ``epochs`` says otherwise; ``epochs=1``
        counts each datum once.

        Args:
            X: New data, of the same columns as before.
            y: Their targets.
            seed: Of their order.
            **options: ``epochs`` and ``batch_size``, where they differ from this fit's.

        Returns:
            Another posterior; this one stays.

        Raises:
            ConfigError: If an option doesn't exist, or is one of the first priors.
            ShapeError: If the data have other columns than before.
            DataError: If data or targets hold NaN.
        """
        for key in ("shape", "rate"):
            if key in options:
                raise ConfigError(
                    f"update can't change {key}, a prior's, which has become data ({self.options[key]:g}); leave it "
                    "out, or fit anew on all data"
                )
        parsed = parse(PbpOptions, {**self.options, **options}, self.method)
        # It registers this class.
        from jensen.weights.fitting import problem_of

        data = problem_of(self.network, X, y, self.likelihood, None, self.prior, seed, several=False)
        with seeded(seed), torch.no_grad():
            state = filtered(
                self.state_now,
                data.x.double()[None],
                data.y.double()[None],
                parsed.epochs,
                parsed.batch(len(data)),
            )
        return PbpPosterior(
            state, self.network, self.likelihood, self.prior, self.method, parsed.model_dump(), {}
        )

    def state(self) -> tuple[Values, dict[str, Any]]:
        """The filter's vectors."""
        tensors: Values = {}
        for field in fields(self.state_now):
            value = getattr(self.state_now, field.name)
            if isinstance(value, Gamma):
                tensors[f"{field.name}/shape"], tensors[f"{field.name}/rate"] = value.shape, value.rate
            elif isinstance(value, Tensor):
                tensors[field.name] = value
        return tensors, {}

    @classmethod
    def restored(
        cls, common: Mapping[str, Any], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> "PbpPosterior":
        """The posterior that ``state`` was taken of."""

        def gamma(name: str) -> Gamma | None:
            shape = tensors.get(f"{name}/shape")
            return None if shape is None else Gamma(shape, tensors[f"{name}/rate"])

        state = Filter(
            tensors["mean"],
            tensors["variance"],
            relu_chain(common["network"]).shapes,
            gamma("noise"),
            tensors.get("noise_variance"),
            gamma("prior"),
            tensors["site_precision"],
            tensors["site_linear"],
            tensors["site_shape"],
            tensors["site_rate"],
        )
        return cls(state, **common)


def normal_noise(likelihood: Likelihood) -> float | None:
    """The noise's variance if it is fixed, None if it is learned.

    Raises:
        ConfigError: If the likelihood is another one.
    """
    if not isinstance(likelihood, NormalLikelihood) or likelihood.noise_scale == "network":
        noise = "" if not isinstance(likelihood, NormalLikelihood) else " with noise_scale='network'"
        raise ConfigError(
            f"method='pbp' is for likelihood='normal' with one noise, got '{likelihood.name}'{noise}; use "
            "method='laplace' or 'bayes-by-backprop'"
        )
    return None if likelihood.noise_scale == "learned" else float(likelihood.noise_scale) ** 2
