"""Mixtures of normals, for posteriors with several modes."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Categorical, MixtureSameFamily, MultivariateNormal

from jensen.errors import ConfigError, ShapeError
from jensen.inference.families.family import Draws, Family
from jensen.inference.families.full_rank import triangle
from jensen.seeding import seeded


class Mixture(Family):
    r"""q(u) = sum_k w_k N(u; location_k + S_k m_k, S_k T_k T_k^T S_k^T).

    Expectations are taken component by component, sum_k w_k E_k, so that the weights get an exact gradient and
    a draw needs no choice among components.

    Args:
        locations: Where the components start, (K, dim).
        scale_trils: S_k, lower triangles, (K, dim, dim).
        log_weights: They start with these, up to a constant, (K,); None: all alike.

    Raises:
        ConfigError: If there is no component.
        ShapeError: If shapes don't agree.

    Example:
        >>> q = Mixture(torch.tensor([[-2.0], [2.0]]), torch.ones(2, 1, 1))
        >>> q(None).mean
        tensor([0.], dtype=torch.float64, grad_fn=<SumBackward1>)
    """

    locations: Tensor
    scale_trils: Tensor

    def __init__(
        self,
        locations: Float[Tensor, "k dim"],
        scale_trils: Tensor,
        log_weights: Float[Tensor, " k"] | None = None,
    ) -> None:
        super().__init__()
        components, dim = locations.shape
        if components < 1:
            raise ConfigError("a mixture needs at least one component")
        if tuple(scale_trils.shape) != (components, dim, dim):
            raise ShapeError(
                f"scale_trils have shape {(components, dim, dim)}, got {tuple(scale_trils.shape)}"
            )
        self.noise_dim = dim
        self.register_buffer("locations", locations.detach().double())
        self.register_buffer("scale_trils", scale_trils.detach().double())
        start = self.locations.new_zeros(components) if log_weights is None else log_weights.detach().double()
        self.logits = nn.Parameter(start.clone())
        self.loc = nn.Parameter(torch.zeros_like(self.locations))
        self.log_diagonal = nn.Parameter(torch.zeros_like(self.locations))
        self.below = nn.Parameter(self.locations.new_zeros(components, dim * (dim - 1) // 2))

    @classmethod
    def around(
        cls,
        location: Float[Tensor, " dim"],
        scale_tril: Float[Tensor, "dim dim"],
        components: int = 4,
        seed: int | None = 0,
    ) -> "Mixture":
        """One whose components start spread within N(location, scale_tril scale_tril^T), each with that covariance.

        Args:
            location: (dim,).
            scale_tril: Lower triangle (dim, dim).
            components: K.
            seed: Of where they start.

        Raises:
            ConfigError: If there is no component.
        """
        if components < 1:
            raise ConfigError(f"a mixture needs at least one component, got {components}")
        with seeded(seed):
            spread = torch.randn(components, len(location), dtype=torch.float64)
        scale = scale_tril.double()
        locations = location.double() + (spread - spread.mean(0)) @ scale.T
        return cls(locations, scale.expand(components, -1, -1))

    @property
    def components(self) -> int:
        """How many there are."""
        return len(self.logits)

    def _normals(self) -> tuple[Tensor, Tensor]:
        """Locations (K, dim) and lower triangles (K, dim, dim) in the target's coordinates."""
        loc = self.locations + (self.scale_trils @ self.loc[..., None])[..., 0]
        return loc, self.scale_trils @ triangle(self.log_diagonal, self.below)

    def forward(self, context: Tensor | None = None) -> MixtureSameFamily:
        """The mixture."""
        loc, scale_tril = self._normals()
        return MixtureSameFamily(
            Categorical(logits=self.logits, validate_args=False),
            MultivariateNormal(loc, scale_tril=scale_tril, validate_args=False),
            validate_args=False,
        )

    def draw(self, noise: Float[Tensor, "n dim"]) -> Draws:
        """Points made of standard normals (n, dim), which the components get in turn.

        Raises:
            ConfigError: If there are fewer than components.
        """
        if len(noise) < self.components:
            raise ConfigError(
                f"a mixture of {self.components} components needs a draw of each, got {len(noise)}; take more draws"
            )
        owner = torch.arange(len(noise)) % self.components
        loc, scale_tril = self._normals()
        # index_select has the same backward pass from run to run, whatever the number of threads.
        chosen = scale_tril.index_select(0, owner)
        points = loc.index_select(0, owner) + (chosen @ noise[..., None])[..., 0]
        counts = torch.bincount(owner, minlength=self.components)
        weights = (torch.softmax(self.logits, 0) / counts).index_select(0, owner)
        return Draws(points, self.log_prob(points), weights)
