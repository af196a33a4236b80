"""A normal posterior around the most probable weights, of any structure of precision."""

from collections.abc import Mapping
from math import log, pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.linalg import Factor, Kronecker
from jensen.seeding import seeded
from jensen.weights.curvature import Block, Packing, Precision
from jensen.weights.laplace.joint import deviations
from jensen.weights.laplace.linearised import linearised_outputs
from jensen.weights.laplace.online import continued
from jensen.weights.laplace.options import LaplaceOptions
from jensen.weights.likelihoods import NOISE, Likelihood, NormalLikelihood
from jensen.weights.network import MEMORY, FunctionalNetwork, Values
from jensen.weights.optimise import History
from jensen.weights.options import parse
from jensen.weights.posterior import Posterior, positive
from jensen.weights.predictive import Predictive
from jensen.weights.priors import Prior


class LaplacePosterior(Posterior):
    r"""N(w*, Lambda^-1) over the unknown weights, where Lambda is the curvature of the joint density at w*.

    Args:
        precision: Lambda.
        log_noise: Logarithm of the noise's scale; None where there is none.
        log_evidence: Laplace's approximation of log p(y | x), nats.
        network, likelihood, prior, method, options, history: See ``Posterior``; the network holds w*.

    Attributes:
        precision: Likewise.
        log_evidence: After updates that of the latest data given the earlier ones.
    """

    kind: ClassVar[str] = "laplace"

    def __init__(
        self,
        precision: Precision,
        log_noise: Float[Tensor, ""] | None,
        log_evidence: float,
        network: FunctionalNetwork,
        likelihood: Likelihood,
        prior: Prior,
        method: str,
        options: Mapping[str, Any] | None = None,
        history: History | None = None,
    ) -> None:
        super().__init__(network, likelihood, prior, method, options, history)
        self.precision = precision
        self.log_noise = log_noise
        self.log_evidence = log_evidence

    @property
    def mean(self) -> Values:
        """The most probable weights w*, by name."""
        return self.network.weights

    @property
    def noise_scale(self) -> float | None:
        """Standard deviation of normal noise; None where there is none, or the network gives it."""
        return None if self.log_noise is None else float(self.log_noise.exp())

    @property
    def prior_scales(self) -> dict[str, float]:
        """Standard deviation of the prior of each weight, as fixed or tuned; of a layer's weight and bias together."""
        return {
            name: float(scale) for name, scale in self.prior.scales.items() if name in self.precision.names
        }

    def variances(self) -> Values:
        """Posterior variance of each weight by name; zero for those that aren't unknown."""
        found = self.precision.variances()
        return {name: found[name].to(value.dtype) for name, value in self.mean.items()}

    def _likelihood_values(self, samples: int) -> Values:
        if self.log_noise is None or not _learned(self.likelihood):
            return {}
        return {NOISE: self.log_noise.to(self.network.dtype).expand(samples)}

    def draw(self, samples: int) -> Values:
        """Sets of weights; the noise's scale goes with them where it was tuned."""
        away = self.precision.sample(samples)
        weights = {
            name: (value + away[name]).to(value.dtype)
            if name in away
            else value.expand(samples, *value.shape)
            for name, value in self.mean.items()
        }
        return {**weights, **self._likelihood_values(samples)}

    def log_prob(self, weights: Mapping[str, Float[Tensor, "s *shape"]]) -> Float[Tensor, " s"]:
        """Log q(w) of sets of weights in nats, (S,)."""
        constant = self.precision.log_det - self.precision.size * log(2 * pi)
        away = deviations({name: weights[name] for name in self.precision.names}, self.mean)
        return 0.5 * (constant - self.precision.quadratic(away))

    @torch.no_grad()
    def predict(
        self,
        X: Any,
        samples: int = 64,
        seed: int | None = 0,
        memory: int = MEMORY,
        *,
        predictive: str | None = None,
        link: str = "auto",
    ) -> Predictive:
        r"""The predictive distribution of targets.

        Linearised, the outputs are normal, f ~ N(f(x; w*), J Lambda^-1 J^T) with J the Jacobian at w*: exact for the
        network that the Gauss-Newton matrix belongs to. Sampled, the network itself is run with drawn weights.

        Args:
            X: Data (n, \*event), as the network takes them.
            samples: Draws of outputs or weights, where there is no closed form.
            seed: Of the draws; None: torch's generator as it is.
            memory: Bytes of intermediate results at once.
            predictive: "linearised" or "sampled"; None: as it was fitted.
            link: From normal outputs to targets: "closed-form" (normal), "probit" (classes), "monte-carlo" (any);
                "auto": closed form where there is one, else "monte-carlo".

        Returns:
            The predictive.

        Raises:
            ConfigError: If there is no such predictive or link, or ``samples`` isn't above 0.
            ShapeError: If the network can't take the data.

        Source: Improving predictions of Bayesian neural nets via local linearization, 2021,
        https://arxiv.org/abs/2008.08400.
        """
        wanted = predictive or str(self.options.get("predictive", "linearised"))
        if wanted == "sampled":
            return super().predict(X, samples, seed, memory)
        if wanted != "linearised":
            raise ConfigError(f"predictive is 'linearised' or 'sampled', got {wanted!r}")
        x = self.inputs(X)
        positive(samples)
        with seeded(seed):
            # Data that don't fit are named here.
            self.network({name: value[None] for name, value in self.mean.items()}, x[:1])
            outputs = linearised_outputs(self.network, self.precision, x, memory)
            return outputs.predictive(self.likelihood, self._likelihood_values(1), link, samples)

    def update(self, X: Any, y: Any, *, seed: int = 0, **options: Any) -> "LaplacePosterior":
        """Online learning: the posterior after further data, with this one as the prior.

        Prior and noise keep the scales that were found on the first data. Precisions are added up: exactly, or as the
        nearest Kronecker product of each layer.

        Args:
            X: New data, of the same columns as before.
            y: Their targets.
            seed: Of the training.
            **options: Of the training (epochs, batch_size, learning_rate, ...), where they differ from this fit's.

        Returns:
            Another posterior; this one stays.

        Raises:
            ConfigError: If an option doesn't exist, or would change what the posterior is over.
            ShapeError: If the data have other columns than before.
            DataError: If data or targets hold NaN.
        """
        for key in ("structure", "subset", "subnetwork_size", "curvature"):
            if key in options:
                raise ConfigError(
                    f"update can't change {key}, which this posterior was fitted with ({self.options[key]!r}); "
                    "leave it out, or fit anew on all data"
                )
        parsed = parse(LaplaceOptions, {**self.options, **options}, "laplace")
        # It registers this class.
        from jensen.weights.fitting import problem_of

        data = problem_of(self.network, X, y, self.likelihood, None, self.prior, seed, several=False)
        with seeded(seed):
            settled, history = continued(data, self.precision, self.log_noise, parsed)
        return LaplacePosterior(
            settled.precision,
            self.log_noise,
            settled.log_evidence,
            self.network.changed(settled.weights),
            self.likelihood,
            self.prior,
            self.method,
            parsed.model_dump(),
            history,
        )

    def state(self) -> tuple[Values, dict[str, Any]]:
        """The precision's factors and how weights lie in them; w* is kept with the network."""
        tensors: Values = {}
        about: list[dict[str, Any]] = []
        for place, block in enumerate(self.precision.blocks):
            packing, matrix = block.packing, block.matrix
            for part, factor in enumerate(matrix.factors):
                tensors[f"{place}/factor/{part}"] = factor.matrix
            tensors[f"{place}/units"] = block.units
            if packing.index is not None:
                tensors[f"{place}/index"] = packing.index
            about.append(
                {
                    "names": list(packing.names),
                    "shapes": [list(shape) for shape in packing.shapes],
                    "columns": packing.columns,
                    "factors": len(matrix.factors),
                    "scale": float(matrix.scale),
                    "shift": float(matrix.shift),
                }
            )
        log_noise = None if self.log_noise is None else float(self.log_noise)
        return tensors, {"blocks": about, "log_noise": log_noise, "log_evidence": self.log_evidence}

    @classmethod
    def restored(
        cls, common: Mapping[str, Any], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> "LaplacePosterior":
        """The posterior that ``state`` was taken of."""
        blocks: list[Block] = []
        for place, kept in enumerate(about["blocks"]):
            packing = Packing(
                tuple(kept["names"]),
                tuple(tuple(shape) for shape in kept["shapes"]),
                kept["columns"],
                tensors.get(f"{place}/index"),
            )
            factors = [Factor(tensors[f"{place}/factor/{part}"]) for part in range(kept["factors"])]
            matrix = Kronecker(factors, kept["scale"], kept["shift"])
            blocks.append(Block(packing, matrix, tensors[f"{place}/units"]))
        noise = about["log_noise"]
        log_noise = None if noise is None else torch.tensor(noise, dtype=torch.float64)
        return cls(Precision(blocks), log_noise, about["log_evidence"], **common)


def _learned(likelihood: Likelihood) -> bool:
    return isinstance(likelihood, NormalLikelihood) and likelihood.noise_scale == "learned"
