"""The gradient of the bound for a posterior with discrete sites, each site's expectation taken exactly."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jensen.errors import BoundError
from jensen.inference.families.factorised import Factorised
from jensen.inference.families.mixed import Mixed
from jensen.inference.pathwise import Density, Gradient

Values = Callable[[Tensor], Tensor]
"""From points (n, dim) to log-densities (n,), detached."""


BUDGET = 1024
"""Neighbours that one step evaluates: of all its draws, or of as many as this allows."""


MEMORY = 0.8
"""Of what a state was worth, from step to step."""


class Neighbours:
    """Points that differ from others in the state of one site, every site and state in turn.

    Args:
        states: How many each site has, (sites,).
        before: Columns of a point before those of the sites.
        most: Of one point, beyond which they aren't affordable.
        budget: Points that one call should evaluate, more only if one point has more neighbours.
    """

    def __init__(self, states: Int[Tensor, " sites"], before: int, most: int, budget: int = BUDGET) -> None:
        self.states, self.before, self.most, self.budget = states, before, most, budget
        pairs = [(site, shift) for site, count in enumerate(states.tolist()) for shift in range(1, count)]
        self.site, self.shift = torch.tensor(pairs, dtype=torch.long).reshape(-1, 2).T

    def __len__(self) -> int:
        """How many one point has."""
        return len(self.site)

    @property
    def affordable(self) -> bool:
        """Whether those of at least one point can be evaluated."""
        return len(self) <= self.most

    def looks(self, n: int) -> int:
        """At how many of n points each site is looked at."""
        return max(1, min(n, self.budget // max(1, len(self))))

    def rises(
        self, values: Values, points: Float[Tensor, "n dim"], here: Float[Tensor, " n"]
    ) -> tuple[Float[Tensor, "n sites states"], Bool[Tensor, "n sites states"]]:
        """How much higher the log-density is with another state of each site.

        Where there are too many for all points, each site's are taken at some of the points, other ones for each site.

        Args:
            values: The log-density.
            points: (n, dim).
            here: Log-densities there, (n,).

        Returns:
            Nats, (n, sites, states), zero for the state that a point is in and wherever nothing was evaluated; and
            where something was, likewise.
        """
        n, looks = len(points), self.looks(len(points))
        rise = points.new_zeros(n, len(self.states), int(self.states.max()))
        looked = torch.zeros_like(rise, dtype=torch.bool)
        if len(self) and n:
            row = (self.site + torch.arange(looks)[:, None] * max(1, n // looks)) % n
            column = self.before + self.site
            state = (points[row, column].long() + self.shift) % self.states[self.site]
            changed = points[row]
            changed.scatter_(2, column.expand(looks, -1)[..., None], state[..., None].to(points.dtype))
            found = values(changed.reshape(-1, points.shape[1])).reshape(looks, -1)
            where = (row, self.site.expand(looks, -1), state)
            rise[where], looked[where] = found - here[row], True
        return rise, looked


class LocalExpectations:
    r"""The gradient of E_q[log p - log q] for q(u) prod_s q_s(z_s), with the expectation over each site exact.

    .. math::
        \nabla_{\eta_s} = \frac1S \sum_i \sum_k \nabla q_s(k) \left[
            \log p(u_i, z_i^{s \to k}) - \log p(u_i, z_i) \right] + \nabla H(q_s)

    For each draw and each site, all states of the site are looked at while the rest of the draw stays. So the choice of
    the site itself adds no noise (Rao-Blackwell), and there is none at all where sites are independent. The
    difference to the draw's own value, which is independent of k, changes nothing in expectation. All neighbours of
    all draws are evaluated in one call. The rest of q gets its own estimator, with the sites' states of each draw. What
    states were worth in earlier steps serves as a control variate of the bound, so that its rise is seen soon; each
    fit takes a new estimator.

    Args:
        values: The log-density alone, for the neighbours. It should be finite everywhere, as that of
            ``Target.floored``: a state with a log-density of -inf is not known to be bad here.
        neighbours: Of the target's points.
        continuous: Estimator for the rest of q, such as ``pathwise`` or a ``Score``; not looked at if q has sites only.

    Source: Local expectation gradients for black box variational inference, 2015, https://arxiv.org/abs/1503.01494.

    Example:
        >>> from jensen.inference import Target, discrete
        >>> from jensen.inference.families import Categoricals
        >>> from jensen.inference.stochastic import stochastic
        >>> target = Target(lambda p: (p["z"] * torch.tensor([0.0, 2.0])).sum(), {"z": discrete(2, 2)})
        >>> near = Neighbours(target.sites.states, 0, 100)
        >>> q = Factorised(None, Categoricals(target.sites.possible))
        >>> found = stochastic(target, q, estimator=LocalExpectations(target.plain_log_prob, near))
        >>> found.posterior(None).mean.detach().round(decimals=2).tolist()  # sigmoid(0), sigmoid(2)
        [0.5, 0.88]
    """

    def __init__(
        self,
        values: Values,
        neighbours: Neighbours,
        continuous: Callable[[Density, nn.Module, int], Gradient] | None = None,
    ) -> None:
        self.values, self.neighbours, self.continuous = values, neighbours, continuous
        self._worth: Tensor | None = None
        self.needs_gradient = continuous is not None and getattr(continuous, "needs_gradient", True)

    def __call__(self, density: Density, posterior: nn.Module, samples: int) -> Gradient:
        """One estimate.

        Args:
            density: The target.
            posterior: A ``Factorised``.
            samples: Draws.

        Raises:
            BoundError: If the posterior isn't factorised, or has coordinates and no estimator for them.
        """
        if not isinstance(posterior, Factorised) or (posterior.continuous and self.continuous is None):
            raise BoundError(
                "local expectations are for families.Factorised, with an estimator for its continuous part"
            )
        q = posterior.sites.forward(None)
        states = q.sample((samples,))
        if posterior.continuous is None or self.continuous is None:
            here = density(states)[0]
            return self._gradient(states, here, q, Gradient(here.mean(), here.mean(), 1.0))
        seen: list[tuple[Tensor, Tensor]] = []

        def given(points: Tensor) -> tuple[Tensor, Tensor]:
            whole = torch.cat([points, states], 1)
            found, slopes = density(whole)
            seen.append((whole, found))
            return found, slopes[:, : points.shape[1]]

        rest = self.continuous(given, posterior.continuous, samples)
        return self._gradient(*seen[0], q, rest)

    def _gradient(self, points: Tensor, here: Tensor, q: Mixed, rest: Gradient) -> Gradient:
        good = torch.isfinite(here)
        points = points[good]
        rise, _ = self.neighbours.rises(self.values, points, here[good])
        # Draws are exchangeable, so that an average over those that were looked at has the same expectation.
        average = torch.where(torch.isfinite(rise), rise, 0.0).sum(0) / self.neighbours.looks(len(rise))
        local = (q.probs * average).sum()
        entropy = q.site_entropy
        surrogate = rest.surrogate + entropy + local - local.detach()
        bound = rest.bound + entropy.detach() - self._chance(points[:, self.neighbours.before :], q)
        self._learn(average, q)
        return Gradient(surrogate, bound, rest.finite)

    def _chance(self, states: Tensor, q: Mixed) -> Tensor:
        """How much of the draws' log-density is owed to the states that each site happens to have; zero on average."""
        if self._worth is None or len(states) == 0:
            return states.new_zeros(())
        expected = (q.probs.detach() * self._worth).sum(1)
        return (self._worth.gather(1, states.long().T).mean(1) - expected).sum()

    def _learn(self, average: Tensor, q: Mixed) -> None:
        """What a state of a site is worth, from this step's draws on, for later ones: so it adds no bias."""
        worth = average - (q.probs.detach() * average).sum(1, keepdim=True)
        self._worth = worth if self._worth is None else MEMORY * self._worth + (1 - MEMORY) * worth
