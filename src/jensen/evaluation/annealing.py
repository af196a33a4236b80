"""Annealed importance sampling: from a density that can be drawn from to p(x, z), by Hamiltonian moves."""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from jensen.errors import ConfigError, ShapeError
from jensen.evaluation.estimate import log_mean
from jensen.evaluation.hmc import move, state_at
from jensen.evaluation.joint import Joint, can_be_enumerated, check_continuous, enumerated
from jensen.evaluation.memory import MEMORY, part, row_bytes
from jensen.flushing import flushed
from jensen.information import Estimate
from jensen.models import Model
from jensen.seeding import seeded

OnPart = Callable[[float], object]
"""Called with the share of the work that was done since the last call; the shares add up to one."""

CHAINS = 16
"""Chains for each datum where nobody says how many."""

_TUNING_LEVELS = 40
_WARM_UP = 15
_SLOPE = 4.0
_SMOOTHED = 5


@dataclass(frozen=True)
class Annealing:
    r"""How chains are led from their start s(z) to p(x, z), over the levels s^(1 - beta) p(x, z)^beta.

    Attributes:
        steps: Number of steps between levels; the estimate tightens as it grows.
        leaps: Leapfrog steps of one move.
        start: "posterior": the encoder's q(z|x), which is close to the goal, so that few steps lead far; it is
            the default. "prior": p(z), which also reaches modes that the encoder doesn't know, by a longer way.
        schedule: "sigmoid": steps are small near both ends, where densities change fastest. "linear": all alike.
        acceptance: The part of moves that step sizes are tuned to accept.
        tuning_chains: Chains for each datum of the preliminary pass that tunes them.

    Raises:
        ConfigError: If one of them can't be used.

    Example:
        >>> Annealing(steps=4, schedule="linear").levels().tolist()
        [0.0, 0.25, 0.5, 0.75, 1.0]
    """

    steps: int = 100
    leaps: int = 5
    start: str = "posterior"
    schedule: str = "sigmoid"
    acceptance: float = 0.7
    tuning_chains: int = 4

    def __post_init__(self) -> None:
        for name in ("steps", "leaps", "tuning_chains"):
            if getattr(self, name) < 1:
                raise ConfigError(f"annealing needs {name} of at least 1, got {getattr(self, name)}")
        for name, choices in (("start", ("posterior", "prior")), ("schedule", ("sigmoid", "linear"))):
            if getattr(self, name) not in choices:
                raise ConfigError(f"annealing's {name} is one of {choices}, got {getattr(self, name)!r}")
        if not 0 < self.acceptance < 1:
            raise ConfigError(f"annealing's acceptance lies between 0 and 1, got {self.acceptance:g}")

    def levels(self, steps: int | None = None) -> Float[Tensor, " levels"]:
        """Beta from 0 to 1, float64, so many steps."""
        at = torch.linspace(0, 1, (self.steps if steps is None else steps) + 1, dtype=torch.float64)
        if self.schedule == "linear":
            return at
        bent = torch.sigmoid(_SLOPE * (2 * at - 1))
        bent = (bent - bent[0]) / (bent[-1] - bent[0])
        # Both ends exactly: what doesn't reach 1 isn't p(x, z).
        bent[0], bent[-1] = 0.0, 1.0
        return bent


@dataclass(frozen=True)
class AnnealingPass:
    """What annealing gives for each datum.

    Attributes:
        lower: Estimate of log p(x); a lower bound in expectation.
        upper: The same by the way back from exact draws of the posterior, an upper bound in expectation; None
            where there were none.
        acceptance: The part of the moves that was accepted, (n,).
    """

    lower: Estimate
    upper: Estimate | None
    acceptance: Float[Tensor, " n"]


def annealing_pass(
    model: Model,
    x: Float[Tensor, "n *event"],
    chains: int = CHAINS,
    annealing: Annealing | None = None,
    *,
    latents: Float[Tensor, "n latent"] | None = None,
    context: Float[Tensor, "n *context"] | None = None,
    observed: Bool[Tensor, "n *event"] | None = None,
    seed: int | None = 0,
    memory: int = MEMORY,
    dtype: torch.dtype | None = None,
    on_part: OnPart | None = None,
) -> AnnealingPass:
    r"""Bounds log p(x) from below by annealing, and from above too where exact posterior draws are given.

    Forward, z_0 is drawn from s and moved by T_t, which leaves f_t = s^(1 - beta_t) p(x, .)^(beta_t) invariant:

    .. math::
        \log w = \sum_{t=1}^T (\beta_t - \beta_{t-1}) \log \frac{p(x, z_{t-1})}{s(z_{t-1})}, \qquad E[w] = p(x)

    Backward, z is an exact draw of p(z|x), moved by the same T_t in the other order; each is reversible, so that
    the reversed path has the density of the forward one times w / p(x), and E[1/w] = 1/p(x). By Jensen's
    inequality log of the average w lies below log p(x) in expectation, and minus log of the average 1/w above.

    Step sizes are tuned for each datum and level on a preliminary pass with chains of its own and then kept.
    Given the datum they don't depend on the chains that count, nor on the exact draw: each T_t is invariant, both
    statements hold exactly, however well or badly the tuning went.

    Args:
        model: With densities of its parts and one group of latents.
        x: Data in the model's dtype; cells that weren't observed may hold anything.
        chains: Chains K for each datum.
        annealing: How; None takes the defaults.
        latents: An exact draw of the posterior of each datum. All chains of a datum start there; a first move at
            level 1, where it is a draw of the posterior still, parts them.
        context: What the model is conditioned on.
        observed: True where a cell was observed.
        seed: Of the draws; None goes on with torch's generators.
        memory: Bytes of intermediate results at once.
        dtype: Computes in this precision on a copy of the model; None in the model's own. Weights are summed in
            float64 either way.
        on_part: Called with the share of the work done.

    Returns:
        The bounds; where the latents can be enumerated log p(x) itself, on both sides and without error.

    Raises:
        BoundError: If a density doesn't exist, or the latents are discrete, constrained, shared by all data, or
            drawn by the model itself.
        ConfigError: If chains is less than one, or the model can't change its precision.
        ShapeError: If there are no data.

    Source: Annealed importance sampling, 1998, https://arxiv.org/abs/physics/9803008; Sandwiching the marginal
    likelihood using bidirectional Monte Carlo, 2015, https://arxiv.org/abs/1511.02543.
    """
    annealing = Annealing() if annealing is None else annealing
    if chains < 1:
        raise ConfigError(f"annealing needs at least one chain for each datum, got samples={chains}")
    if len(x) == 0:
        raise ShapeError("there are no data to evaluate; got an array of length 0")
    if dtype is not None:
        model, cast = in_dtype(model, dtype)
        x, context = cast(x), None if context is None else cast(context)
        latents = None if latents is None else cast(latents)
    found: list[AnnealingPass] = []
    with seeded(seed), flushed(), torch.no_grad():
        one = slice(0, 1)
        first_posterior = model.encode(x[one], part(context, one), part(observed, one))
        if not can_be_enumerated(first_posterior):
            check_continuous(first_posterior)
        # Values and their gradients.
        rows = max(1, memory // (2 * row_bytes(model, x, context, observed)))
        at_once = max(1, rows // chains)
        for first in range(0, len(x), at_once):
            few = slice(first, first + at_once)
            some, c, o = x[few], part(context, few), part(observed, few)
            q = model.encode(some, c, o)
            share = len(some) / len(x)
            if can_be_enumerated(q):
                exact = enumerated(model, some, c, o, q, rows)
                upper = None if latents is None else exact
                found.append(AnnealingPass(exact, upper, torch.ones_like(exact.value)))
                if on_part is not None:
                    on_part(share)
                continue
            joint = Joint(model, some, c, o, q, annealing.start)
            found.append(_both_ways(joint, annealing, chains, part(latents, few), rows, share, on_part))
    return AnnealingPass(
        _joined([each.lower for each in found]),
        None if latents is None else _joined([each.upper for each in found if each.upper is not None]),
        torch.cat([each.acceptance for each in found]),
    )


def in_dtype(model: Model, dtype: torch.dtype) -> tuple[Model, Callable[[Tensor], Tensor]]:
    """A copy of the model in another precision, and what brings tensors there too.

    Raises:
        ConfigError: If the model is no module.
    """
    if not isinstance(model, nn.Module):
        raise ConfigError(
            f"a {type(model).__name__} is no torch module and keeps its precision; leave dtype out"
        )
    changed = copy.deepcopy(model).to(dtype)
    return changed, lambda values: values.to(dtype) if values.is_floating_point() else values


def _joined(parts: list[Estimate]) -> Estimate:
    return Estimate(
        torch.cat([part.value for part in parts]),
        torch.cat([part.standard_error for part in parts]),
        parts[0].samples,
    )


@dataclass(frozen=True)
class _Moves:
    """What the moves of some data are made with: a step size for each level, and a size for each latent."""

    annealing: Annealing
    steps: Tensor
    start_scale: Tensor
    goal_scale: Tensor

    def scale(self, beta: float) -> Tensor:
        """Of normals, precisions mix as the logarithms of densities do."""
        return ((1 - beta) / self.start_scale.square() + beta / self.goal_scale.square()).rsqrt()


def _both_ways(
    joint: Joint,
    annealing: Annealing,
    chains: int,
    latents: Tensor | None,
    rows: int,
    share: float,
    on_part: OnPart | None,
) -> AnnealingPass:
    """One chunk of data: tunes, then goes forward and, from exact draws, back."""
    ways = 1 if latents is None else 2
    tuning_levels = min(_TUNING_LEVELS, annealing.steps)
    work = annealing.tuning_chains * (_WARM_UP + tuning_levels) + ways * chains * annealing.steps

    def done(moved_chains: int) -> None:
        if on_part is not None:
            on_part(share * moved_chains / work)

    moves = _tuned(joint, annealing, tuning_levels, done)
    forward: list[Tensor] = []
    backward: list[Tensor] = []
    accepted: list[Tensor] = []
    at_once = max(1, rows // len(joint.x))
    for left in range(chains, 0, -at_once):
        some = min(at_once, left)
        log_weights, probability = _annealed(joint, moves, joint.draw(some), False, done)
        forward.append(log_weights)
        accepted.append(probability)
        if latents is not None:
            z = latents.expand(some, *latents.shape)
            log_weights, probability = _annealed(joint, moves, z, True, done)
            backward.append(log_weights)
            accepted.append(probability)
    upper = None
    if backward:
        inverse = log_mean(-torch.cat(backward))
        upper = Estimate(-inverse.value, inverse.standard_error, chains)
    return AnnealingPass(log_mean(torch.cat(forward)), upper, torch.cat(accepted).mean(0))


def _annealed(
    joint: Joint, moves: _Moves, z: Tensor, back: bool, done: Callable[[int], None]
) -> tuple[Tensor, Tensor]:
    """Leads chains over all levels: their log w, float64, and the part of moves accepted, (S, B) each."""
    betas = moves.annealing.levels().tolist()
    state = state_at(joint.densities, z)
    log_weights = torch.zeros_like(state.log_goal)
    accepted = torch.zeros_like(state.log_goal)
    order = range(len(betas) - 1, 0, -1) if back else range(1, len(betas))

    def moved(level: int) -> None:
        nonlocal state, accepted
        step, scale = moves.steps[level - 1], moves.scale(betas[level])
        state, probability = move(joint.densities, state, betas[level], step, scale, moves.annealing.leaps)
        accepted = accepted + probability

    if back:
        moved(len(betas) - 1)
    for t in order:
        log_weights = log_weights + (betas[t] - betas[t - 1]) * (state.log_goal - state.log_start)
        level = t - 1 if back else t
        if 0 < level < len(betas) - 1:
            moved(level)
        done(len(z))
    count = len(betas) - 2 + back
    return log_weights, accepted / count if count else torch.ones_like(accepted)


def _tuned(joint: Joint, annealing: Annealing, levels: int, done: Callable[[int], None]) -> _Moves:
    """A preliminary pass, whose chains are thrown away: the step size of each datum follows the acceptance."""
    start_scale, goal_scale = (scale.clamp(min=1e-6) for scale in joint.scales())
    betas = annealing.levels(levels).tolist()
    blank = torch.zeros(0, device=joint.x.device)
    moves = _Moves(annealing, blank, start_scale, goal_scale)
    log_step = torch.full(joint.x.shape[:1], -1.0, dtype=torch.float64, device=joint.x.device)
    state = state_at(joint.densities, joint.draw(annealing.tuning_chains))
    recorded: list[Tensor] = []
    # At the first level the size is found, then it is followed.
    for count, beta in enumerate([betas[1]] * _WARM_UP + betas[1:]):
        state, probability = move(
            joint.densities, state, beta, log_step.exp(), moves.scale(beta), annealing.leaps
        )
        gain = 1.0 if count < _WARM_UP else 0.4
        log_step = log_step + gain * (probability.mean(0) - annealing.acceptance)
        if count >= _WARM_UP:
            recorded.append(log_step)
        done(annealing.tuning_chains)
    # Few chains make the path rough: smoothed, then brought to as many levels as there will be.
    path = torch.stack(recorded).mT[:, None]
    path = nn.functional.pad(path, (_SMOOTHED // 2, _SMOOTHED // 2), mode="replicate")
    path = nn.functional.avg_pool1d(path, _SMOOTHED, stride=1)
    path = nn.functional.interpolate(path, size=annealing.steps, mode="linear", align_corners=True)
    return _Moves(annealing, path[:, 0].mT.exp(), start_scale, goal_scale)
