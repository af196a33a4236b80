"""Small models with exact answers, which bounds, gradients and evaluation are tested against.

All is in float64. Most parameters may have a leading dimension of copies, one for each datum of the batch
(see ``copied``): one backward pass then gives an independent estimate of a gradient for each datum, and their
spread is the standard error that Monte Carlo tests gate on.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, log, pi

import torch
from torch import Tensor, nn
from torch.distributions import (
    Bernoulli,
    Distribution,
    Independent,
    MultivariateNormal,
    Normal,
    kl_divergence,
)

from jensen.bounds import PATHWISE, Deferred, Draw, Samples, Terms
from jensen.bounds.gradients import Bound, GradientEstimator
from jensen.data import toys
from jensen.distributions import Conditional, given
from jensen.likelihoods import Bernoulli as BernoulliLikelihood
from jensen.likelihoods import Likelihood
from jensen.likelihoods import Normal as NormalLikelihood
from jensen.models import LatentVariableModel
from jensen.nets import MLP
from jensen.posteriors import ClassPosterior
from jensen.priors import ClassPrior, StandardNormal
from jensen.seeding import seeded
from jensen.training import Batch

DTYPE = torch.float64


def assert_mean(draws: Tensor, exact: Tensor | float, errors: float = 4.0) -> None:
    """The mean over the first dimension lies within some standard errors, measured, of the exact value."""
    exact = torch.as_tensor(exact, dtype=draws.dtype)
    mean, standard_error = draws.mean(0), draws.std(0) / len(draws) ** 0.5
    # Where the draws don't vary what is left is rounding.
    allowed = errors * standard_error + 1e-9 * (1 + exact.abs())
    distance = (mean - exact).abs()
    assert (distance <= allowed).all(), (
        f"means {mean.tolist()}, exact {exact.tolist()}, standard errors {standard_error.tolist()}"
    )


def copied(model: nn.Module, copies: int) -> nn.Module:
    """A copy of the model, every parameter of which has a leading dimension of copies."""
    model = copy.deepcopy(model)
    for part in model.modules():
        for name, parameter in list(part.named_parameters(recurse=False)):
            repeated = parameter.detach().expand(copies, *parameter.shape).clone()
            setattr(part, name, nn.Parameter(repeated))
    return model


def as_model(model: nn.Module, latent_dim: int) -> nn.Module:
    """The same with what the protocol of models asks for beside its terms; its encoder says nothing."""

    def encode(x: Tensor, context: Tensor | None = None, observed: Tensor | None = None) -> Distribution:
        return Independent(Normal(torch.zeros(len(x), latent_dim, dtype=DTYPE), 1.0), 1)

    def nothing(*arguments: object) -> Tensor:
        raise NotImplementedError

    model.encode, model.decode, model.sample = encode, nothing, nothing
    return model


def repeated(batch: Batch, copies: int) -> Batch:
    """A batch of one datum, as often as there are copies of the parameters."""
    x, context, observed = (None if part is None else part.expand(copies, *part.shape[1:]) for part in batch)
    assert x is not None
    return Batch(x, context, observed)


def gradient_draws(
    model: nn.Module,
    batch: Batch,
    estimator: GradientEstimator,
    bound: Bound,
    samples: Samples,
    copies: int,
    seed: int = 0,
) -> dict[str, Tensor]:
    """Independent estimates of a bound's gradient, one a copy.

    Args:
        model: A model whose parameters may have a leading dimension of copies.
        batch: One datum.
        estimator: How the gradient is estimated.
        bound: Of which bound.
        samples: Draws for each estimate.
        copies: Number of estimates R.
        seed: Of the draws.

    Returns:
        For each parameter, by its name, (R, *shape).
    """
    model = copied(model, copies)
    with seeded(seed):
        surrogate = estimator(model, repeated(batch, copies), bound, samples).surrogate
    return gradients(surrogate.sum(), model)


def gradients(value: Tensor, model: nn.Module) -> dict[str, Tensor]:
    """The gradient of a number in each parameter, zeros where it doesn't depend on it."""
    names, parameters = zip(*model.named_parameters(), strict=True)
    found = torch.autograd.grad(value, parameters, allow_unused=True)
    return {
        name: torch.zeros_like(parameter) if gradient is None else gradient
        for name, parameter, gradient in zip(names, parameters, found, strict=True)
    }


class LinearNormal(Conditional):
    """N(weight context + bias, scale^2 I), all learned."""

    def __init__(self, weight: Tensor, bias: Tensor, scale: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)
        self.bias = nn.Parameter(bias)
        self.log_scale = nn.Parameter(torch.tensor(log(scale), dtype=DTYPE))

    def forward(self, context: Tensor | None = None) -> Independent:
        loc = (self.weight @ given(context, self)[..., None])[..., 0] + self.bias
        return Independent(Normal(loc, self.log_scale.exp()[..., None], validate_args=False), 1)


class LinearGaussianPosterior(Conditional):
    """The exact posterior of a linear-Gaussian model, moved by ``shift`` and stretched by exp(log_stretch).

    Its context is the datum, joined with the mask where cells may be missing, joined with the context if
    there is one. The model's parameters are kept as they are now, so that only shift and stretch are the
    posterior's own.
    """

    def __init__(
        self,
        prior_weight: Tensor,
        weight: Tensor,
        bias: Tensor,
        scale: float,
        shift: float,
        log_stretch: float,
        masked: bool,
    ) -> None:
        super().__init__()
        latent_dim = prior_weight.shape[0]
        self.masked = masked
        self.scale = scale
        self.register_buffer("prior_weight", prior_weight.clone())
        self.register_buffer("weight", weight[:, :latent_dim].clone())
        self.register_buffer("context_weight", weight[:, latent_dim:].clone())
        self.register_buffer("bias", bias.clone())
        self.shift = nn.Parameter(torch.full((latent_dim,), shift, dtype=DTYPE))
        self.log_stretch = nn.Parameter(torch.full((latent_dim,), log_stretch, dtype=DTYPE))

    def exact(self, context: Tensor) -> MultivariateNormal:
        """The posterior p(z | x_observed, context), neither moved nor stretched."""
        data_dim, latent_dim = self.weight.shape
        x, rest = context[..., :data_dim], context[..., data_dim:]
        mask = torch.ones_like(x)
        if self.masked:
            mask, rest = rest[..., :data_dim], rest[..., data_dim:]
        residual = (x - self.bias - rest @ self.context_weight.mT) * mask
        # Row d of the weight counts only where cell d was observed.
        precision = (self.weight.mT * mask[..., None, :]) @ self.weight / self.scale**2
        covariance = torch.linalg.inv(precision + torch.eye(latent_dim, dtype=DTYPE))
        from_data = residual @ self.weight / self.scale**2
        loc = (covariance @ (from_data + rest @ self.prior_weight.mT)[..., None])[..., 0]
        return MultivariateNormal(loc, scale_tril=torch.linalg.cholesky(covariance), validate_args=False)

    def forward(self, context: Tensor | None = None) -> MultivariateNormal:
        exact = self.exact(given(context, self))
        scale_tril = exact.scale_tril * self.log_stretch.exp()[..., None, :]
        return MultivariateNormal(exact.loc + self.shift, scale_tril=scale_tril, validate_args=False)


@dataclass(frozen=True)
class LinearGaussianBed:
    """z ~ N(B c, I), x | z ~ N(W z + A c + mu, s^2 I), of which some cells may be missing.

    Attributes:
        model: The model, whose posterior may be wrong.
        batch: Data.
    """

    model: LatentVariableModel
    batch: Batch

    def _prior_loc(self) -> Tensor:
        x, context, _ = self.batch
        if context is None:
            return torch.zeros(len(x), self.model.posterior.weight.shape[-1], dtype=DTYPE)
        return self.model.prior(context).base_dist.loc

    def log_evidence(self) -> Tensor:
        """log p(x_observed | context) of each datum, from the marginal normal of its observed cells."""
        x, context, observed = self.batch
        prior_loc = self._prior_loc()
        weight = self.model.likelihood.weight[:, : prior_loc.shape[-1]]
        loc = self.model.decode(prior_loc, context).base_dist.loc
        noise = (2 * self.model.likelihood.log_scale).exp()
        covariance = weight @ weight.mT + noise * torch.eye(x.shape[-1], dtype=DTYPE)
        result = []
        for n in range(len(x)):
            cells = torch.arange(x.shape[-1]) if observed is None else observed[n].nonzero()[:, 0]
            marginal = MultivariateNormal(loc[n, cells], covariance[cells][:, cells])
            result.append(marginal.log_prob(x[n, cells]))
        return torch.stack(result)

    def encoder_input(self) -> Tensor:
        """What the model hands to its posterior."""
        x, context, observed = self.batch
        parts = [x if observed is None else torch.where(observed, x, 0.0)]
        if self.model.mask_as_input:
            parts.append(torch.ones_like(x) if observed is None else observed.to(DTYPE))
        return torch.cat(parts if context is None else [*parts, context], -1)

    def posterior(self) -> MultivariateNormal:
        """p(z | x_observed, context)."""
        return self.model.posterior.exact(self.encoder_input())

    def gap(self) -> Tensor:
        """KL(q || p(z | x_observed, context)) of each datum."""
        return kl_divergence(self.model.posterior(self.encoder_input()), self.posterior())

    def elbo(self) -> Tensor:
        """The ELBO of each datum in closed form, with a gradient in all parameters."""
        x, context, observed = self.batch
        q = self.model.posterior(self.encoder_input())
        prior_loc = self._prior_loc()
        weight = self.model.likelihood.weight[:, : prior_loc.shape[-1]]
        covariance = q.scale_tril @ q.scale_tril.mT
        # NaN under the mask would reach the gradient even where it isn't selected.
        x = x if observed is None else torch.where(observed, x, 0.0)
        error = x - self.model.decode(q.loc, context).base_dist.loc
        spread = torch.einsum("di,nij,dj->nd", weight, covariance, weight)
        log_scale = self.model.likelihood.log_scale
        cells = -0.5 * (log(2 * pi) + 2 * log_scale + (error**2 + spread) * (-2 * log_scale).exp())
        if observed is not None:
            cells = torch.where(observed, cells, 0.0)
        trace = covariance.diagonal(dim1=-2, dim2=-1).sum(-1)
        squares = (q.loc - prior_loc).square().sum(-1)
        kl = 0.5 * (trace + squares - q.loc.shape[-1] - torch.logdet(covariance))
        return cells.sum(-1) - kl


def linear_gaussian(
    *,
    n: int = 6,
    data_dim: int = 5,
    latent_dim: int = 2,
    context_dim: int = 0,
    missing: float = 0.0,
    shift: float = 0.0,
    log_stretch: float = 0.0,
    seed: int = 0,
) -> LinearGaussianBed:
    """A linear-Gaussian model with the exact posterior, or a wrong one.

    Args:
        n: Number of data.
        data_dim: Cells of a datum.
        latent_dim: Number of latents.
        context_dim: Numbers in the context, which moves both the latents' and the data's means; 0 for none.
        missing: Part of the cells that are missing.
        shift: By how much the posterior's mean is wrong.
        log_stretch: By how much its scale is wrong, in logs.
        seed: The seed.
    """
    noise_scale = 0.5
    problem = toys.linear_gaussian(n, data_dim, latent_dim, noise_scale, seed)
    with seeded(seed + 1):
        context = torch.randn(n, context_dim, dtype=DTYPE)
        prior_weight = torch.randn(latent_dim, context_dim, dtype=DTYPE)
        context_weight = torch.randn(data_dim, context_dim, dtype=DTYPE)
        observed = torch.rand(n, data_dim) >= missing
    x = problem.x + context @ (problem.weight @ prior_weight + context_weight).mT
    weight = torch.cat([problem.weight, context_weight], -1)
    prior: Conditional = StandardNormal(latent_dim).double()
    if context_dim:
        prior = LinearNormal(prior_weight, torch.zeros(latent_dim, dtype=DTYPE), 1.0)
    model = LatentVariableModel(
        prior,
        LinearGaussianPosterior(
            prior_weight, weight, problem.mean, noise_scale, shift, log_stretch, masked=missing > 0
        ),
        LinearNormal(weight, problem.mean, noise_scale),
        mask_as_input=missing > 0,
    )
    if missing:
        # What a missing cell holds must not matter.
        x = torch.where(observed, x, torch.nan)
    return LinearGaussianBed(model, Batch(x, context if context_dim else None, observed if missing else None))


class TwoLayerChain(nn.Module):
    """z2 ~ N(0, I), z1 | z2 ~ N(A z2 + a, s1^2 I), x | z1 ~ N(B z1 + b, s^2 I).

    Its posterior q(z2|x) q(z1|z2, x) is exact but for the shifts of its two means. Groups are "z2", "z1".
    """

    layer_scale = 0.7
    noise_scale = 0.5

    def __init__(
        self, shift: float = 0.0, data_dim: int = 4, dims: tuple[int, int] = (3, 2), seed: int = 0
    ) -> None:
        super().__init__()
        first, second = dims
        with seeded(seed):
            self.upper_weight = nn.Parameter(torch.randn(first, second, dtype=DTYPE))
            self.upper_bias = nn.Parameter(torch.randn(first, dtype=DTYPE))
            self.lower_weight = nn.Parameter(torch.randn(data_dim, first, dtype=DTYPE))
            self.lower_bias = nn.Parameter(torch.randn(data_dim, dtype=DTYPE))
        self.shift1 = nn.Parameter(torch.full((first,), shift, dtype=DTYPE))
        self.shift2 = nn.Parameter(torch.full((second,), shift, dtype=DTYPE))
        weight1, weight2 = self.lower_weight.detach(), self.upper_weight.detach()
        self.register_buffer("upper_gain", weight1 @ weight2)
        self.register_buffer("centre", weight1 @ self.upper_bias.detach() + self.lower_bias.detach())
        # Given z2, and so without z1, the data have this covariance.
        given_z2 = self.layer_scale**2 * weight1 @ weight1.mT + self.noise_scale**2 * torch.eye(
            data_dim, dtype=DTYPE
        )
        self.register_buffer("solved", torch.linalg.solve(given_z2, self.upper_gain))
        self.register_buffer("precision2", torch.eye(second, dtype=DTYPE) + self.upper_gain.mT @ self.solved)
        precision1 = torch.eye(first, dtype=DTYPE) / self.layer_scale**2
        self.register_buffer("precision1", precision1 + weight1.mT @ weight1 / self.noise_scale**2)
        self.register_buffer(
            "exact", torch.cat([p.detach().flatten() for p in (self.upper_weight, self.upper_bias)])
        )
        self.register_buffer("lower", weight1.clone())
        self.register_buffer("offset", self.lower_bias.detach().clone())

    def log_evidence(self, x: Tensor) -> Tensor:
        """log p(x) of each datum."""
        gain = self.lower_weight @ self.upper_weight
        noise = self.noise_scale**2 * torch.eye(x.shape[-1], dtype=DTYPE)
        layer = self.layer_scale**2 * self.lower_weight @ self.lower_weight.mT
        loc = self.lower_weight @ self.upper_bias + self.lower_bias
        return MultivariateNormal(loc, gain @ gain.mT + layer + noise).log_prob(x)

    def gap(self) -> Tensor:
        """KL(q || p(z1, z2 | x)): that of z2, plus that of z1 given z2, which is the same for every z2."""
        return 0.5 * (
            self.shift2 @ self.precision2 @ self.shift2 + self.shift1 @ self.precision1 @ self.shift1
        )

    def sample(self, n: int, seed: int) -> Tensor:
        """Data."""
        with seeded(seed), torch.no_grad():
            z2 = torch.randn(n, self.upper_weight.shape[1], dtype=DTYPE)
            z1 = z2 @ self.upper_weight.mT + self.upper_bias
            z1 = z1 + self.layer_scale * torch.randn_like(z1)
            x = z1 @ self.lower_weight.mT + self.lower_bias
            return x + self.noise_scale * torch.randn_like(x)

    def _top(self, x: Tensor, shift: Tensor) -> MultivariateNormal:
        loc = torch.linalg.solve(self.precision2, ((x - self.centre) @ self.solved).mT).mT + shift
        return MultivariateNormal(loc, precision_matrix=self.precision2, validate_args=False)

    def _bottom(self, x: Tensor, z2: Tensor, shift: Tensor) -> MultivariateNormal:
        first, second = self.lower.shape[1], z2.shape[-1]
        weight, bias = self.exact[: first * second].reshape(first, second), self.exact[first * second :]
        target = (z2 @ weight.mT + bias) / self.layer_scale**2
        target = target + (x - self.offset) @ self.lower / self.noise_scale**2
        loc = (torch.linalg.inv(self.precision1) @ target[..., None])[..., 0] + shift
        return MultivariateNormal(loc, precision_matrix=self.precision1, validate_args=False)

    def terms(
        self,
        x: Tensor,
        context: Tensor | None = None,
        observed: Tensor | None = None,
        samples: Samples = 1,
        *,
        draw: Draw = PATHWISE,
        encoded: Distribution | None = None,
    ) -> Terms:
        assert isinstance(samples, int)

        def drawn(q: Distribution, shape: tuple[int, ...]) -> Tensor:
            return q.rsample(shape) if draw.reparameterised else q.sample(shape)

        def scored(shift: Tensor) -> Tensor:
            return shift if draw.score else shift.detach()

        q2 = self._top(x, self.shift2)
        z2 = drawn(q2, (samples,))
        q1 = self._bottom(x, z2, self.shift1)
        z1 = drawn(q1, ())
        p2 = MultivariateNormal(torch.zeros_like(z2), torch.eye(z2.shape[-1], dtype=DTYPE))
        loc = (self.upper_weight @ z2[..., None])[..., 0] + self.upper_bias
        p1 = MultivariateNormal(loc, self.layer_scale**2 * torch.eye(loc.shape[-1], dtype=DTYPE))
        mean = (self.lower_weight @ z1[..., None])[..., 0] + self.lower_bias
        return Terms(
            log_likelihood=Independent(Normal(mean, self.noise_scale), 1).log_prob(x),
            log_prior={"z2": p2.log_prob(z2), "z1": p1.log_prob(z1)},
            log_posterior={
                "z2": self._top(x, scored(self.shift2)).log_prob(z2),
                # z2's own path stays: only the parameters of q are cut off.
                "z1": self._bottom(x, z2, scored(self.shift1)).log_prob(z1),
            },
            kl=Deferred(
                {
                    "z2": lambda: kl_divergence(q2, _first(p2))[None] if draw.closed_form else None,
                    "z1": lambda: kl_divergence(q1, p1) if draw.closed_form else None,
                }
            ),
            latents={"z2": z2, "z1": z1},
        )


def _first(distribution: MultivariateNormal) -> MultivariateNormal:
    """Without the samples' dimension, along which all are the same."""
    return MultivariateNormal(distribution.loc[0], scale_tril=distribution.scale_tril[0])


class _ClassLogits(nn.Module):
    """log p(x, z = e_k) for each class, flattened by a temperature: exact at 1."""

    def __init__(self, log_joint: Callable[[Tensor], Tensor], temperature: float) -> None:
        super().__init__()
        self.log_joint = log_joint
        self.log_temperature = nn.Parameter(torch.tensor(log(temperature), dtype=DTYPE))

    def forward(self, x: Tensor) -> Tensor:
        return self.log_joint(x).detach() / self.log_temperature.exp()[..., None]


@dataclass(frozen=True)
class ClassBed:
    """A class latent that can be enumerated.

    Attributes:
        model: The model, whose posterior may be wrong.
        batch: Data.
    """

    model: LatentVariableModel
    batch: Batch

    def log_joint(self, x: Tensor) -> Tensor:
        """log p(x, z = e_k), (n, K), in elementary terms."""
        table = self.model.likelihood.network.layers[0].weight.mT
        x = x[:, None]
        if isinstance(self.model.likelihood, BernoulliLikelihood):
            cells = x * table - torch.log1p(table.exp())
        else:
            cells = -0.5 * (x - table) ** 2 - 0.5 * log(2 * pi)
        return torch.log_softmax(self.model.prior.logits, -1) + cells.sum(-1)

    def log_evidence(self) -> Tensor:
        """log p(x) of each datum, the classes summed out."""
        return torch.logsumexp(self.log_joint(self.batch.x), -1)

    def gap(self) -> Tensor:
        """KL(q || p(z|x)) of each datum."""
        q = torch.log_softmax(self.model.posterior.network(self.batch.x), -1)
        p = torch.log_softmax(self.log_joint(self.batch.x), -1)
        return (q.exp() * (q - p)).sum(-1)


def class_latent(
    likelihood: str = "normal", *, classes: int = 4, data_dim: int = 3, n: int = 5, temperature: float = 1.0
) -> ClassBed:
    """A mixture with a class as its latent.

    Args:
        likelihood: "normal" with unit scale or "bernoulli".
        classes: Number of classes K.
        data_dim: Cells of a datum.
        n: Number of data.
        temperature: That of the posterior, which is exact at 1.
    """
    with seeded(3):
        table = torch.randn(data_dim, classes, dtype=DTYPE)
        logits = torch.randn(classes, dtype=DTYPE)
        x = torch.randn(n, data_dim, dtype=DTYPE)
        network = MLP((classes,), (1, data_dim), hidden=()).double()
    with torch.no_grad():
        network.layers[0].weight.copy_(table)
        network.layers[0].bias.zero_()
    # The family's log-scale of 1 is exactly zero, also after its detour through float32.
    part: Likelihood = NormalLikelihood(network, (data_dim,), scale=1.0).double()
    if likelihood == "bernoulli":
        x = (x > 0).to(DTYPE)
        part = BernoulliLikelihood(network, (data_dim,))
    prior = ClassPrior(classes).double()
    with torch.no_grad():
        prior.logits.copy_(logits)
    posterior = ClassPosterior(nn.Identity())
    bed = ClassBed(LatentVariableModel(prior, posterior, part), Batch(x))
    posterior.network = _ClassLogits(bed.log_joint, temperature)
    return bed


class SharedRegression(nn.Module):
    """y_n | w ~ N(w . c_n, s^2) with one w ~ N(0, I) for all N data; the features c are the context.

    Its posterior q(w) is exact but for the shift of its mean and a stretch.
    """

    noise_scale = 0.6

    def __init__(
        self, n: int = 23, features: int = 3, shift: float = 0.0, log_stretch: float = 0.0, seed: int = 0
    ) -> None:
        super().__init__()
        with seeded(seed):
            c = torch.randn(n, features, dtype=DTYPE)
            y = c @ torch.randn(features, dtype=DTYPE) + self.noise_scale * torch.randn(n, dtype=DTYPE)
        self.data = Batch(y[:, None], c)
        precision = torch.eye(features, dtype=DTYPE) + c.mT @ c / self.noise_scale**2
        loc = torch.linalg.solve(precision, c.mT @ y / self.noise_scale**2)
        self.exact = MultivariateNormal(loc, precision_matrix=precision)
        self.shift = nn.Parameter(torch.full((features,), shift, dtype=DTYPE))
        self.log_stretch = nn.Parameter(torch.full((features,), log_stretch, dtype=DTYPE))

    def posterior(self) -> MultivariateNormal:
        """q(w)."""
        return MultivariateNormal(
            self.exact.loc + self.shift, scale_tril=self.exact.scale_tril * self.log_stretch.exp()
        )

    def log_evidence(self) -> Tensor:
        """log p(y_1, ..., y_N), one number for the whole data set."""
        y, c = self.data.x[:, 0], self.data.context
        noise = self.noise_scale**2 * torch.eye(len(y), dtype=DTYPE)
        return MultivariateNormal(torch.zeros_like(y), c @ c.mT + noise).log_prob(y)

    def gap(self) -> Tensor:
        """KL(q(w) || p(w | y_1, ..., y_N))."""
        return kl_divergence(self.posterior(), self.exact)

    def terms(
        self,
        x: Tensor,
        context: Tensor | None = None,
        observed: Tensor | None = None,
        samples: Samples = 1,
        *,
        draw: Draw = PATHWISE,
        encoded: Distribution | None = None,
    ) -> Terms:
        assert isinstance(samples, int)
        assert context is not None
        q = self.posterior()
        p = MultivariateNormal(torch.zeros_like(self.exact.loc), torch.eye(len(self.exact.loc), dtype=DTYPE))
        w = q.rsample((samples,)) if draw.reparameterised else q.sample((samples,))
        return Terms(
            log_likelihood=Normal(w @ context.mT, self.noise_scale).log_prob(x[:, 0]),
            log_prior={"w": p.log_prob(w)[:, None]},
            log_posterior={"w": q.log_prob(w)[:, None]},
            kl={"w": kl_divergence(q, p).reshape(1, 1) if draw.closed_form else None},
            latents={"w": w[:, None]},
            scale=len(self.data.x) / len(x),
            shared=frozenset({"w"}),
        )


class _BinaryLatents(Conditional):
    """Independent binary latents with logits of their own."""

    def __init__(self, logits: Tensor) -> None:
        super().__init__()
        self.logits = nn.Parameter(logits)

    def forward(self, context: Tensor | None = None) -> Independent:
        return Independent(Bernoulli(logits=self.logits, validate_args=False), 1)


class _BinaryPosterior(_BinaryLatents):
    """The same, one set of logits for each datum of the batch."""

    def forward(self, context: Tensor | None = None) -> Independent:
        logits = self.logits.expand(len(given(context, self)), -1)
        return Independent(Bernoulli(logits=logits, validate_args=False), 1)


@dataclass(frozen=True)
class BinaryBed:
    """Three binary latents and one datum: small enough to sum over all that S draws can be.

    Attributes:
        model: The model; its posterior's logits are wrong.
        batch: The datum.
    """

    model: LatentVariableModel
    batch: Batch

    def states(self) -> Tensor:
        """All values of the latents, (8, 3)."""
        return torch.cartesian_prod(*[torch.tensor([0.0, 1.0], dtype=DTYPE)] * 3)

    def log_joint(self) -> Tensor:
        """log p(x, z) at all states, (8,)."""
        z = self.states()
        return self.model.prior().log_prob(z) + self.model.decode(z).log_prob(self.batch.x)

    def log_evidence(self) -> Tensor:
        """log p(x)."""
        return torch.logsumexp(self.log_joint(), 0)

    def expected(self, bound: Callable[[Tensor, Tensor, Tensor], Tensor], samples: int) -> Tensor:
        """The expectation of a bound over all S-tuples of states, with a gradient in all parameters.

        Args:
            bound: From log p(x|z), log p(z), log q(z), each (S, tuples), to (tuples,).
            samples: Number of draws S; 8^S tuples are summed.
        """
        z = self.states()
        log_q = self.model.posterior(self.batch.x).log_prob(z)
        log_p = self.model.prior().log_prob(z)
        log_likelihood = self.model.decode(z).log_prob(self.batch.x)
        tuples = torch.cartesian_prod(*[torch.arange(8)] * samples).reshape(-1, samples).mT
        values = bound(log_likelihood[tuples], log_p[tuples], log_q[tuples])
        return (log_q[tuples].sum(0).exp() * values).sum()


def binary_latents() -> BinaryBed:
    """Three binary latents, a normal likelihood, one datum."""
    with seeded(5):
        weight = torch.randn(4, 3, dtype=DTYPE)
        x = torch.randn(1, 4, dtype=DTYPE)
        prior, posterior = torch.randn(2, 3, dtype=DTYPE).unbind()
    model = LatentVariableModel(
        _BinaryLatents(prior),
        _BinaryPosterior(posterior),
        LinearNormal(weight, torch.zeros(4, dtype=DTYPE), 0.8),
    )
    return BinaryBed(model, Batch(x))


def expected_log_mean(log_mass: Tensor, log_weight: Tensor, samples: int) -> Tensor:
    r"""E log of the mean of S independent weights, each of which takes few values.

    From :math:`\log X = \int_0^\infty (e^{-t} - e^{-tX}) dt / t` and the independence of the draws,

    .. math::
        E \log \tfrac1S \sum_s w_s
        = c + \int \left(e^{-e^u} - \left(E e^{-e^u w / (S e^c)}\right)^S\right) du

    for any c: an integral over a line, however many samples there are. Its integrand is analytic within pi / 2
    of the line and vanishes at both ends, so the trapezoidal rule with step h is off by about exp(-pi^2 / h):
    for h = 0.1 that is far below rounding.

    Args:
        log_mass: Log-probabilities of the values, (values,).
        log_weight: Their log-weights, (values,).
        samples: Number of draws S.

    Returns:
        Nats, with a gradient in both.
    """
    centre = torch.logsumexp(log_mass + log_weight, 0).detach()
    log_weight = log_weight - centre - log(samples)
    # To the left both exponentials are one; to the right the smallest weight has to be extinguished too.
    right = 40.0 + max(0.0, -float(log_weight.detach().min()))
    nodes = torch.linspace(-40.0, right, ceil((right + 40.0) / 0.1), dtype=DTYPE)
    width = (right + 40.0) / (len(nodes) - 1)
    # Above 7 what is exponentiated twice is zero in float64, and its gradient too.
    transform = log_mass.exp() @ torch.exp(-torch.exp((nodes + log_weight[:, None]).clamp(max=7.0)))
    integrand = torch.exp(-torch.exp(nodes.clamp(max=7.0))) - transform**samples
    return centre + width * integrand.sum()


def expected_iwae(bed: LinearGaussianBed | BinaryBed, samples: int) -> Tensor:
    """The expectation of the importance-weighted bound of one datum, exact but for rounding.

    Args:
        bed: With one datum, and one latent if it is normal.
        samples: Number of draws S.

    Returns:
        Nats, with a gradient in all parameters.
    """
    x, model = bed.batch.x, bed.model
    if isinstance(bed, BinaryBed):
        log_q = model.posterior(x).log_prob(bed.states())
        return expected_log_mean(log_q, bed.log_joint() - log_q, samples)
    # Draws are z = loc + scale * noise; the trapezoidal rule over the noise loses the mass beyond 9, 2e-19.
    q = model.posterior(bed.encoder_input())
    noise = torch.arange(-9.0, 9.005, 0.01, dtype=DTYPE)[:, None, None]
    z = q.loc + q.scale_tril[..., 0] * noise
    log_weight = model.decode(z).log_prob(x) + model.prior().log_prob(z) - q.log_prob(z)
    return expected_log_mean(torch.log_softmax(-0.5 * noise[:, 0, 0] ** 2, 0), log_weight[:, 0], samples)
