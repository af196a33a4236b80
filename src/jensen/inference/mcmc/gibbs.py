"""Gibbs sampling by the user's conditionals or by enumeration, else Metropolis, all chains in one batch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError, DataError, ShapeError, unknown
from jensen.inference.mcmc.draws import Draws
from jensen.inference.mcmc.metropolis import best_acceptance, starting, step
from jensen.inference.mcmc.options import check_counts
from jensen.inference.mcmc.watching import OnDraws, Watch
from jensen.inference.target import Target
from jensen.seeding import seeded

Conditional = Callable[[dict[str, Tensor]], Tensor]
"""From the parameters of all chains, each (chains, *shape), to a draw of one given the others, (chains, *shape)."""


@dataclass(frozen=True)
class Walk:
    """The random walk of one block.

    Attributes:
        where: Its coordinates.
        widths: Of its steps in each coordinate, (size,).
        scale: What they are multiplied by.
    """

    where: slice
    widths: Tensor
    scale: float


class Chains:
    """Where the chains are, in unconstrained coordinates or by the parameters' values, whichever was set last.

    Args:
        target: Of the chains.
        points: Unconstrained, (chains, dim).
    """

    def __init__(self, target: Target, points: Float[Tensor, "chains dim"]) -> None:
        self.target = target
        self.number = len(points)
        self._points: Tensor | None = points
        self._values: dict[str, Tensor] | None = None
        self._value: Tensor | None = None

    @property
    def points(self) -> Tensor:
        """Unconstrained coordinates, (chains, dim)."""
        if self._points is None:
            self._points = self.target.unconstrain(self.values)
        return self._points

    @property
    def values(self) -> dict[str, Tensor]:
        """Of each parameter (chains, *shape)."""
        if self._values is None:
            self._values = {} if self._points is None else self.target.constrain(self._points)
        return self._values

    def draw(self, name: str, conditional: Conditional) -> None:
        """Draws one block given the others.

        Raises:
            ShapeError: If the conditional gives another shape than the block's.
            DataError: If it gives numbers that are not finite.
        """
        values = self.values
        wanted = tuple(values[name].shape)
        drawn: Any = conditional(dict(values))
        if not isinstance(drawn, Tensor) or tuple(drawn.shape) != wanted:
            got = tuple(drawn.shape) if isinstance(drawn, Tensor) else type(drawn).__name__
            raise ShapeError(
                f"the conditional of '{name}' returned {got}, wanted {wanted}: it gets the parameters of all "
                f"{self.number} chains at once, each with the chains first, and returns its own likewise"
            )
        if not bool(drawn.isfinite().all()):
            raise DataError(f"the conditional of '{name}' drew numbers that are not finite")
        if not values[name].is_floating_point() and bool((drawn != drawn.round()).any()):
            raise DataError(f"the conditional of '{name}' drew numbers that are not whole")
        self._values = {**values, name: drawn.to(values[name].dtype)}
        self._points = self._value = None

    def flip(self, where: slice) -> None:
        """Draws sites one after the other from their probabilities given all else: every state is looked at."""
        sites = self.target.sites
        assert sites is not None
        points = self.points.clone()
        if self._value is None:
            self._value = self.target.plain_log_prob(points)
        value, rows = self._value, torch.arange(len(points))
        for column in range(where.start, where.stop):
            count = int(sites.states[column - self.target.continuous])
            if count == 1:
                continue
            # The state that a chain is in comes first: its log-density is known.
            states = (points[:, column] + torch.arange(count, dtype=points.dtype)[:, None]) % count
            others = points.repeat(count - 1, 1)
            others[:, column] = states[1:].flatten()
            found = self.target.plain_log_prob(others).reshape(count - 1, -1)
            logits = torch.cat([value[None], found]).nan_to_num(nan=-torch.inf, posinf=-torch.inf)
            chosen = torch.multinomial(logits.softmax(0).T, 1)[:, 0]
            points[:, column], value = states[chosen, rows], logits[chosen, rows]
        self._points, self._value, self._values = points, value, None

    def walk(self, walk: Walk) -> Tensor:
        """A random-walk step of one block; the probabilities of acceptance, (chains,)."""
        points = self.points
        if self._value is None:
            self._value = self.target.plain_log_prob(points)
        move = torch.zeros_like(points)
        move[:, walk.where] = walk.scale * walk.widths * torch.randn_like(points[:, walk.where])
        self._points, self._value, probability, _ = step(self.target, points, self._value, move)
        self._values = None
        return probability


def gibbs(
    target: Target,
    conditionals: Mapping[str, Conditional],
    draws: int = 1000,
    chains: int = 16,
    *,
    warmup: int = 200,
    thin: int = 1,
    init: Mapping[str, Any] | Tensor | None = None,
    seed: int | None = 0,
    on_draws: OnDraws | None = None,
    progress: bool | None = None,
) -> Draws:
    """Draws from a log-joint's posterior block by block; a block without a conditional takes Metropolis steps.

    A sweep draws each parameter given all others, in the target's order: by its conditional where there is one, else by
    a random-walk step of its coordinates, whose size is learnt in the warm-up. A discrete parameter that the target
    doesn't sum over is drawn site by site, from the log-joint at each of a site's states. The conditionals have to be
    those of the target's log-joint; where all are given it is evaluated only where chains begin and for the record.

    Args:
        target: The log-joint.
        conditionals: By parameter, a function of a dict with the parameters of all chains, each (chains, *shape), that
            draws this one given the others by torch's generator and returns it, (chains, *shape).
        draws: Kept draws of each chain.
        chains: How many, in one batch.
        warmup: Sweeps before, which aren't kept.
        thin: Sweeps from one kept draw to the next.
        init: As in ``nuts``.
        seed: Of all draws; None goes on with torch's generator.
        on_draws: Called now and then with the number of draws made and wanted.
        progress: Whether to show a bar; None: on a terminal, after a second.

    Returns:
        The draws with their diagnosis; where blocks take Metropolis steps ``stats["acceptance"]`` is their average.

    Raises:
        ConfigError: If a conditional is of no parameter of the target or of one that it sums over, or an option
            has a value that it can't take.
        ShapeError: If a conditional returns another shape.
        DataError: If a conditional draws numbers that are not finite or outside the parameter's support, or the
            log-joint isn't finite where a chain has to begin.

    Example:
        >>> from jensen.inference import Target, real
        >>> target = Target(lambda p: -(p["x"]**2 + p["y"]**2 - p["x"] * p["y"]), {"x": real(), "y": real()})
        >>> def given(other):
        ...     return lambda p: p[other] / 2 + 0.5**0.5 * torch.randn_like(p[other])
        >>> found = gibbs(target, {"x": given("y"), "y": given("x")}, draws=500, chains=4)
        >>> bool(abs(found["x"].mean()) < 0.2)
        True

    Source: Sampling-based approaches to calculating marginal densities, 1990, https://doi.org/10.2307/2289776;
    Explaining the Gibbs sampler, 1992, https://doi.org/10.2307/2685208.
    """
    check_counts(draws, chains, warmup, thin)
    for name in conditionals:
        if name not in target.parameters:
            raise ConfigError(unknown("parameter", name, target.parameters))
        if name not in target.slices:
            raise ConfigError(
                f"the target sums over '{name}', so it has no conditional; give Target(..., largest_sum=0) to keep it"
            )
    walks: dict[str, Walk] = {
        name: Walk(where, torch.ones(target.parameters[name].size, dtype=torch.float64), 1.0)
        for name, where in target.slices.items()
        if name not in conditionals and not target.parameters[name].states
    }
    all_given = all(name in conditionals for name in target.slices)
    with seeded(seed), Watch("gibbs", draws * chains, on_draws, progress) as watch:
        state = Chains(target, starting(target, chains, init))
        walks = _warm_up(state, conditionals, walks, warmup, watch)
        _sweep(state, conditionals, walks)
        if conditionals:
            # Raises before any draw is kept if one has left its parameter's support.
            target.unconstrain(state.values)
        kept: list[Tensor] = []
        values: list[dict[str, Tensor]] = []
        acceptance = torch.ones(chains, draws, dtype=torch.float64)
        for i in range(draws):
            shares: dict[str, Tensor] = {}
            for _ in range(thin):
                shares = _sweep(state, conditionals, walks)
            if all_given:
                values.append(state.values)
            else:
                kept.append(state.points)
            if walks:
                acceptance[:, i] = torch.stack(list(shares.values())).mean(0)
            watch.done((i + 1) * chains)
        if not all_given:
            positions = torch.stack(kept, 1)
        else:
            positions = target.unconstrain(
                {name: torch.stack([v[name] for v in values], 1) for name in values[0]}
            )
        log_prob = target.plain_log_prob(positions.flatten(0, 1)).reshape(chains, draws)
    return Draws(
        target,
        positions,
        "metropolis-within-gibbs" if walks else "gibbs",
        {"log_prob": log_prob, "acceptance": acceptance},
        {"scales": {name: walk.scale for name, walk in walks.items()}, "thin": thin},
    )


def metropolis_within_gibbs(
    target: Target,
    draws: int = 1000,
    chains: int = 16,
    *,
    conditionals: Mapping[str, Conditional] | None = None,
    warmup: int = 500,
    thin: int = 1,
    init: Mapping[str, Any] | Tensor | None = None,
    seed: int | None = 0,
    on_draws: OnDraws | None = None,
    progress: bool | None = None,
) -> Draws:
    """Draws block by block with Metropolis steps: ``gibbs`` with few conditionals or none.

    Discrete parameters that the target keeps are drawn site by site, given all else.

    Args:
        target: The log-joint; it needn't be differentiable.
        draws: Kept draws of each chain.
        chains: How many, in one batch.
        conditionals: As in ``gibbs``; None: every parameter takes Metropolis steps.
        warmup: Sweeps before, in which the steps' sizes are learnt.
        thin: Sweeps from one kept draw to the next.
        init: As in ``nuts``.
        seed: Of all draws; None goes on with torch's generator.
        on_draws: Called now and then with the number of draws made and wanted.
        progress: Whether to show a bar; None: on a terminal, after a second.

    Returns:
        The draws with their diagnosis.

    Raises:
        ConfigError: As ``gibbs``.
        ShapeError: As ``gibbs``.
        DataError: As ``gibbs``.
    """
    return gibbs(
        target,
        conditionals or {},
        draws,
        chains,
        warmup=warmup,
        thin=thin,
        init=init,
        seed=seed,
        on_draws=on_draws,
        progress=progress,
    )


def _sweep(
    state: Chains, conditionals: Mapping[str, Conditional], walks: Mapping[str, Walk]
) -> dict[str, Tensor]:
    """Draws each block once; of each walking block the probabilities of acceptance, (chains,)."""
    shares: dict[str, Tensor] = {}
    # What the target sums over has no place in the chains.
    for name in [name for name in state.target.parameters if name in state.target.slices]:
        if name in conditionals:
            state.draw(name, conditionals[name])
        elif name not in walks:
            state.flip(state.target.slices[name])
        else:
            shares[name] = state.walk(walks[name])
    return shares


def _warm_up(
    state: Chains,
    conditionals: Mapping[str, Conditional],
    walks: dict[str, Walk],
    warmup: int,
    watch: Watch,
) -> dict[str, Walk]:
    """Sweeps in which the walks' steps are learnt: widths once, at half time, scales always."""
    seen: list[Tensor] = []
    half = warmup // 2
    for i in range(warmup):
        shares = _sweep(state, conditionals, walks)
        if walks:
            seen.append(state.points)
        if i + 1 == half and state.number * len(seen) > 10:
            widths = torch.cat(seen[len(seen) // 2 :]).std(0)
            walks = {name: _widened(walk, widths) for name, walk in walks.items()}
        since = i + 1 if i + 1 <= half else i + 1 - half
        walks = {name: _scaled(walk, shares[name], since) for name, walk in walks.items()}
        watch.warming((i + 1) / warmup)
    return walks


def _widened(walk: Walk, widths: Tensor) -> Walk:
    found = widths[walk.where]
    return Walk(walk.where, torch.where(found > 0, found, walk.widths), 2.38 / len(found) ** 0.5)


def _scaled(walk: Walk, acceptance: Tensor, since: int) -> Walk:
    moved = float(acceptance.mean() - best_acceptance(len(walk.widths))) * since**-0.6
    return Walk(walk.where, walk.widths, walk.scale * torch.tensor(moved).exp().item())
