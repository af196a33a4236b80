"""The best posterior of a family for each datum by itself, found by optimisation from where the encoder is."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal

from jensen.bounds import Draw, elbo
from jensen.distributions import CoupledNormal, DiagonalNormal, diagonal_normal
from jensen.errors import BoundError, ConfigError, ShapeError
from jensen.evaluation.annealing import OnPart
from jensen.evaluation.joint import check_continuous
from jensen.evaluation.memory import MEMORY, part, row_bytes
from jensen.models import Model
from jensen.registry import Registry
from jensen.seeding import seeded

_MOMENT_DRAWS = 256
_LAYERS, _HIDDEN = 4, 16
_AVERAGED = 0.25
"""The last part of the steps, over which parameters are averaged."""
_SOUND = 1e-2
"""The greatest error of a flow's noise that went to its draw and back, in standard deviations."""


@dataclass(frozen=True)
class Refinement:
    """How posteriors are refined: Adam, its step size falling to zero in the second half.

    Attributes:
        steps: Gradient steps.
        samples: Draws for each datum and step.
        learning_rate: The step size, in units of the posterior that it starts from.

    Raises:
        ConfigError: If one isn't above zero.
    """

    steps: int = 300
    samples: int = 8
    learning_rate: float = 0.03

    def __post_init__(self) -> None:
        if min(self.steps, self.samples, self.learning_rate) <= 0:
            raise ConfigError(f"a refinement needs numbers above 0, got {self}")


Parameters = dict[str, Tensor]


@dataclass(frozen=True)
class _Family:
    """A family of posteriors, each given by a centre and a factor (B, D, D) to start from, and own parameters.

    Attributes:
        start: Parameters, for so many data and latents, with which it is the normal that it starts from.
        build: The distribution.
    """

    start: Callable[[int, int], Parameters]
    build: Callable[[Parameters, Tensor, Tensor], Distribution]


def _normal_start(n: int, dim: int) -> Parameters:
    return {"shift": torch.zeros(n, dim), "log_stretch": torch.zeros(n, dim)}


def _normal(p: Parameters, centre: Tensor, factor: Tensor) -> Distribution:
    scale = factor.diagonal(dim1=-2, dim2=-1)
    loc = centre + scale * p["shift"]
    return DiagonalNormal(loc, scale.log() + p["log_stretch"])


def _full_start(n: int, dim: int) -> Parameters:
    return {**_normal_start(n, dim), "below": torch.zeros(n, dim, dim)}


def _factor(p: Parameters, factor: Tensor) -> Tensor:
    return factor @ (torch.diag_embed(p["log_stretch"].exp()) + p["below"].tril(-1))


def _full(p: Parameters, centre: Tensor, factor: Tensor) -> Distribution:
    loc = centre + (factor @ p["shift"][..., None])[..., 0]
    return MultivariateNormal(loc, scale_tril=_factor(p, factor), validate_args=False)


def _flow_start(n: int, dim: int) -> Parameters:
    return {
        **_full_start(n, dim),
        "log_tail": torch.zeros(n, dim),
        "skew": torch.zeros(n, dim),
        "weight_in": torch.randn(n, _LAYERS, _HIDDEN, dim) / dim**0.5,
        "bias_in": torch.zeros(n, _LAYERS, _HIDDEN),
        "weight_out": torch.zeros(n, _LAYERS, 2 * dim, _HIDDEN),
        "bias_out": torch.zeros(n, _LAYERS, 2 * dim),
    }


def _flow(p: Parameters, centre: Tensor, factor: Tensor) -> Distribution:
    loc = centre + (factor @ p["shift"][..., None])[..., 0]
    networks = {name: p[name] for name in ("weight_in", "bias_in", "weight_out", "bias_out")}
    # Bounded, so that the way back from a draw to its noise stays accurate.
    return CoupledNormal(loc, _factor(p, factor), p["log_tail"].tanh(), p["skew"].tanh(), **networks)


FAMILIES: Registry[_Family] = Registry(
    "family of posteriors",
    {
        "normal": _Family(_normal_start, _normal),
        "full-normal": _Family(_full_start, _full),
        "flow": _Family(_flow_start, _flow),
    },
)
"""Normals with independent latents, normals, and normals bent by couplings; each contains those before it."""


def family_of(q: Distribution) -> str | None:
    """The name of the family that a posterior belongs to; None if it is none of ours."""
    if diagonal_normal(q) is not None:
        return "normal"
    return "full-normal" if isinstance(q, MultivariateNormal) else None


def refine(
    model: Model,
    x: Float[Tensor, "n *event"],
    family: str = "normal",
    refinement: Refinement | None = None,
    *,
    start: Distribution | None = None,
    context: Float[Tensor, "n *context"] | None = None,
    observed: Bool[Tensor, "n *event"] | None = None,
    seed: int | None = 0,
    memory: int = MEMORY,
    on_part: OnPart | None = None,
) -> Distribution:
    """Maximises the ELBO of each datum over posteriors of its own; the model stays as it is.

    All data are refined at once, each with parameters of its own, by path-wise gradients that stick the landing,
    which have no variance where the posterior is exact. The parameters returned are an average over the last steps.

    Args:
        model: With densities of prior and likelihood.
        x: Data in the model's dtype; cells that weren't observed may hold anything.
        family: "normal" (independent latents), "full-normal", or "flow".
        refinement: How; None takes the defaults.
        start: The posteriors to start from, of batch shape (n,); None takes the encoder's. Of another family than
            normals their means and standard deviations are taken.
        context: What the model is conditioned on.
        observed: True where a cell was observed.
        seed: Of the draws; None goes on with torch's generators.
        memory: Bytes of intermediate results at once.
        on_part: Called with the share of the work done.

    Returns:
        Posteriors of batch shape (n,).

    Raises:
        BoundError: If the latents are discrete or constrained, or a density doesn't exist.
        ConfigError: If the family doesn't exist.
        ShapeError: If there are no data.

    Source: Inference suboptimality in variational autoencoders, 2018, https://arxiv.org/abs/1801.03558; Sticking the
    landing, 2017, https://arxiv.org/abs/1703.09194.
    """
    members, refinement = FAMILIES[family], Refinement() if refinement is None else refinement
    if len(x) == 0:
        raise ShapeError("there are no data to refine posteriors of; got an array of length 0")
    found: list[Parameters] = []
    with seeded(seed):
        with torch.no_grad():
            q = model.encode(x, context, observed) if start is None else start
            check_continuous(q)
            centre, factor = _moments(q)
            rows = max(1, memory // (2 * row_bytes(model, x, context, observed)))
        at_once = max(1, rows // refinement.samples)
        for first in range(0, len(x), at_once):
            few = slice(first, first + at_once)
            found.append(
                _optimised(
                    model,
                    (x[few], part(context, few), part(observed, few)),
                    members,
                    refinement,
                    centre[few],
                    factor[few],
                    None if on_part is None else _shared(on_part, len(x[few]) / len(x)),
                )
            )
    return members.build(
        {name: torch.cat([each[name] for each in found]) for name in found[0]}, centre, factor
    )


def _shared(on_part: OnPart, share: float) -> OnPart:
    return lambda done: on_part(share * done)


def _moments(q: Distribution) -> tuple[Tensor, Tensor]:
    """Centre (B, D) and lower triangular factor (B, D, D) to start from."""
    known = family_of(q)
    if known == "full-normal":
        assert isinstance(q, MultivariateNormal)
        return q.loc, q.scale_tril
    if known == "normal":
        return q.mean, torch.diag_embed(q.stddev)
    draws = q.sample(torch.Size((_MOMENT_DRAWS,)))
    return draws.mean(0), torch.diag_embed(draws.std(0).clamp(min=1e-6))


def _optimised(
    model: Model,
    batch: tuple[Tensor, Tensor | None, Tensor | None],
    family: _Family,
    refinement: Refinement,
    centre: Tensor,
    factor: Tensor,
    on_part: OnPart | None,
) -> Parameters:
    """The parameters of some data's posteriors."""
    start = family.start(*centre.shape)
    parameters = {name: value.to(centre).requires_grad_(True) for name, value in start.items()}
    leaves = list(parameters.values())
    adam = torch.optim.Adam(leaves, lr=refinement.learning_rate)
    draw = Draw(score=False, closed_form=False)
    first_averaged = refinement.steps - max(1, round(_AVERAGED * refinement.steps))
    totals = [torch.zeros_like(leaf) for leaf in leaves]
    x, context, observed = batch
    for step in range(refinement.steps):
        falling = min(1.0, 2 * (1 - step / refinement.steps))
        adam.param_groups[0]["lr"] = refinement.learning_rate * falling
        with torch.enable_grad():
            q = family.build(parameters, centre, factor)
            terms = model.terms(x, context, observed, refinement.samples, draw=draw, encoded=q)
            if terms.shared or not terms.log_likelihood.requires_grad:
                raise _not_own(model)
            negative_elbo = -elbo(terms).sum()
        # Only the posteriors' own gradients: the model's parameters are left alone.
        gradients = cast(
            "tuple[Tensor | None, ...]", torch.autograd.grad(negative_elbo, leaves, allow_unused=True)
        )
        if all(gradient is None for gradient in gradients):
            raise _not_own(model)
        for leaf, gradient in zip(leaves, gradients, strict=True):
            leaf.grad = torch.zeros_like(leaf) if gradient is None else gradient.nan_to_num(0.0, 0.0, 0.0)
        adam.step()
        if step >= first_averaged:
            for total, leaf in zip(totals, leaves, strict=True):
                total += leaf.detach()
        if on_part is not None:
            on_part(1 / refinement.steps)
    count = refinement.steps - first_averaged
    averaged = {name: total / count for name, total in zip(parameters, totals, strict=True)}
    refined = family.build(averaged, centre, factor)
    if isinstance(refined, CoupledNormal):
        # A flow that rounding has spoilt would claim any bound: such data keep what they started from.
        sound = refined.round_trip_error() < _SOUND
        averaged = {
            name: torch.where(sound.reshape(-1, *[1] * (value.ndim - 1)), value, start[name].to(value))
            for name, value in averaged.items()
        }
    return averaged


def _not_own(model: Model) -> BoundError:
    return BoundError(
        f"refinement needs latents of each datum's own that the model draws from the posterior it is handed; "
        f"{type(model).__name__} shares them between data or draws them itself"
    )
