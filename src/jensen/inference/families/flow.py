"""Normals bent by a normalising flow."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution, Transform, constraints

from jensen.errors import ConfigError
from jensen.inference.families.family import Draws, Family, equal_weights, log_normal
from jensen.inference.families.frame import Frame, Framed
from jensen.inference.families.full_rank import triangle
from jensen.seeding import seeded


class Flow(Family):
    r"""q(u) of u = location + S (m + T c(a(e))) with e ~ N(0, I): bent, then coupled, then an affine map.

    The map a bends each dimension by itself, a(e) = sinh(t asinh(e) + k), which makes tails heavier or lighter and
    leans them to one side; c is a chain of affine couplings, whose scales and shifts depend on the other dimensions
    through networks of one hidden layer; T is lower triangular. All are smooth, so that few draws determine them, and
    all start as the identity: the flow starts at N(location, S S^T).

    Args:
        frame: Location and S; a number stands for that many plain coordinates.
        layers: Couplings, each of which moves half of the dimensions.
        hidden: Units of their networks.
        seed: Of the networks' first weights.

    Raises:
        ConfigError: If layers or hidden units are below one.

    Source: Density estimation using Real NVP, 2016, https://arxiv.org/abs/1605.08803; Sinh-arcsinh distributions,
    2009, https://doi.org/10.1093/biomet/asp053.

    Example:
        >>> q = Flow(3)
        >>> q(None).rsample().shape, q.noise_dim
        (torch.Size([3]), 3)
    """

    step_size = 0.01

    def __init__(self, frame: Frame | int, layers: int = 4, hidden: int = 16, seed: int | None = 0) -> None:
        super().__init__()
        if layers < 1 or hidden < 1:
            raise ConfigError(f"a flow needs layers and hidden units, got {layers} and {hidden}")
        self.frame = Frame.standard(frame) if isinstance(frame, int) else frame
        dim = self.noise_dim = self.frame.dim
        zeros = torch.zeros_like(self.frame.location)
        self.loc, self.log_diagonal = nn.Parameter(zeros.clone()), nn.Parameter(zeros.clone())
        self.below = nn.Parameter(zeros.new_zeros(dim * (dim - 1) // 2))
        self.log_tail, self.skew = nn.Parameter(zeros.clone()), nn.Parameter(zeros.clone())
        with seeded(seed):
            self.couplings = nn.ModuleList(_couplings(dim, layers, hidden))

    @classmethod
    def around(
        cls,
        location: Float[Tensor, " dim"],
        scale_tril: Tensor,
        layers: int = 4,
        hidden: int = 16,
        seed: int | None = 0,
    ) -> "Flow":
        """One that starts at N(location, scale_tril scale_tril^T).

        Args:
            location: (dim,).
            scale_tril: Lower triangle (dim, dim), or a diagonal (dim,).
            layers: Couplings.
            hidden: Units of their networks.
            seed: Of the networks' first weights.
        """
        return cls(Frame(location, scale_tril), layers, hidden, seed)

    def _inner(self) -> Distribution:
        from zuko.distributions import DiagNormal, NormalizingFlow
        from zuko.transforms import ComposedTransform

        base = DiagNormal(torch.zeros_like(self.loc), torch.ones_like(self.loc))
        way = [
            _Bend(self.log_tail.tanh(), self.skew),
            *(coupling() for coupling in self.couplings),
            _Affine(self.loc, triangle(self.log_diagonal, self.below)),
        ]
        # In zuko a flow's transform goes from points to noise.
        return NormalizingFlow(ComposedTransform(*way).inv, base)

    def forward(self, context: Tensor | None = None) -> Distribution:
        """The distribution; exact in both directions."""
        return Framed(self._inner(), self.frame)

    def transform(self, noise: Float[Tensor, "n dim"]) -> Float[Tensor, "n dim"]:
        """Points made of standard normals."""
        return self.draw(noise).points

    def draw(self, noise: Float[Tensor, "n dim"]) -> Draws:
        """Points made of standard normals (n, dim), with their densities."""
        inner: Any = self._inner()
        z, stretch = inner.transform.inv.call_and_ladj(noise)
        points = self.frame(z)
        return Draws(points, log_normal(noise) - stretch - self.frame.log_det, equal_weights(points))


def _couplings(dim: int, layers: int, hidden: int) -> list[nn.Module]:
    """Lazy couplings that start as the identity; none for a single dimension."""
    from zuko.flows.coupling import GeneralCouplingTransform

    if dim < 2:
        return []
    made: list[nn.Module] = []
    for layer in range(layers):
        mask: Any = torch.arange(dim) % 2 == layer % 2
        coupling: Any = GeneralCouplingTransform(
            dim,
            mask=mask,
            univariate=_Gentle,
            shapes=(torch.Size(), torch.Size()),
            hidden_features=(hidden,),
            activation=nn.Tanh,
        ).double()
        nn.init.zeros_(coupling.hyper[-1].weight)
        nn.init.zeros_(coupling.hyper[-1].bias)
        made.append(coupling)
    return made


class _Smooth(Transform):
    bijective = True

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The image and the log-determinant, as zuko asks for them."""
        y = self._call(x)
        return y, self.log_abs_det_jacobian(x, y)


class _Gentle(_Smooth):
    """y = exp(a) x + b, where |a| stays below two: no network can make a draw's density unbounded."""

    domain = constraints.real
    codomain = constraints.real

    def __init__(self, shift: Tensor, log_scale: Tensor) -> None:
        super().__init__()
        self.shift, self.log_scale = shift, 2 * torch.tanh(log_scale / 2)

    def _call(self, x: Tensor) -> Tensor:
        return x * self.log_scale.exp() + self.shift

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.shift) * (-self.log_scale).exp()

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.log_scale.expand(x.shape)


class _Bend(_Smooth):
    """y = sinh(exp(a) asinh(x) + k), dimension by dimension."""

    domain = constraints.real_vector
    codomain = constraints.real_vector

    def __init__(self, log_tail: Tensor, skew: Tensor) -> None:
        super().__init__()
        self.log_tail, self.skew = log_tail, skew

    def _call(self, x: Tensor) -> Tensor:
        return torch.sinh(self.log_tail.exp() * torch.asinh(x) + self.skew)

    def _inverse(self, y: Tensor) -> Tensor:
        return torch.sinh((torch.asinh(y) - self.skew) * (-self.log_tail).exp())

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        # dy/dx = cosh(asinh y) exp(a) / sqrt(1 + x^2), and cosh(asinh y) = sqrt(1 + y^2).
        slope = 0.5 * (torch.log1p(y.square()) - torch.log1p(x.square())) + self.log_tail
        return slope.sum(-1)


class _Affine(_Smooth):
    """y = T x + m with T lower triangular."""

    domain = constraints.real_vector
    codomain = constraints.real_vector

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__()
        self.loc, self.scale_tril = loc, scale_tril

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + x @ self.scale_tril.T

    def _inverse(self, y: Tensor) -> Tensor:
        centred = (y - self.loc).reshape(-1, len(self.loc))
        return torch.linalg.solve_triangular(self.scale_tril, centred.T, upper=False).T.reshape(y.shape)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return self.scale_tril.diagonal().log().sum().expand(x.shape[:-1])
