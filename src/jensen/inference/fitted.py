"""A fitted posterior over a log-joint's parameters: its draws, its bound, and how far to trust it."""

from dataclasses import dataclass, field
from math import log
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution

from jensen.diagnostics import RELIABLE_K
from jensen.errors import ConfigError, FitError
from jensen.inference.found import Found, Weighed, weigh
from jensen.inference.summary import LEFT_OUT, Summary, describe
from jensen.inference.target import Target
from jensen.information import Estimate
from jensen.seeding import seeded

POOL = 4000
"""Draws that judge a fit."""

BLOCK = 100
"""Draws that a weighted one is picked among, at least: the bound of the resampled posterior is that of so many."""

LEAST_SHARE = 0.15
"""Of the draws, effective ones, below which weights aren't trusted whatever their tail."""

EVEN = 0.9999
"""The same above which weights differ by a hundredth: the shape of so thin a tail says nothing."""


@dataclass(frozen=True)
class Fit:
    """A posterior over the parameters of a ``Target``.

    What is sampled is what is judged: ``sample``, ``elbo``, ``evidence`` and ``pareto_k`` all belong to ``posterior``
    and, if ``weighted``, to its draws resampled by their smoothed importance weights.

    Attributes:
        target: The log-joint.
        method: Name of the method.
        posterior: A distribution over the unconstrained coordinates, followed by the states of discrete parameters
            that aren't summed over; None for particles.
        weighted: Whether draws are resampled by importance weights.
        elbo: A lower bound on the log evidence, nats: E log p - log q of the draws; if they are weighted, the
            importance-weighted bound with 100 draws, which is at most the ELBO of the resampled posterior.
        elbo_standard_error: Of that, by simulation.
        evidence: The importance-sampled estimate of log p(x), nats, with its standard error.
        pareto_k: Of the importance weights; below 0.7 they can be relied on.
        effective: Effective draws as a share of all, by the weights.
        history: Of the bound that was climbed, nats.
        notes: What the user should know of the way there.
        found: All that the method handed over.
    """

    target: Target
    method: str
    posterior: Distribution | None
    weighted: bool
    elbo: float
    elbo_standard_error: float
    evidence: Estimate
    pareto_k: float
    effective: float
    history: tuple[float, ...] = field(repr=False)
    notes: tuple[str, ...]
    found: Found = field(repr=False)
    pool: Weighed | None = field(repr=False)

    @property
    def reliable(self) -> bool:
        """Whether averages by importance weights of this posterior can be relied on."""
        tail = self.pareto_k < RELIABLE_K or self.even
        return tail and self.effective >= LEAST_SHARE and self.peaked and self.found.left_out <= LEFT_OUT

    @property
    def even(self) -> bool:
        """Whether importance weights are all but the same, whatever the shape of their tail."""
        return self.effective > EVEN

    @property
    def peaked(self) -> bool:
        """Whether the density falls off in all directions from each mode that q was fitted around.

        Where it doesn't, as in a funnel, there may be mass that no draw of q comes to, and weights can't tell.
        """
        return all(mode.definite for mode in self.found.modes)

    def sample(self, n: int | torch.Size = 1, *, seed: int | None = None) -> dict[str, Tensor]:
        """Draws of the parameters.

        Args:
            n: How many, or their shape.
            seed: Of the draws.

        Returns:
            For each parameter a tensor (*n, *shape).

        Raises:
            ConfigError: If n is negative.
        """
        with seeded(seed):
            return self.target.complete(self.sample_unconstrained(n))

    def sample_unconstrained(
        self, n: int | torch.Size = 1, *, seed: int | None = None
    ) -> Float[Tensor, "*n dim"]:
        """Draws in unconstrained coordinates, (*n, dim)."""
        shape = torch.Size([n]) if isinstance(n, int) else n
        if any(size < 0 for size in shape):
            raise ConfigError(f"the number of draws can't be negative, got {tuple(shape)}")
        with seeded(seed), torch.no_grad():
            return self._draw(shape.numel()).reshape(*shape, self.target.dim)

    def _draw(self, n: int) -> Tensor:
        if self.posterior is None:
            particles = self.found.particles
            assert particles is not None
            return particles[torch.randint(len(particles), (n,))]
        if not self.weighted or n == 0:
            return self.posterior.sample(torch.Size([n]))
        fresh = weigh(self.target, self.posterior, max(n, POOL))
        places = (torch.arange(n, dtype=torch.float64) + torch.rand(n, dtype=torch.float64)) / n
        chosen = torch.searchsorted(fresh.smoothed.exp().cumsum(0), places).clamp(max=len(fresh.points) - 1)
        return fresh.points[chosen[torch.randperm(n)]]

    def log_prob(self, values: dict[str, Any]) -> Float[Tensor, " n"]:
        """Log-density of the posterior (before any weighting) over the unconstrained coordinates of values.

        Args:
            values: For each parameter (n, *shape).

        Returns:
            Nats, (n,).

        Raises:
            FitError: If the method has no density.
        """
        if self.posterior is None:
            raise FitError(f"the method '{self.method}' gives particles, which have no density")
        with torch.no_grad():
            return self.posterior.log_prob(self.target.unconstrain(values))

    def summary(self, draws: int = POOL, *, seed: int | None = 0) -> Summary:
        """Prints a table of the parameters and a plain statement of how far to trust it.

        Args:
            draws: That means, deviations and quantiles are taken from.
            seed: Of these.

        Returns:
            The same as a record.
        """
        found = describe(self, self.sample(draws, seed=seed))
        print(found)
        return found

    def to_arviz(self, draws: int = POOL, *, seed: int | None = 0) -> Any:
        """An ``arviz.InferenceData`` with a group ``posterior`` of one chain of independent draws.

        Args:
            draws: How many.
            seed: Of these.

        Raises:
            ConfigError: If ArviZ isn't installed.
        """
        try:
            import arviz
        except ImportError:
            raise ConfigError("ArviZ isn't installed; pip install 'jensen[diagnostics]'") from None
        values = self.sample(draws, seed=seed)
        attributes = {"inference_library": "jensen", "method": self.method, "pareto_k": self.pareto_k}
        found: Any = arviz.from_dict({name: value[None].numpy() for name, value in values.items()})
        found.posterior.attrs.update(attributes)
        return found


def judged(
    target: Target, method: str, found: Found, *, weighted: bool, pool: int = POOL, seed: int | None = 0
) -> Fit:
    """Draws from what a method found and says how good it is.

    Args:
        target: The log-joint.
        method: Its name.
        found: By the method.
        weighted: Whether draws are to be resampled by importance weights.
        pool: Draws that judge it.
        seed: Of these.

    Returns:
        The fit.
    """
    nan = torch.tensor(torch.nan, dtype=torch.float64)
    unknown = Estimate(nan, nan, 0)
    if found.posterior is None:
        return Fit(
            target, method, None, False, torch.nan, torch.nan, unknown, torch.nan, torch.nan,
            found.history, found.notes, found, None,
        )  # fmt: skip
    with seeded(seed):
        drawn = weigh(target, found.posterior, pool)
    notes = (*found.notes, *target.remarks)
    if drawn.undefined:
        notes += (
            f"{drawn.undefined:.2%} of the draws of q have a log-joint of NaN, taken for a density of zero",
        )
    elbo, error = _bound(drawn.log_weights, BLOCK if weighted else 1)
    total, squares = drawn.log_weights.logsumexp(0), (2 * drawn.log_weights).logsumexp(0)
    variance = ((squares - 2 * total).exp() - 1 / pool).clamp(min=0)
    return Fit(
        target=target,
        method=method,
        posterior=found.posterior,
        weighted=weighted,
        elbo=elbo,
        elbo_standard_error=error,
        evidence=Estimate(total - log(pool), variance.sqrt(), pool),
        pareto_k=drawn.pareto_k,
        effective=drawn.share,
        history=found.history,
        notes=notes,
        found=found,
        pool=drawn,
    )


def _bound(log_weights: Float[Tensor, " n"], block: int) -> tuple[float, float]:
    """The importance-weighted bound with so many draws, and its standard error; one draw: the ELBO."""
    blocks = log_weights[: len(log_weights) // block * block].reshape(-1, block)
    values = blocks.logsumexp(1) - log(block)
    return float(values.mean()), float(values.std() / len(values) ** 0.5)
