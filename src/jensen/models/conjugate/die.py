"""A die of unknown bias: categorical observations, a Dirichlet prior."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Categorical, Dirichlet

from jensen.distributions import DirichletMultinomial
from jensen.errors import ConfigError, SupportError
from jensen.models.conjugate.checks import Numbers, number, observations, throws


@dataclass(frozen=True)
class Die:
    r"""Faces 0, ..., K - 1 with unknown probabilities :math:`\theta \sim \mathrm{Dirichlet}(a)`.

    The posterior after the counts c is Dirichlet(a + c), and the marginal likelihood of these throws, in their order,
    :math:`\frac{\Gamma(A)}{\Gamma(A + n)} \prod_k \frac{\Gamma(a_k + c_k)}{\Gamma(a_k)}`.

    Attributes:
        concentration: a > 0, as if each face had been seen so often, (*batch, K), float64.

    Raises:
        ConfigError: If a number isn't above 0, or there is no face.
        DataError: If something isn't a number.

    Example:
        >>> die = Die.fair(6).update([5, 5, 5, 0])
        >>> round(float(die.predictive.probs[5]), 12)  # (3 + 1) / (4 + 6)
        0.4
    """

    concentration: Float[Tensor, "*batch faces"]

    def __init__(self, concentration: Numbers) -> None:
        found = number(concentration, "concentration")
        if found.ndim == 0 or found.shape[-1] == 0:
            raise ConfigError(f"concentration needs a number for each face; got shape {tuple(found.shape)}")
        object.__setattr__(self, "concentration", found)

    @classmethod
    def fair(cls, faces: int, strength: float = 1.0) -> "Die":
        """A prior that holds all faces alike.

        Args:
            faces: K.
            strength: As if each had been seen so often.

        Returns:
            The model.

        Raises:
            ConfigError: If there is no face, or the strength isn't above 0.
        """
        return cls(torch.full((faces,), strength, dtype=torch.float64))

    @property
    def parameter(self) -> Dirichlet:
        """What is believed of the faces' probabilities."""
        return Dirichlet(self.concentration)

    @property
    def predictive(self) -> Categorical:
        """The next throw."""
        return Categorical(probs=self.concentration / self.concentration.sum(-1, keepdim=True))

    def predictive_counts(self, n: int) -> DirichletMultinomial:
        """How often each face comes in the next n throws.

        Raises:
            ConfigError: If n isn't 0, 1, 2, ...
        """
        return DirichletMultinomial(throws(n), self.concentration)

    def update(self, x: Numbers) -> "Die":
        """The model after some throws.

        Args:
            x: Faces 0, ..., K - 1, (n, *batch).

        Returns:
            The posterior, which is the next prior.

        Raises:
            ShapeError: If the axes are others.
            SupportError: If a face isn't one of the die's.
            DataError: If one isn't finite.
        """
        faces = self.concentration.shape[-1]
        thrown = observations(x, self.concentration.shape[:-1], "counts").long()
        if thrown.numel() and int(thrown.max()) >= faces:
            raise SupportError(f"an observation is {int(thrown.max())}; the faces are 0..{faces - 1}")
        counts = torch.zeros(self.concentration[..., 0].numel(), faces, dtype=torch.float64)
        if thrown.numel():
            rows = thrown.reshape(len(thrown), -1).T
            counts.scatter_add_(1, rows, torch.ones_like(rows, dtype=torch.float64))
        return Die(self.concentration + counts.reshape(self.concentration.shape))

    def log_evidence(self, x: Numbers) -> Float[Tensor, "*batch"]:
        """The logarithm of the marginal likelihood of throws in their order.

        Args:
            x: Faces 0, ..., K - 1, (n, *batch).

        Returns:
            Nats, (*batch).

        Raises:
            ShapeError: If the axes are others.
            SupportError: If a face isn't one of the die's.
            DataError: If one isn't finite.
        """
        return _log_normaliser(self.update(x).concentration) - _log_normaliser(self.concentration)


def _log_normaliser(concentration: Tensor) -> Tensor:
    return torch.lgamma(concentration).sum(-1) - torch.lgamma(concentration.sum(-1))
