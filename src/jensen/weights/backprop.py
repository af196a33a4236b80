"""Bayes by backprop: a normal over the weights that maximises the evidence lower bound."""

from collections.abc import Mapping
from typing import Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from jensen.errors import ConfigError
from jensen.linalg import LowRankPlusDiagonal
from jensen.seeding import seeded
from jensen.training import Batch, Progress
from jensen.weights.network import FunctionalNetwork, Subset, Values, flat, unflat
from jensen.weights.noisy import noisy, suited
from jensen.weights.normal import NormalPosterior
from jensen.weights.optimise import MemberBatches, optimise
from jensen.weights.options import TrainingOptions
from jensen.weights.priors import NormalPrior, Prior, flat_prior
from jensen.weights.problem import Problem


class BackpropOptions(TrainingOptions):
    """Options of method "bayes-by-backprop"."""

    structure: Literal["mean-field", "low-rank"] = Field(
        "mean-field", description="independent weights, or a covariance of low rank plus a diagonal"
    )
    rank: int = Field(4, gt=0, description="of the low-rank part")
    samples: int = Field(4, gt=0, description="draws of the weights at each step")
    estimator: Literal["auto", "sampling"] = Field(
        "auto",
        description="auto draws outputs in place of weights where that is exact and lowers the variance; sampling "
        "always draws weights",
    )
    initial_scale: float = Field(0.01, gt=0, description="standard deviation of each weight at the start")
    subset: str | tuple[str, ...] = Field(
        "all", description="parameters with a posterior: all, last-layer, or names"
    )
    rest: Literal["fixed", "trained"] = Field(
        "fixed",
        description="whether the other parameters stay as they are or are trained to their most probable",
    )
    temperature: float = Field(
        1.0,
        gt=0,
        description="weight of the KL; other than 1 the result is tempered, no posterior, and says so",
    )


def kl(
    prior: Prior,
    loc: Float[Tensor, " p"],
    log_scale: Float[Tensor, " p"],
    prior_log_scale: Float[Tensor, "*p"],
    factor: Float[Tensor, "r p"] | None = None,
    draws: Float[Tensor, "s p"] | None = None,
) -> Float[Tensor, ""]:
    r"""KL(N(m, diag(s^2) + F^T F) || p), a sum over all weights, in nats.

    In closed form for a normal prior and, where F is None, a Laplace prior; else the mean over draws of the normal of
    log q(w) - log p(w).

    Args:
        prior: Of one tensor with an empty name.
        loc: m.
        log_scale: Logarithms of s.
        prior_log_scale: Logarithms of the prior's scales, or the one of all.
        factor: F; None: none.
        draws: Of the normal, with a path to its parameters; needed where there is no closed form.

    Raises:
        ConfigError: If draws are needed and not given.
    """
    simple = isinstance(prior, NormalPrior) and prior.loc is None and prior_log_scale.ndim == 0
    if simple and factor is None and not prior_log_scale.requires_grad:
        total: Tensor = NormalDivergence.apply(loc, log_scale, prior_log_scale)  # pyright: ignore[reportAssignmentType]
        return total
    cells = prior.kl("", loc, log_scale, prior_log_scale)
    if factor is None:
        if cells is not None:
            return cells.sum()
    elif isinstance(prior, NormalPrior):
        assert cells is not None, "normals have it"
        scaled = factor * (-log_scale).exp()
        inner = torch.eye(len(factor), dtype=factor.dtype, device=factor.device) + scaled @ scaled.T
        trace = (factor.square() * (-2 * prior_log_scale).exp()).sum()
        return cells.sum() + 0.5 * trace - 0.5 * torch.logdet(inner)
    if draws is None:
        raise ConfigError(f"the KL from prior='{prior.name}' has no closed form; give draws of the normal")
    if factor is None:
        deviation = (draws - loc) * (-log_scale).exp()
        log_q = (-0.5 * deviation.square() - log_scale).sum(-1) - 0.918938533204672742 * len(loc)
    else:
        log_q = LowRankPlusDiagonal(factor.T, (2 * log_scale).exp()).log_prob(draws - loc)[0]
    log_p = prior.cells("", draws, prior_log_scale.exp()).sum(-1)
    return (log_q - log_p).mean()


class NormalDivergence(torch.autograd.Function):
    """The sum of KL(N(m, s^2) || N(0, t^2)) over many weights, which keeps no array for its slopes.

    Built of plain operations it would keep five arrays of the size of the weights, more than the optimiser does.
    """

    @staticmethod
    def forward(ctx: Any, loc: Tensor, log_scale: Tensor, prior_log_scale: Tensor) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The sum, of (P,), (P,) and ()."""
        ctx.save_for_backward(loc, log_scale, prior_log_scale)
        squares = (2 * log_scale).exp_().sum() + torch.linalg.vector_norm(loc).square()
        constant = loc.numel() * (prior_log_scale - 0.5) - log_scale.sum()
        return 0.5 * squares * (-2 * prior_log_scale).exp() + constant

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor, Tensor, None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """By m and log s."""
        loc, log_scale, prior_log_scale = ctx.saved_tensors
        precision = (-2 * prior_log_scale).exp()
        by_log_scale = (2 * log_scale).exp_().mul_(precision).sub_(1).mul_(slope)
        return loc * (precision * slope), by_log_scale, None


class Bound:
    r"""The negative evidence lower bound of a normal over the weights, for each datum, from a batch.

    .. math::
        -\frac1B \sum_{b} E_q[\log p(y_b \mid x_b, w)] + \frac{T}{N} KL(q \| p)

    Args:
        problem: Network, data, likelihood and prior.
        options: Of the method.

    Attributes:
        layers: Names of the layers whose outputs are drawn in place of their weights, and how.
    """

    def __init__(self, problem: Problem, options: BackpropOptions) -> None:
        self.problem = problem
        self.options = options
        network = problem.network
        self.weights = network.weights
        self.prior = flat_prior(problem.prior, self.weights)
        self.layers: dict[str, str] = {}
        if options.estimator == "auto" and options.structure == "mean-field":
            self.layers = suited(network, problem.x)
        self.network, self.scales = (
            noisy(network, self.layers) if self.layers else (network, dict[str, str]())
        )
        self.drawn = [name for name in self.weights if name not in self.scales]
        self.buffers = {name: value[None].clone() for name, value in network.buffers.items()}

    def start(self, q: NormalPosterior | None) -> Values:
        """Where training starts: the weights as they are, with small scales, or another normal."""
        loc = flat(self.weights, self.weights)
        values = {**self.problem.likelihood.start(loc)}
        if q is not None:
            return {"loc": q.loc, "log_scale": q.scale.log(), **q.values}
        values |= {"loc": loc, "log_scale": torch.full_like(loc, self.options.initial_scale).log()}
        if self.options.structure == "low-rank":
            noise = torch.randn(self.options.rank, len(loc)).to(loc)
            values["factor"] = noise * self.options.initial_scale / self.options.rank**0.5
        if self.prior.learned:
            values |= {f"prior/{n}": s.log() for n, s in self.problem.prior.scales.items()}
        if self.options.rest == "trained":
            network = self.problem.network
            values |= {f"point/{n}": v for n, v in network.fixed.items() if n in network.free}
        return values

    def prior_log_scale(self, values: Mapping[str, Tensor]) -> Tensor:
        """Logarithms of the prior's scales, (P,), or the one of all, ()."""
        if not self.prior.learned:
            return self.prior.scales[""].log()
        return flat({n: values[f"prior/{n}"].expand_as(v) for n, v in self.weights.items()}, self.weights)

    def __call__(self, values: Values, batch: Batch, progress: Progress) -> Tensor:
        """The loss, (1,)."""
        assert batch.context is not None, "batches have targets"
        loc, log_scale, factor = values["loc"], values["log_scale"], values.get("factor")
        scale = log_scale.exp()
        prior_log_scale = self.prior_log_scale(values)
        closed = isinstance(self.prior, NormalPrior) or (factor is None and self.prior.name == "laplace")
        draws = None
        if self.drawn or not closed:
            draws = loc + scale * torch.randn(
                self.options.samples, len(loc), dtype=loc.dtype, device=loc.device
            )
            if factor is not None:
                noise = torch.randn(self.options.samples, len(factor), dtype=loc.dtype, device=loc.device)
                draws = draws + noise @ factor
        outputs = self.outputs(values, scale, draws, batch.x)
        likelihood = self.problem.likelihood.log_prob(
            outputs, batch.context, {n: v[None] for n, v in values.items() if n.startswith("likelihood.")}
        )
        divergence = kl(self.prior, loc, log_scale, prior_log_scale, factor, draws)
        loss = -likelihood.mean() + self.options.temperature * divergence / len(self.problem)
        points = {n.removeprefix("point/"): v[None] for n, v in values.items() if n.startswith("point/")}
        if points:
            full = self.problem.full_prior
            assert full is not None, "the prior of the rest is kept"
            loss = loss - full.restricted(points).log_prob(points)[0] / len(self.problem)
        return loss[None]

    def outputs(
        self, values: Values, scale: Tensor, draws: Tensor | None, x: Tensor
    ) -> Float[Tensor, "s n k"]:
        """The network's outputs for some draws."""
        samples = self.options.samples
        points = {n.removeprefix("point/"): v for n, v in values.items() if n.startswith("point/")}
        if not self.layers:
            assert draws is not None, "all weights are drawn"
            spread = {n: v.expand(samples, *v.shape) for n, v in points.items()}
            sets = {**unflat(draws, self.weights), **spread}
            return self.network(sets, x, self._each_buffer(samples), training=True)
        # Noise of a flipout layer is one draw for all samples, whose signs differ from datum to datum.
        means, scales = unflat(values["loc"], self.weights), unflat(scale, self.weights)
        single = {n: means[n] for n in self.scales} | {b: scales[n] for n, b in self.scales.items()} | points
        if not self.drawn:
            rows = x.repeat(samples, *[1] * (x.ndim - 1))
            buffers = {n: b[0] for n, b in self.buffers.items()}
            return self.network.single(single, rows, buffers, training=True).unflatten(0, (samples, len(x)))
        assert draws is not None, "some weights are drawn"
        drawn = unflat(draws, self.weights)
        sets = {n: v.expand(samples, *v.shape) for n, v in single.items()} | {n: drawn[n] for n in self.drawn}
        return self.network(sets, x, self._each_buffer(samples), training=True)

    def _each_buffer(self, samples: int) -> Values | None:
        """A copy of the buffers for each draw; the first one's are kept, as those of a plain network would be."""
        if not self.buffers:
            return None
        first = {n: b.expand(samples, *b.shape[1:]).clone() for n, b in self.buffers.items()}
        self.buffers = {n: b[:1] for n, b in first.items()}
        return first


def fit_backprop(
    problem: Problem, options: BackpropOptions, start: NormalPosterior | None = None
) -> NormalPosterior:
    """Fits a normal over the weights by stochastic gradients of the evidence lower bound.

    Args:
        problem: Network, data, likelihood and prior.
        options: How.
        start: A normal to start from, as when learning online.

    Returns:
        The normal. Its history has the negative bound of each epoch in nats for each datum; where ``temperature`` isn't
        1 it isn't a bound, and is called ``tempered_loss``.

    Raises:
        FitError: If training can't go on.
        ConfigError: If a parameter that is named doesn't exist.

    Source: Weight uncertainty in neural networks, 2015, https://arxiv.org/abs/1505.05424.
    """
    subset: Subset = options.subset if isinstance(options.subset, str) else list(options.subset)
    if subset != "all":
        problem = problem.restricted(subset)
    bound = Bound(problem, options)
    batches = MemberBatches(problem.x, problem.y, options.batch_size, problem.seed)
    with seeded(problem.seed):
        place = [bound.start(start)]
    # Handed over, so that training doesn't hold what it starts from.
    values, history = optimise(place.pop(), bound, batches, options, problem, sets=False)
    name = "negative_elbo" if options.temperature == 1 else "tempered_loss"
    network = finished(problem.network, values, bound)
    prior = problem.prior
    if prior.learned:
        prior = prior.with_scales({n: values[f"prior/{n}"].exp() for n in prior.scales})
    return NormalPosterior(
        values["loc"],
        values["log_scale"].exp(),
        network,
        problem.likelihood,
        prior,
        "bayes-by-backprop",
        options.model_dump(),
        {name: history["loss"]},
        values.get("factor"),
        {n: v for n, v in values.items() if n.startswith("likelihood.")},
    )


def finished(network: FunctionalNetwork, values: Mapping[str, Tensor], bound: Bound) -> FunctionalNetwork:
    """The network with what was trained beside the normal."""
    points = {n.removeprefix("point/"): v for n, v in values.items() if n.startswith("point/")}
    return network.changed(points, buffers={n: b[0] for n, b in bound.buffers.items()})
