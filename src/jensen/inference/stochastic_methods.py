"""Methods of ``fit`` that climb the bound by stochastic gradients."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.distributions import Distribution

from jensen.errors import ConfigError, ShapeError, unknown
from jensen.inference.automatic import around
from jensen.inference.families import Family, Flow, FullRank, LowRank, MeanField, Mixture
from jensen.inference.found import Found
from jensen.inference.minibatches import check_batch, minibatch_modes, rows_in
from jensen.inference.pathwise import pathwise
from jensen.inference.score import Score
from jensen.inference.start import Mode, left_out, others
from jensen.inference.stochastic import Ascending, Estimator, stochastic
from jensen.inference.target import Target

Starts = Float[Tensor, "starts dim"]

GRADIENTS = ("pathwise", "score")
"""Stochastic gradients of the bound."""

FRAME_ROWS = 10_000
"""Rows of the subsample, and of each part of a pass, that place the first posterior of a minibatch fit."""

SAMPLES = {"flow": 128, "mixture": 64}
"""Draws of a step for families with more to learn than a normal; 16 for the others."""

FLOW_STEPS = 3000
"""Of a flow, unless the user says otherwise."""


def _mixture(modes: list[Mode], components: int, seed: int | None) -> Mixture:
    scales = [mode.scale_tril if mode.scale_tril.ndim == 2 else mode.scale_tril.diag() for mode in modes]
    if len(modes) == 1:
        return Mixture.around(modes[0].point, scales[0], components, seed)
    # Every mode gets a component; those that are left over go to the heaviest.
    owners = list(range(len(modes))) + [0] * max(0, components - len(modes))
    spread = Mixture.around(modes[0].point, scales[0], len(owners), seed).locations
    locations = torch.stack(
        [modes[k].point if index < len(modes) else spread[index] for index, k in enumerate(owners)]
    )
    masses = torch.tensor([modes[k].log_mass for k in owners], dtype=torch.float64).log_softmax(0)
    return Mixture(locations, torch.stack([scales[k] for k in owners]), masses.clamp(min=-3.0))


FAMILIES: dict[str, Callable[..., Family]] = {
    "mean-field": lambda modes, **_: MeanField.around(modes[0].point, modes[0].independent_scale),
    "full-rank": lambda modes, **_: FullRank.around(modes[0].point, modes[0].scale_tril),
    "low-rank": lambda modes, rank, seed, **_: LowRank.around(
        modes[0].point, modes[0].independent_scale, rank, seed
    ),
    "mixture": lambda modes, components, seed, **_: _mixture(modes, components, seed),
    "flow": lambda modes, layers, hidden, seed, **_: Flow.around(
        modes[0].point, modes[0].scale_tril, layers, hidden, seed
    ),
}
"""Families that are fitted by stochastic gradients, by name, from the modes."""


def climbed(
    target: Target,
    starts: Starts,
    *,
    family: str | nn.Module,
    gradient: str = "pathwise",
    samples: int | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    tolerance: float = 5e-4,
    batch_size: int | None = None,
    rank: int = 2,
    components: int = 4,
    layers: int = 4,
    hidden: int = 16,
    seed: int | None = 0,
) -> Found:
    """Fits a family, or a user's own posterior, by stochastic gradients.

    Args:
        target: The log-joint; it need not be differentiable for ``gradient="score"``.
        starts: Where modes are looked for, (starts, dim).
        family: A name in ``FAMILIES``, or a module that gives a distribution over (dim,) for the context None; it
            starts where it is.
        gradient: "pathwise" or "score".
        samples: Draws of a step.
        steps: At most so many.
        step_size: Of the first stage.
        tolerance: Nats for each dimension.
        batch_size: Rows of a minibatch; None takes all data at every step.
        rank: Of the low-rank family.
        components: Of the mixture.
        layers: Of the flow.
        hidden: Of the flow.
        seed: Of all randomness.

    Raises:
        ConfigError: If the gradient or the family is unknown.
    """
    if gradient not in GRADIENTS:
        raise ConfigError(unknown("gradient", gradient, ("fixed", *GRADIENTS)))
    estimator: Estimator = pathwise if gradient == "pathwise" else Score()
    notes: list[str] = []
    modes: list[Mode] = []
    name = family if isinstance(family, str) else ""
    if isinstance(family, str):
        modes, notes = _places(target, starts, gradient, batch_size, seed)
        make = FAMILIES.get(family)
        if make is None:
            raise ConfigError(unknown("family for stochastic gradients", family, FAMILIES))
        shape: dict[str, Any] = {"rank": rank, "components": components, "layers": layers, "hidden": hidden}
        posterior: nn.Module = make(modes, seed=seed, **shape)
    else:
        posterior = checked(family, target.dim)
    how = Ascending(
        samples or SAMPLES.get(name, 16),
        step_size,
        steps or (FLOW_STEPS if name == "flow" else 20_000),
        tolerance,
    )
    found = stochastic(
        target, posterior, estimator=estimator, batch_size=batch_size, ascending=how, seed=seed
    )
    if not found.converged:
        notes.append(f"the stochastic ascent hasn't converged: {found.reason}")
    if found.finite < 1:
        notes.append(f"{1 - found.finite:.2%} of the draws had no finite log-joint and were left out")
    missed = 0.0
    if modes and name != "mixture":
        notes += others(modes)
        missed = left_out(modes)
    found.posterior.requires_grad_(False)
    # Of a start without a gradient it isn't known whether it is a mode.
    known = () if gradient == "score" else tuple(modes)
    return Found(found.posterior(None), None, tuple(found.history.tolist()), tuple(notes), known, missed)


def checked(posterior: nn.Module, dim: int) -> nn.Module:
    """A user's own posterior, looked at once.

    Raises:
        ConfigError: If it doesn't give a distribution.
        ShapeError: If that isn't over vectors (dim,).
    """
    try:
        found = posterior(None)
    except Exception as error:
        raise ConfigError(
            f"a posterior of one's own is called with None and gives a distribution; "
            f"{type(posterior).__name__} failed: {error}"
        ) from error
    if not isinstance(found, Distribution):
        raise ConfigError(
            f"a posterior of one's own gives a distribution when it is called with None, got {type(found).__name__}"
        )
    event = tuple(found.event_shape)
    if event != (dim,) or tuple(found.batch_shape):
        raise ShapeError(
            f"the posterior of the continuous parameters is over {dim} coordinates, got event shape {event} and batch "
            f"shape {tuple(found.batch_shape)}; discrete ones get categoricals of their own. Independent(q, 1) makes "
            "a vector of a batch"
        )
    return posterior


def _places(
    target: Target, starts: Starts, gradient: str, batch_size: int | None, seed: int | None
) -> tuple[list[Mode], list[str]]:
    """Modes; for minibatches the one that few passes find; without gradients the starts themselves."""
    if gradient == "score":
        values = target.plain_log_prob(starts)
        return [Mode(starts[int(values.argmax())], torch.ones_like(starts[0]), 0.0, definite=False)], []
    if batch_size is None:
        modes, notes = around(target, starts, 64, seed)
        return modes, notes
    check_batch(target, batch_size)
    modes = minibatch_modes(target, min(max(batch_size, FRAME_ROWS), rows_in(target)), starts, seed)
    return modes, []


def flow(
    target: Target,
    starts: Starts,
    *,
    layers: int = 4,
    hidden: int = 16,
    samples: int | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    tolerance: float = 5e-4,
    seed: int | None = 0,
) -> Found:
    """A normal bent by a normalising flow, by path-wise gradients, from the heaviest mode.

    Args:
        target: A differentiable one.
        starts: (starts, dim).
        layers: Couplings.
        hidden: Units of their networks.
        samples: Draws of a step; None takes 128.
        steps: At most so many; None takes 3,000.
        step_size: Of the first stage.
        tolerance: Nats for each dimension.
        seed: Of all randomness.
    """
    return climbed(
        target, starts, family="flow", layers=layers, hidden=hidden, samples=samples, steps=steps,
        step_size=step_size, tolerance=tolerance, seed=seed,
    )  # fmt: skip


def mixture(
    target: Target,
    starts: Starts,
    *,
    components: int = 4,
    samples: int | None = None,
    steps: int | None = None,
    step_size: float | None = None,
    tolerance: float = 5e-4,
    seed: int | None = 0,
) -> Found:
    """A mixture of normals with full covariances, by path-wise gradients, a component at every mode that is found.

    Args:
        target: A differentiable one.
        starts: (starts, dim).
        components: At least so many.
        samples: Draws of a step; None takes 64.
        steps: At most so many.
        step_size: Of the first stage.
        tolerance: Nats for each dimension.
        seed: Of all randomness.
    """
    return climbed(
        target, starts, family="mixture", components=components, samples=samples, steps=steps,
        step_size=step_size, tolerance=tolerance, seed=seed,
    )  # fmt: skip
