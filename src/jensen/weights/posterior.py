"""A posterior over the weights of a network, whatever the method."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, ShapeError
from jensen.seeding import seeded
from jensen.weights import storage
from jensen.weights.likelihoods import Likelihood
from jensen.weights.network import MEMORY, FunctionalNetwork, Values
from jensen.weights.optimise import History
from jensen.weights.predictive import MixturePredictive, Predictive
from jensen.weights.priors import Prior


class Posterior(ABC):
    """q(w), or draws of it, over the unknown weights of a network.

    Values are drawn in sets: for each name (S, *shape). Beside weights a set may hold buffers of the network that
    belong to it, such as running statistics or dropout masks, and unknowns of the likelihood.

    Args:
        network: As a function; the weights that aren't unknown have their final values in it.
        likelihood: p(y | outputs).
        prior: p(w).
        method: That it was fitted by.
        options: Of the method, as JSON can hold them.
        history: What training recorded, epoch by epoch.

    Attributes:
        kind: What files call this form of posterior.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        network: FunctionalNetwork,
        likelihood: Likelihood,
        prior: Prior,
        method: str,
        options: Mapping[str, Any] | None = None,
        history: History | None = None,
    ) -> None:
        self.network = network
        self.likelihood = likelihood
        self.prior = prior
        self.method = method
        self.options = dict(options or {})
        self.history: History = history or {}

    @abstractmethod
    def draw(self, samples: int) -> Values:
        """Sets of values by torch's generator as it is, each (samples, *shape)."""

    def sets(self, samples: int, at_once: int) -> Iterator[Values]:
        """The sets that a predictive averages over, so many at once."""
        for start in range(0, samples, at_once):
            yield self.draw(min(at_once, samples - start))

    def log_weights(self, samples: int) -> Float[Tensor, " s"] | None:
        """Of the sets of ``sets``, normalised; None: all alike."""
        return None

    def sample(self, n: int | torch.Size = 1, seed: int | None = None) -> Values:
        """Draws weights.

        Args:
            n: How many sets; a torch.Size gives as many dimensions.
            seed: None: torch's generator as it is.

        Returns:
            For each unknown parameter (n, *shape).
        """
        shape = (n,) if isinstance(n, int) else tuple(n)
        with seeded(seed), torch.no_grad():
            values = self.draw(prod(shape))
        return {
            name: values[name].reshape(*shape, *like.shape) for name, like in self.network.weights.items()
        }

    @torch.no_grad()
    def predict(self, X: Any, samples: int = 64, seed: int | None = 0, memory: int = MEMORY) -> Predictive:
        """The predictive distribution of targets.

        Args:
            X: Data (n, *event), as the network takes them.
            samples: Sets of weights to average over. A posterior that consists of fewer sets uses all of them, and
                the predictive's ``samples`` says how many.
            seed: Of the draws; None: torch's generator as it is.
            memory: Bytes of intermediate results at once.

        Returns:
            The predictive, on the network's device.

        Raises:
            ShapeError: If the network can't take the data.
            ConfigError: If ``samples`` isn't above 0.
        """
        x = self.inputs(X)
        positive(samples)
        outputs: list[Tensor] = []
        rest: list[Values] = []
        with seeded(seed):
            for values in self.sets(samples, self.network.sets_at_once(memory)):
                own = {name: value for name, value in values.items() if name.startswith("likelihood.")}
                weights = {name: value for name, value in values.items() if name not in own}
                outputs.append(self.network.outputs(weights, x, memory))
                rest.append(own)
        together = {name: torch.cat([own[name] for own in rest]) for name in rest[0]}
        return MixturePredictive(self.likelihood, torch.cat(outputs), together, self.log_weights(samples))

    def inputs(self, X: Any) -> Tensor:
        """Data as the network takes them, checked.

        Raises:
            ShapeError: If there are none.
            DataError: If one isn't finite.
        """
        return self.network.inputs(X)

    def log_prob(self, weights: Mapping[str, Float[Tensor, "s *shape"]]) -> Float[Tensor, " s"]:
        """Log q(w) of sets of weights in nats, (S,).

        Raises:
            ConfigError: If this posterior has no density.
        """
        raise ConfigError(
            f"the posterior of method='{self.method}' has no density, only draws; use sample or predict, or fit by "
            "method='bayes-by-backprop', 'laplace' or 'swag'"
        )

    def update(self, X: Any, y: Any, **options: Any) -> "Posterior":
        """Online learning: the posterior after further data, with this one as the prior.

        Args:
            X: New data, of the same columns as before.
            y: Their targets.
            **options: Of the method, where they differ from this fit's.

        Returns:
            Another posterior; this one stays.

        Raises:
            ConfigError: If this posterior has no normal form that could be a prior.
            ShapeError: If the data have other columns than before.
        """
        self._no_update()

    def _no_update(self) -> NoReturn:
        raise ConfigError(
            f"the posterior of method='{self.method}' has no normal form to be the next prior; fit by "
            "method='bayes-by-backprop', 'laplace' or 'pbp' to learn online"
        )

    @abstractmethod
    def state(self) -> tuple[Values, dict[str, Any]]:
        """What is kept on disk: tensors by name, and what JSON can hold."""

    @classmethod
    @abstractmethod
    def restored(
        cls, common: Mapping[str, Any], tensors: Mapping[str, Tensor], about: Mapping[str, Any]
    ) -> "Posterior":
        """The posterior that ``state`` was taken of.

        Args:
            common: The arguments of ``Posterior``.
            tensors: As ``state`` gave them.
            about: Likewise.
        """

    def packed(self) -> tuple[Values, dict[str, Any]]:
        """All that a file holds: tensors by name, and what JSON can hold; the network's code isn't kept."""
        tensors, about = self.state()
        prior_tensors, prior_about = self.prior.state()
        network = self.network
        parts = {
            "posterior": tensors,
            "prior": prior_tensors,
            # Unknown ones too: those that aren't given to the network are as they are here.
            "parameter": network.all,
            "buffer": network.buffers,
        }
        flat = {f"{part}/{name}": value for part, values in parts.items() for name, value in values.items()}
        return flat, {
            "kind": self.kind,
            "method": self.method,
            "options": self.options,
            "unknown": network.chosen,
            "posterior": about,
            "prior": prior_about,
            "history": self.history,
            **self.likelihood.about(),
        }

    def save(self, folder: str | Path) -> None:
        """Writes the posterior to a folder: tensors as safetensors, all else as JSON; the network's code isn't kept.

        Raises:
            RunError: If it can't be written.
        """
        storage.write(Path(folder), *self.packed())


def positive(samples: int) -> None:
    """Refuses a number of sets of weights that is none.

    Raises:
        ConfigError: If it isn't above 0.
    """
    if samples < 1:
        raise ConfigError(f"samples has to be at least 1, got {samples}")


def matches(network: FunctionalNetwork, shapes: Mapping[str, torch.Size], folder: str | Path) -> None:
    """Holds a network against the parameters that a folder was written for.

    Raises:
        ShapeError: If names or shapes differ; the message names the first.
    """
    mine = {name: tuple(value.shape) for name, value in network.all.items()}
    theirs = {name: tuple(shape) for name, shape in shapes.items()}
    for name in sorted(set(mine) | set(theirs)):
        if mine.get(name) != theirs.get(name):
            raise ShapeError(
                f"parameter '{name}' is {theirs.get(name, 'absent')} in {folder} and {mine.get(name, 'absent')} in "
                "the network; give the network that the posterior was fitted for"
            )
