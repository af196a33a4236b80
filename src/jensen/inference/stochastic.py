"""Stochastic ascent of the bound: an automatic step size, averaged iterates, a rule to stop."""

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from math import ceil, inf

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from jensen.errors import ConfigError, FitError
from jensen.inference.families.family import Draws
from jensen.inference.minibatches import Minibatches
from jensen.inference.pathwise import Density, Gradient, antithetic, drawn, pathwise
from jensen.inference.target import Target
from jensen.seeding import seeded

Estimator = Callable[[Density, nn.Module, int], Gradient]
"""From density, posterior and number of draws to an unbiased gradient of the bound."""

WINDOW = 100
"""Steps before the first look at whether a stage may end; then after twice as many, and so on."""
MEMORIES = 3.0
"""Steps times step size that a stage takes at least."""
TRIALS = (10.0, 3.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.003, 0.001)
"""Step sizes of which the best is taken, where the units of the parameters are not known."""
TRIAL = 25
"""Steps of each trial."""
BATCH = 10
"""Steps whose bounds are averaged before their spread is judged, for they depend on each other."""
STAGES = 4
"""At most so many step sizes."""
SHRINK = 0.3
"""Each stage's step size over that of the stage before."""
COMPARED = 512
"""Draws on which two stages' posteriors are compared."""


@dataclass(frozen=True)
class Stochastic:
    """What stochastic ascent found.

    Attributes:
        posterior: The module with the averaged parameters of the best stage.
        history: Estimates of the bound, nats, one a step, (steps,).
        lower_bound: The bound at the end, nats, from ``COMPARED`` draws (minibatches: an unbiased estimate of it).
        converged: Whether the last stage, with a smaller step size than the one before, gained next to nothing.
        reason: Why it stopped, in words.
        stages: Step size and number of steps of each stage.
        finite: The share of draws, over all steps, where the log-joint and its gradient were finite.
    """

    posterior: nn.Module
    history: Float[Tensor, " steps"]
    lower_bound: float
    converged: bool
    reason: str
    stages: tuple[tuple[float, int], ...]
    finite: float


@dataclass(frozen=True)
class Ascending:
    """How to ascend.

    Attributes:
        samples: Draws of a step.
        step_size: Adam's in the first stage, in the units of the posterior's parameters. None takes what suits the
            family; for a user's own module it is found by short trials.
        steps: At most so many.
        tolerance: Nats for each dimension; a stage that gains less than this times the dimension ends the ascent. Means
            that are off by d standard deviations cost d^2 / 2 nats each.
        burn_in: Share of a stage's steps that isn't looked at when its end is judged, as long as ``WINDOW`` steps are
            left: above zero where a stage may have to leave a plateau first.

    Raises:
        ConfigError: If one isn't above zero, or burn_in not from 0 to below 1.
    """

    samples: int = 16
    step_size: float | None = None
    steps: int = 20_000
    tolerance: float = 5e-4
    burn_in: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.burn_in < 1:
            raise ConfigError(f"burn_in is {self.burn_in}; it is a share of a stage, from 0 to below 1")
        if min(self.samples, self.steps, self.tolerance, self.step_size or 1) <= 0 or self.step_size == 0:
            raise ConfigError(f"stochastic ascent needs numbers above 0, got {self}")


def stochastic(
    target: Target,
    posterior: nn.Module,
    *,
    estimator: Estimator = pathwise,
    batch_size: int | None = None,
    ascending: Ascending | None = None,
    seed: int | None = 0,
) -> Stochastic:
    """Maximises the bound over a posterior's parameters by stochastic gradients.

    Adam runs in stages, each with a smaller step size than the one before, and the parameters are averaged over the
    second half of each. A stage ends when the bound has stopped rising: when its mean over the second half exceeds that
    over the first by less than two standard errors. The next one starts from the average. The ascent ends when two
    things hold. The stage gained less than the tolerance over the one before, on the same draws. And chance costs it
    no more than that: with a and b the averages over the two halves of what was averaged, the whole average c beats
    them by L(c) - (L(a) + L(b)) / 2, which is about what c itself loses to chance. A stage that ends lower than it
    began is undone, so a step size that is too large costs time only.

    Args:
        target: The density.
        posterior: A family, or any module that gives a distribution over (dim,) for the context None. It is copied.
        estimator: Of the gradient; one with ``needs_gradient = False`` gets values of the log-joint only.
        batch_size: Rows of a minibatch; None takes all data at every step.
        ascending: How.
        seed: Of the draws.

    Returns:
        The fitted posterior and what is known of the way there.

    Raises:
        ConfigError: If there is nothing to fit, or minibatches of a target without rows.
        FitError: If the bound is not finite to begin with.

    Source: A framework for improving the reliability of black-box variational inference, 2022,
    https://arxiv.org/abs/2203.15945, whose idea of stages this follows; stages end and the ascent stops here by
    differences of the bound instead of by those of parameters.

    Example:
        >>> from jensen.inference import real
        >>> from jensen.inference.families import MeanField
        >>> target = Target(lambda p: -0.5 * (p["x"] - 3) ** 2, {"x": real()})
        >>> found = stochastic(target, MeanField(1))
        >>> found.converged, round(found.posterior(None).mean.item(), 2)
        (True, 3.0)
    """
    posterior = copy.deepcopy(posterior)
    if not any(parameter.requires_grad for parameter in posterior.parameters()):
        raise ConfigError("the posterior has no parameters to fit")
    rows = None if batch_size is None else Minibatches(target, batch_size)
    with seeded(seed):
        return _Climb(target, posterior, estimator, rows, ascending or Ascending()).run()


@dataclass
class _Climb:
    target: Target
    posterior: nn.Module
    estimator: Estimator
    rows: Minibatches | None
    how: Ascending
    history: list[Tensor] = field(default_factory=list)
    finite: list[float] = field(default_factory=list)
    stages: list[tuple[float, int]] = field(default_factory=list)

    @property
    def density(self) -> Density:
        if getattr(self.estimator, "needs_gradient", True):
            return self.target.value_and_gradient if self.rows is None else self.rows
        return self._values_only

    def _values_only(self, points: Tensor) -> tuple[Tensor, Tensor]:
        target = self.target if self.rows is None else self.rows.part()
        return target.plain_log_prob(points), torch.zeros_like(points)

    @property
    def tolerance(self) -> float:
        return self.how.tolerance * self.target.dim

    def run(self) -> Stochastic:
        best = self._vector()
        self._start()
        step_size = self.how.step_size or getattr(self.posterior, "step_size", None) or self._tried()
        converged, reason = False, "it took all the steps that it was given"
        while len(self.history) < self.how.steps:
            self._anchor()
            found, settled, chance = self._stage(step_size)
            gain = self._gain(best, found)
            best = found if gain > 0 else best
            self._set(best)
            if settled and len(self.stages) > 1 and max(abs(gain), chance) < self.tolerance:
                converged = True
                reason = f"a smaller step size gained less than {self.tolerance:.2g} nats"
                break
            if len(self.stages) == STAGES:
                reason = (
                    f"all {STAGES} step sizes were used; the last one changed the bound by {gain:.2g} nats, and "
                    f"chance costs it about {chance:.2g}"
                )
                break
            step_size *= SHRINK
        self._set(best)
        return Stochastic(
            self.posterior,
            torch.stack(self.history),
            float(self._bounds(best)[0]),
            converged,
            reason,
            tuple(self.stages),
            sum(self.finite) / len(self.finite),
        )

    def _tried(self) -> float:
        """The step size that gets furthest in a few steps."""
        start, reached = self._vector(), list[Tensor]()
        for step_size in TRIALS:
            self._set(start)
            optimiser = self._optimiser(step_size)
            for _ in range(TRIAL):
                self._step(optimiser)
            reached.append(self._vector())
        self._set(start)
        return TRIALS[int(self._bounds(*reached).nan_to_num(-torch.inf).argmax())]

    def _start(self) -> None:
        first = self.estimator(self.density, self.posterior, 64)
        if not bool(torch.isfinite(first.bound)):
            raise FitError(
                f"the bound is {float(first.bound)} at the first posterior: none of its draws has a finite log-joint "
                "and gradient; start nearer to the posterior or narrower, by the family's around(location, scale_tril)"
            )

    def _optimiser(self, step_size: float) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.posterior.parameters(), lr=step_size, betas=(0.9, 0.99))

    def _step(self, optimiser: torch.optim.Optimizer) -> Tensor:
        gradient = self.estimator(self.density, self.posterior, self.how.samples)
        optimiser.zero_grad()
        (-gradient.surrogate).backward()
        found = [parameter.grad for parameter in self.posterior.parameters() if parameter.grad is not None]
        if all(bool(torch.isfinite(part).all()) for part in found):
            optimiser.step()
        self.history.append(gradient.bound)
        self.finite.append(gradient.finite)
        return gradient.bound

    def _stage(self, step_size: float) -> tuple[Tensor, bool, float]:
        """Steps until the bound stops rising; their average, whether it stopped, and what chance costs the average."""
        optimiser = self._optimiser(step_size)
        bounds: list[Tensor] = []
        sums = [torch.zeros_like(self._vector())]
        # Long enough to forget where the stage started, and even at every check.
        check, settled = BATCH * 2 * ceil(max(WINDOW, MEMORIES / step_size) / (2 * BATCH)), False
        while len(self.history) < self.how.steps and not settled:
            bounds.append(self._step(optimiser))
            sums.append(sums[-1] + self._vector())
            if len(bounds) == check:
                settled = _flat(_later(torch.stack(bounds), self.how.burn_in), self.tolerance)
                check *= 2
        self.stages.append((step_size, len(bounds)))
        last = len(bounds)
        middle, between = last // 2, last // 2 + last // 4
        average = (sums[last] - sums[middle]) / (last - middle)
        if not settled:
            return average, False, inf
        halves = (
            (sums[between] - sums[middle]) / (between - middle),
            (sums[last] - sums[between]) / (last - between),
        )
        whole, a, b = self._bounds(average, *halves).tolist()
        return average, True, whole - (a + b) / 2

    def _gain(self, before: Tensor, after: Tensor) -> float:
        """How much higher the second parameters' bound is."""
        low, high = self._bounds(before, after).tolist()
        return high - low if high > -torch.inf else -torch.inf

    def _bounds(self, *parameters: Tensor) -> Tensor:
        """The bounds at several parameters, from the same noise and rows."""
        now = self._vector()
        with torch.no_grad():
            noise = antithetic(COMPARED, getattr(self.posterior, "noise_dim", 1))
            draws = [self._draws(vector, noise) for vector in parameters]
            values, _ = self.density(torch.cat([draw.points for draw in draws]))
        self._set(now)
        ratios = values.reshape(len(draws), -1) - torch.stack([draw.log_prob for draw in draws])
        weights = torch.stack([draw.weights for draw in draws])
        return torch.where(torch.isfinite(ratios), ratios * weights, -torch.inf).sum(1)

    def _draws(self, parameters: Tensor, noise: Tensor) -> Draws:
        self._set(parameters)
        # A user's own posterior draws its noise itself: the same each time.
        with seeded(0):
            return drawn(self.posterior, len(noise), noise)

    def _anchor(self) -> None:
        # Sites' means are no states: no anchor lies there.
        anchored = self.target.sites is None and getattr(self.estimator, "needs_gradient", True)
        if self.rows is not None and anchored:
            with torch.no_grad():
                draws = drawn(self.posterior, COMPARED)
                self.rows.anchored((draws.weights[:, None] * draws.points).sum(0))

    def _vector(self) -> Tensor:
        return parameters_to_vector(self.posterior.parameters()).detach().clone()

    def _set(self, vector: Tensor) -> None:
        vector_to_parameters(vector.clone(), self.posterior.parameters())


def _later(bounds: Tensor, burn_in: float) -> Tensor:
    """Without the first ones, a whole number of batches for each half."""
    most = max(0, len(bounds) - WINDOW)
    return bounds[min(int(burn_in * len(bounds)), most) // (2 * BATCH) * 2 * BATCH :]


def _flat(bounds: Tensor, tolerance: float) -> bool:
    """Whether the second half's mean exceeds the first's by no more than chance, or by next to nothing."""
    halves = bounds.reshape(2, -1, BATCH).mean(-1)
    first, second = halves.mean(1)
    standard_error = (halves.var(1) / halves.shape[1]).sum().sqrt()
    return bool(second - first <= torch.clamp(2 * standard_error, min=tolerance))
