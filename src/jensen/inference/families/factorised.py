"""Posteriors over continuous coordinates and discrete sites, independent of each other."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jensen.errors import ShapeError
from jensen.inference.families.family import Draws, Family, equal_weights
from jensen.inference.families.mixed import Mixed


class Categoricals(Family):
    r"""q(z) = prod_s Categorical(z_s; softmax(logits_s)), over states as whole numbers.

    Args:
        possible: Which states each site can take, (sites, states).
        logits: They start with these, (sites, states); None: all states are alike.

    Raises:
        ShapeError: If logits have another shape than ``possible``, or a site has no possible state.

    Example:
        >>> q = Categoricals(torch.tensor([[True, True, False], [True, True, True]]))
        >>> q(None).sample().shape, q(None).probs[0].tolist()
        (torch.Size([2]), [0.5, 0.5, 0.0])
    """

    possible: Tensor

    def __init__(
        self,
        possible: Bool[Tensor, "sites states"],
        logits: Float[Tensor, "sites states"] | None = None,
    ) -> None:
        super().__init__()
        start = (
            torch.zeros(possible.shape, dtype=torch.float64) if logits is None else logits.detach().double()
        )
        if start.shape != possible.shape or not bool(possible.any(1).all()):
            raise ShapeError(
                "logits and possible have the same shape (sites, states), and each site a possible state; got "
                f"{tuple(start.shape)} and {tuple(possible.shape)}"
            )
        self.register_buffer("possible", possible.clone())
        self.logits = nn.Parameter(torch.where(possible, start, 0.0))
        self.noise_dim = len(possible)

    @property
    def log_probs(self) -> Float[Tensor, "sites states"]:
        """Of the states, nats; -inf for impossible ones."""
        return torch.where(self.possible, self.logits, -torch.inf).log_softmax(-1)

    def forward(self, context: Tensor | None = None) -> Mixed:
        """The posterior."""
        return Mixed(None, self.log_probs)

    def draw(self, noise: Float[Tensor, "n sites"]) -> Draws:
        """States made of standard normals (n, sites), with their probabilities; they have no path to the logits."""
        q = self.forward(None)
        states = q.states_at(torch.special.ndtr(noise))
        return Draws(states, q.log_prob(states), equal_weights(states))

    def ruled_out(self, states: Bool[Tensor, "sites states"]) -> None:
        """Takes states away for good: their probability is zero."""
        self.possible &= ~states


class Factorised(Family):
    """q(u, z) = q(u) q(z): a posterior over coordinates, and categoricals beside it.

    Args:
        continuous: Over u, (dim,): a family whose draws weigh alike, or any module that gives a distribution for the
            context None. None where there is no u.
        sites: Over the states z.

    Example:
        >>> from jensen.inference.families import MeanField
        >>> q = Factorised(MeanField(2), Categoricals(torch.ones(3, 2) > 0))
        >>> q(None).mean.tolist()
        [0.0, 0.0, 0.5, 0.5, 0.5]
    """

    def __init__(self, continuous: nn.Module | None, sites: Categoricals) -> None:
        super().__init__()
        self.continuous, self.sites = continuous, sites
        self.noise_dim = sites.noise_dim + (continuous.noise_dim if isinstance(continuous, Family) else 0)

    def forward(self, context: Tensor | None = None) -> Mixed:
        """The posterior."""
        return Mixed(None if self.continuous is None else self.continuous(None), self.sites.log_probs)

    def draw(self, noise: Float[Tensor, "n noise"]) -> Draws:
        """Points made of standard normals (n, noise_dim), the last of them for the sites, with their densities."""
        inner, outer = noise.tensor_split((self.noise_dim - self.sites.noise_dim,), -1)
        states = self.sites.draw(outer)
        if self.continuous is None:
            return states
        if isinstance(self.continuous, Family):
            rest = self.continuous.draw(inner)
        else:
            q = self.continuous(None)
            points = q.sample(torch.Size([len(noise)]))
            rest = Draws(points, q.log_prob(points), equal_weights(points))
        return Draws(
            torch.cat([rest.points, states.points], 1), rest.log_prob + states.log_prob, rest.weights
        )
