"""What is expected of targets, given data and a posterior over weights."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from math import ceil, log
from typing import Any, cast

import torch
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution, Normal, Poisson

from jensen.errors import ConfigError, ShapeError
from jensen.seeding import seeded
from jensen.weights.likelihoods import (
    BernoulliLikelihood,
    CategoricalLikelihood,
    Likelihood,
    NormalLikelihood,
)
from jensen.weights.network import Values

_CELLS = 2**22
"""Numbers in a table of densities at once."""

_STEPS = 20_000
"""Most steps of a rule over all components of a mixture."""

_MANY = 2**16
"""Rates from which counts are taken for normal: their entropy is then off by less than a millionth."""


class Predictive(ABC):
    """p(y | x, data) for each of n data. Of several targets a datum, each cell is looked at by itself but for log_prob.

    Classes are seen as one-hot vectors: ``mean`` is (n, K), the probabilities.

    Attributes:
        samples: Sets of weights that it averages over; 0 where it is a closed form.
    """

    samples: int

    @property
    def mean(self) -> Float[Tensor, "n *event"]:
        """The mean of each target; of classes their probabilities, (n, K)."""
        return self._means()[0]

    @property
    def std(self) -> Float[Tensor, "n *event"]:
        """The standard deviation of each target, noise and ignorance of the weights together."""
        return self.variance.sqrt()

    @property
    def variance(self) -> Float[Tensor, "n *event"]:
        """``aleatoric_variance`` plus ``epistemic_variance``."""
        return self.aleatoric_variance + self.epistemic_variance

    @property
    def aleatoric_variance(self) -> Float[Tensor, "n *event"]:
        """The mean, over weights, of the targets' variance: noise that more data can't lessen."""
        return self._means()[1]

    @property
    def epistemic_variance(self) -> Float[Tensor, "n *event"]:
        """The variance, over weights, of the targets' mean: what more data would lessen."""
        return self._means()[2]

    @abstractmethod
    def _means(self) -> tuple[Tensor, Tensor, Tensor]:
        """Mean, aleatoric and epistemic variance."""

    @property
    @abstractmethod
    def entropy(self) -> Float[Tensor, "n *cells"]:
        """Of the predictive distribution, nats; (n,) for classes, else of each cell."""

    @property
    @abstractmethod
    def expected_entropy(self) -> Float[Tensor, "n *cells"]:
        """The mean, over weights, of the targets' entropy: the aleatoric part of ``entropy``, nats."""

    @property
    def mutual_information(self) -> Float[Tensor, "n *cells"]:
        """Between target and weights (BALD): ``entropy`` less ``expected_entropy``, the epistemic part, nats."""
        return (self.entropy - self.expected_entropy).clamp(min=0)

    @abstractmethod
    def quantiles(self, levels: float | Sequence[float]) -> Float[Tensor, "levels n *event"]:
        r"""The smallest values that a target doesn't exceed with those probabilities.

        Args:
            levels: Between 0 and 1; one number gives (n, \*event).

        Raises:
            ConfigError: For classes, which have no order, or a level outside (0, 1).
        """

    @abstractmethod
    def log_prob(self, y: Any) -> Float[Tensor, " n"]:
        """Log-probability of targets in nats, all cells of a target together; densities in the targets' units.

        Args:
            y: Targets, as ``fit`` takes them.

        Raises:
            ShapeError: If they have another shape.
            SupportError: If one can't be.
        """

    @abstractmethod
    def sample(self, n: int, seed: int | None = 0) -> Shaped[Tensor, "draws n *event"]:
        """Draws of targets; each draw uses one set of weights for all data.

        Args:
            n: How many.
            seed: None: torch's generator as it is.
        """


class MixturePredictive(Predictive):
    r"""The average of p(y | f(x; w_s)) over S sets of weights.

    Args:
        likelihood: p(y | f).
        outputs: Of the network, (S, n, outputs).
        values: What else was drawn with the weights, as the noise's scale, (S,).
        log_weights: Of the sets, (S,), normalised; None: all alike.
        point: Whether the one set of outputs stands for an average that was taken otherwise, so that ignorance of the
            weights can't be told from noise.

    Example:
        >>> from jensen.weights.likelihoods import NormalLikelihood
        >>> found = MixturePredictive(NormalLikelihood(1.0), torch.tensor([[[0.0]], [[2.0]]]))
        >>> found.mean, found.aleatoric_variance, found.epistemic_variance
        (tensor([1.]), tensor([1.]), tensor([1.]))
    """

    def __init__(
        self,
        likelihood: Likelihood,
        outputs: Float[Tensor, "s n outputs"],
        values: Mapping[str, Tensor] | None = None,
        log_weights: Float[Tensor, " s"] | None = None,
        *,
        point: bool = False,
    ) -> None:
        self.likelihood = likelihood
        self.outputs = outputs
        self.values: Values = dict(values or {})
        self.samples = len(outputs)
        uniform = outputs.new_full((len(outputs),), -log(len(outputs)))
        self.log_weights = uniform if log_weights is None else log_weights.to(outputs)
        self.point = point

    @property
    def cells(self) -> Distribution:
        r"""The targets' distribution for each set of weights, of batch shape (S, n, \*event)."""
        return self.likelihood.cells(self.outputs, self.values)

    def _average(self, values: Tensor) -> Tensor:
        """Over the sets, (S, ...)."""
        return torch.tensordot(self.log_weights.exp().to(values.dtype), values, 1)

    def _means(self) -> tuple[Tensor, Tensor, Tensor]:
        cells = self.cells
        if isinstance(cells, Categorical):
            means = cells.probs
            variances = means * (1 - means)
        else:
            means, variances = cells.mean, cells.variance
        mean = self._average(means)
        if self.point:
            return mean, self._average(variances), mean.new_full(mean.shape, torch.nan)
        return mean, self._average(variances), self._average((means - mean).square())

    @property
    def variance(self) -> Tensor:
        """Of each target."""
        _, aleatoric, epistemic = self._means()
        return aleatoric if self.point else aleatoric + epistemic

    @property
    def probabilities(self) -> Float[Tensor, "n k"]:
        """Of the classes, (n, K); of a Bernoulli's 0 and 1, (n, 2).

        Raises:
            ConfigError: If the targets aren't classes.
        """
        mean = self.mean
        if isinstance(self.cells, Categorical):
            return mean
        if isinstance(self.cells, Bernoulli):
            return torch.stack([1 - mean, mean], -1)
        raise ConfigError(f"targets of a {self.likelihood.name} likelihood aren't classes; see mean and std")

    @property
    def entropy(self) -> Tensor:
        """Of the mixture: exact for classes, by summation or the trapezoidal rule for counts and numbers."""
        cells = self.cells
        if isinstance(cells, Categorical | Bernoulli):
            return torch.special.entr(self.probabilities).sum(-1)
        if isinstance(cells, Poisson):
            rate = cells.rate.flatten(1)
            return _count_mixture_entropy(rate, self.log_weights).view(cells.rate.shape[1:])
        if isinstance(cells, Normal):
            loc, scale = cells.loc.flatten(1), cells.scale.flatten(1)
            if self.samples == 1:
                return cells.entropy()[0]
            return _normal_mixture_entropy(loc, scale, self.log_weights).view(cells.loc.shape[1:])
        raise ConfigError(f"the entropy of mixtures of {type(cells).__name__} isn't known")

    @property
    def expected_entropy(self) -> Tensor:
        """The mean of the entropies of the sets.

        Raises:
            ConfigError: If there is one set that stands for an average.
        """
        if self.point:
            raise ConfigError(
                "this approximation of the predictive doesn't tell ignorance from noise; use link='monte-carlo'"
            )
        cells = self.cells
        if isinstance(cells, Poisson):
            rate = cells.rate.reshape(1, -1)
            return self._average(_count_mixture_entropy(rate, rate.new_zeros(1)).view(cells.rate.shape))
        return self._average(cells.entropy())

    def quantiles(self, levels: float | Sequence[float]) -> Tensor:
        """By bisection of the mixture's distribution function."""
        wanted = _levels(levels)
        cells = self.cells
        if isinstance(cells, Categorical):
            raise ConfigError("classes have no order and so no quantiles; see mean, their probabilities")
        mean = self.mean
        q = wanted.to(mean).view(-1, *[1] * mean.ndim)
        if isinstance(cells, Bernoulli):
            found = (q > 1 - mean).to(mean.dtype)
        elif isinstance(cells, Poisson):
            found = self._counts(cells, q)
        else:
            found = self._bisected(cast(Normal, cells), q)
        return found[0] if isinstance(levels, float | int) else found

    def _bisected(self, cells: Normal, q: Tensor) -> Tensor:
        ends = cells.loc[None] + cells.scale[None] * torch.special.ndtri(q)[:, None]
        low, high = ends.amin(1), ends.amax(1)
        for _ in range(60):
            middle = (low + high) / 2
            below = torch.stack([self._average(cells.cdf(m[None])) for m in middle])
            low, high = torch.where(below < q, middle, low), torch.where(below < q, high, middle)
        return (low + high) / 2

    def _counts(self, cells: Poisson, q: Tensor) -> Tensor:
        # Far from the data the logarithm of a rate may be anything; half of what numbers hold is as good as infinite.
        rate = cells.rate.clamp(max=torch.finfo(cells.rate.dtype).max ** 0.5)
        top = (rate + 12 * rate.sqrt() + 40).amax(0).ceil().expand(len(q), *rate.shape[1:]).clone()
        low = torch.full_like(top, -1.0)
        for _ in range(int(log(float(top.max()) + 2) / log(2)) + 2):
            middle = ((low + top) / 2).floor()
            below = torch.stack(
                [
                    self._average(torch.special.gammaincc((m + 1).clamp(min=1e-12).expand_as(rate), rate))
                    for m in middle
                ]
            )
            reached = (below >= q) | (middle >= top)
            top, low = torch.where(reached, middle, top), torch.where(reached, low, middle)
        return top

    def log_prob(self, y: Any) -> Tensor:
        """Log of the average of the sets' probabilities."""
        targets = _targets(self.likelihood, y, self.outputs)
        each = self.likelihood.log_prob(self.outputs, targets, self.values)
        return torch.logsumexp(each + self.log_weights[:, None], 0)

    def sample(self, n: int, seed: int | None = 0) -> Tensor:
        """A set of weights for each draw, then targets."""
        with seeded(seed):
            index = torch.multinomial(self.log_weights.exp(), n, replacement=True)
            values = {name: value[index] for name, value in self.values.items()}
            return self.likelihood.cells(self.outputs[index], values).sample()


class NormalPredictive(Predictive):
    """N(f, C + s^2 I) for each datum: normal noise, and outputs that are normal themselves, in closed form.

    Args:
        likelihood: Normal, with a noise that doesn't depend on the datum.
        loc: Means of the outputs, (n, outputs).
        covariance: Of the outputs of each datum, (n, outputs, outputs).
        noise_scale: s, a number or (outputs,).
    """

    samples = 0

    def __init__(
        self,
        likelihood: Likelihood,
        loc: Float[Tensor, "n outputs"],
        covariance: Float[Tensor, "n outputs outputs"],
        noise_scale: Float[Tensor, "..."],
    ) -> None:
        self.likelihood = likelihood
        self.loc = loc
        self.covariance = covariance
        self.noise_scale = noise_scale

    def _means(self) -> tuple[Tensor, Tensor, Tensor]:
        noise = self.noise_scale.square().expand_as(self.loc)
        parts = self.loc, noise, self.covariance.diagonal(dim1=-2, dim2=-1)
        mean, aleatoric, epistemic = (part[..., 0] if part.shape[-1] == 1 else part for part in parts)
        return mean, aleatoric, epistemic

    @property
    def entropy(self) -> Tensor:
        """Of a normal."""
        return Normal(self.mean, self.std).entropy()

    @property
    def expected_entropy(self) -> Tensor:
        """Of the noise."""
        return Normal(self.mean, self.aleatoric_variance.sqrt()).entropy()

    def quantiles(self, levels: float | Sequence[float]) -> Tensor:
        """Of a normal."""
        q = torch.special.ndtri(_levels(levels).to(self.loc)).view(-1, *[1] * self.mean.ndim)
        found = self.mean + self.std * q
        return found[0] if isinstance(levels, float | int) else found

    def log_prob(self, y: Any) -> Tensor:
        """Of a multivariate normal."""
        targets = _targets(self.likelihood, y, self.loc)
        return self._joint().log_prob(targets.reshape(self.loc.shape))

    def sample(self, n: int, seed: int | None = 0) -> Tensor:
        """Draws, independent from datum to datum."""
        with seeded(seed):
            drawn = self._joint().sample((n,))
        return drawn[..., 0] if drawn.shape[-1] == 1 else drawn

    def _joint(self) -> torch.distributions.MultivariateNormal:
        noise = torch.diag_embed(self.noise_scale.square().expand_as(self.loc))
        return torch.distributions.MultivariateNormal(self.loc, self.covariance + noise)


def linearised(
    likelihood: Likelihood,
    loc: Float[Tensor, "n outputs"],
    covariance: Float[Tensor, "n outputs outputs"],
    values: Mapping[str, Tensor] | None = None,
    *,
    link: str = "auto",
    samples: int = 64,
    seed: int | None = 0,
) -> Predictive:
    r"""The predictive where the outputs are normal, as those of a linearised network with normal weights are.

    Args:
        likelihood: p(y | f).
        loc: Means of the outputs, (n, outputs).
        covariance: Of the outputs of each datum, (n, outputs, outputs).
        values: Unknowns of the likelihood, as the noise's log-scale, each (1,).
        link: "closed-form" for normal targets; "probit" for classes, f / sqrt(1 + pi v / 8) for outputs f of variance
            v; "monte-carlo" for any; "auto": closed form where there is one, else "monte-carlo".
        samples: Draws of the outputs for "monte-carlo".
        seed: Of these.

    Raises:
        ConfigError: If the likelihood has no such link.

    Source: The evidence framework applied to classification networks, 1992,
    https://doi.org/10.1162/neco.1992.4.5.720.
    """
    # No library factorises matrices in half precision.
    wide = torch.promote_types(loc.dtype, torch.float32)
    loc, covariance = loc.to(wide), covariance.to(wide)
    plain = isinstance(likelihood, NormalLikelihood) and likelihood.noise_scale != "network"
    if link == "auto":
        link = "closed-form" if plain else "monte-carlo"
    if link == "closed-form" and plain:
        _, log_scale = cast(NormalLikelihood, likelihood).split(loc[None], values or {})
        return NormalPredictive(likelihood, loc, covariance, log_scale.exp().reshape(-1))
    if link == "probit" and isinstance(likelihood, BernoulliLikelihood | CategoricalLikelihood):
        variance = covariance.diagonal(dim1=-2, dim2=-1)
        return MixturePredictive(
            likelihood, (loc / (1 + torch.pi / 8 * variance).sqrt())[None], values, point=True
        )
    if link != "monte-carlo":
        raise ConfigError(
            f"link={link!r} isn't one of likelihood={likelihood.name!r}; there are: closed-form (normal, one noise), "
            "probit (categorical, bernoulli), monte-carlo (all)"
        )
    with seeded(seed):
        noise = torch.randn(samples, *loc.shape, dtype=loc.dtype, device=loc.device)
    # Eigenvalues, since a covariance of fewer weights than outputs is singular.
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    root = vectors * eigenvalues.clamp(min=0).sqrt()[:, None]
    outputs = loc + torch.einsum("nij,snj->sni", root, noise)
    spread = {name: value.expand(samples, *value.shape[1:]) for name, value in (values or {}).items()}
    return MixturePredictive(likelihood, outputs, spread)


def _targets(likelihood: Likelihood, y: Any, outputs: Tensor) -> Tensor:
    targets = likelihood.targets(y, outputs.shape[-1]).to(outputs.device)
    if len(targets) != outputs.shape[-2]:
        raise ShapeError(
            f"{outputs.shape[-2]} data were predicted, got {len(targets)} targets; give one for each"
        )
    return targets.to(outputs.dtype) if targets.is_floating_point() else targets


def _levels(levels: float | Sequence[float]) -> Tensor:
    found = torch.as_tensor(levels, dtype=torch.float64).reshape(-1)
    if not bool(((found > 0) & (found < 1)).all()):
        raise ConfigError(f"levels of quantiles lie between 0 and 1, got {levels}")
    return found


def _count_mixture_entropy(
    rate: Float[Tensor, "s m"], log_weights: Float[Tensor, " s"]
) -> Float[Tensor, " m"]:
    """By summation; of rates above ``_MANY``, which are nearly normal, by that of normals."""
    many = rate.amax(0) > _MANY
    found = torch.empty_like(rate[0])
    if bool(many.any()):
        large = rate[:, many].clamp(min=1e-6)
        found[many] = _normal_mixture_entropy(large, large.sqrt(), log_weights)
    rate = rate[:, ~many]
    if rate.numel() == 0:
        return found
    largest = float(rate.max())
    counts = torch.arange(ceil(largest + 12 * largest**0.5 + 20), dtype=rate.dtype, device=rate.device)
    step = max(1, _CELLS // (len(rate) * len(counts)))
    parts: list[Tensor] = []
    for part in rate.split(step, 1):
        log_p = torch.logsumexp(
            Poisson(part[..., None], validate_args=False).log_prob(counts) + log_weights[:, None, None], 0
        )
        parts.append(-(log_p.exp() * log_p).sum(-1))
    found[~many] = torch.cat(parts)
    return found


def _normal_mixture_entropy(
    loc: Float[Tensor, "s m"], scale: Float[Tensor, "s m"], log_weights: Float[Tensor, " s"]
) -> Float[Tensor, " m"]:
    """By the trapezoidal rule, whose error falls faster than any power of its step; half the least scale here.

    Where that were too many steps, as for narrow components far from each other, each component has a grid of its own.
    """
    low, high = (loc - 9 * scale).amin(0), (loc + 9 * scale).amax(0)
    steps = (high - low) / scale.amin(0) * 2 + 1
    # Neither are infinite ones comparable.
    even = steps <= _STEPS
    found = torch.empty_like(loc[0])
    if bool(even.any()):
        most = ceil(float(steps[even].max()))
        found[even] = _on_one_grid(loc[:, even], scale[:, even], log_weights, most)
    if not bool(even.all()):
        found[~even] = _on_own_grids(loc[:, ~even], scale[:, ~even], log_weights)
    return found


def _on_one_grid(
    loc: Float[Tensor, "s m"], scale: Float[Tensor, "s m"], log_weights: Float[Tensor, " s"], steps: int
) -> Float[Tensor, " m"]:
    low, high = (loc - 9 * scale).amin(0), (loc + 9 * scale).amax(0)
    grid = torch.linspace(0, 1, steps, dtype=loc.dtype, device=loc.device)
    found: list[Tensor] = []
    at_once = max(1, _CELLS // (len(loc) * steps))
    for first in range(0, loc.shape[1], at_once):
        part = slice(first, first + at_once)
        points = low[part, None] + (high - low)[part, None] * grid
        cells = Normal(loc[:, part, None], scale[:, part, None], validate_args=False)
        log_p = torch.logsumexp(cells.log_prob(points) + log_weights[:, None, None], 0)
        found.append((-log_p.exp() * log_p).sum(-1) * (high - low)[part] / (steps - 1))
    return torch.cat(found)


def _on_own_grids(
    loc: Float[Tensor, "s m"], scale: Float[Tensor, "s m"], log_weights: Float[Tensor, " s"]
) -> Float[Tensor, " m"]:
    """The mean, over components, of each one's expectation of minus the mixture's log-density."""
    grid = torch.linspace(-9, 9, 73, dtype=loc.dtype, device=loc.device)
    mass = Normal(0.0, 1.0).log_prob(grid).softmax(0)
    found: list[Tensor] = []
    at_once = max(1, _CELLS // (len(loc) ** 2 * len(grid)))
    for first in range(0, loc.shape[1], at_once):
        some, width = loc[:, first : first + at_once], scale[:, first : first + at_once]
        points = some[..., None] + width[..., None] * grid
        cells = Normal(some[:, None, :, None], width[:, None, :, None], validate_args=False)
        log_p = torch.logsumexp(cells.log_prob(points) + log_weights[:, None, None, None], 0)
        found.append(torch.tensordot(log_weights.exp(), -(log_p * mass).sum(-1), 1))
    return torch.cat(found)
