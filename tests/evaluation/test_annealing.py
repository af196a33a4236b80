from math import sqrt

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Independent,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    Uniform,
    kl_divergence,
)

from jensen.data import toys
from jensen.distributions import Conditional
from jensen.errors import BoundError, ConfigError, ShapeError
from jensen.evaluation import Annealing, annealing_pass, bound_curve, bracket, evidence
from jensen.evaluation.hmc import move, state_at
from jensen.likelihoods import Normal as NormalLikelihood
from jensen.models import LatentVariableModel
from jensen.priors import StandardNormal
from testbed import (
    DTYPE,
    LinearGaussianBed,
    SharedRegression,
    TwoLayerChain,
    as_model,
    assert_mean,
    class_latent,
    linear_gaussian,
)

FEW = Annealing(steps=10, leaps=3)
VARIANTS = {"plain": {}, "context": {"context_dim": 2}, "masked": {"missing": 0.4}}


def passed(bed: LinearGaussianBed, chains: int, annealing: Annealing, **options):
    x, context, observed = bed.batch
    return annealing_pass(bed.model, x, chains, annealing, context=context, observed=observed, **options)


class MeanField(Conditional):
    """Independent normals around the exact posterior mean."""

    def __init__(self, problem: toys.LinearGaussian) -> None:
        super().__init__()
        self.problem = problem

    def forward(self, context: Tensor | None = None) -> Independent:
        exact = self.problem.posterior(context)
        scale = exact.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()
        return Independent(Normal(exact.mean, scale), 1)


class Linear(torch.nn.Module):
    """The decoder of a toy problem."""

    def __init__(self, problem: toys.LinearGaussian) -> None:
        super().__init__()
        self.problem = problem

    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.problem.weight.mT + self.problem.mean).unsqueeze(-2)


def mean_field(latent_dim: int, data_dim: int) -> tuple[toys.LinearGaussian, LatentVariableModel]:
    problem = toys.linear_gaussian(1, data_dim, latent_dim)
    likelihood = NormalLikelihood(Linear(problem), (data_dim,), scale=0.5).double()
    likelihood.log_scale.copy_(torch.tensor(0.5, dtype=DTYPE).log())
    return problem, LatentVariableModel(StandardNormal(latent_dim).double(), MeanField(problem), likelihood)


@pytest.mark.slow
def test_twenty_latents_within_a_tenth_of_a_nat() -> None:
    problem, model = mean_field(20, 30)
    found = bracket(model, 100, 16, Annealing(steps=200))
    exact = problem.log_prob(found.x)
    assert abs(float((found.lower - exact).mean())) < 0.1
    assert abs(float((found.upper - exact).mean())) < 0.1
    assert abs(found.width) < 0.1
    assert not found.exact
    # The encoder alone is nats away, so that there was something to do.
    assert float((exact - evidence(model, found.x, 16).value).mean()) > 2


@pytest.mark.parametrize("start", ["posterior", "prior"])
@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
def test_weights_are_unbiased_both_ways(variant, start) -> None:
    bed = linear_gaussian(n=3, shift=0.2, log_stretch=0.2, **variant)
    x, context, observed = (
        None if part is None else part.repeat(200, *[1] * (part.ndim - 1)) for part in bed.batch
    )
    many = LinearGaussianBed(bed.model, type(bed.batch)(x, context, observed))
    exact = many.log_evidence().detach()
    # Independent exact draws of the posterior, one for each copy of a datum.
    with torch.no_grad():
        z = many.posterior().sample(torch.Size(()))
    steps = 10 if start == "posterior" else 40
    found = passed(many, 2, Annealing(steps=steps, leaps=3, start=start), latents=z)
    forward = (found.lower.value - exact).exp().reshape(200, -1)
    backward = (exact - found.upper.value).exp().reshape(200, -1)
    assert_mean(forward, 1.0)
    assert_mean(backward, 1.0)
    assert (forward.std(0) > 0.01).all()
    # Their logarithms are ordered by Jensen's inequality.
    assert float((found.lower.value - exact).mean()) < 0
    assert float((found.upper.value - exact).mean()) > 0
    assert 0.55 < float(found.acceptance.mean()) < 0.85


def test_bad_step_sizes_do_not_bias() -> None:
    bed = linear_gaussian(n=2, shift=0.3)
    x = bed.batch.x.repeat(300, 1)
    exact = LinearGaussianBed(bed.model, type(bed.batch)(x)).log_evidence().detach()
    found = annealing_pass(bed.model, x, 1, Annealing(steps=5, leaps=2, acceptance=0.05, tuning_chains=1))
    assert float(found.acceptance.mean()) < 0.6
    assert_mean((found.lower.value - exact).exp().reshape(300, 2), 1.0)


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
def test_moves_leave_their_level_invariant(beta: float) -> None:
    start, goal = Normal(torch.tensor(0.0, dtype=DTYPE), 1.0), Normal(torch.tensor(2.0, dtype=DTYPE), 0.5)

    def densities(z: Tensor) -> tuple[Tensor, Tensor]:
        return start.log_prob(z).sum(-1), goal.log_prob(z).sum(-1)

    precision = (1 - beta) + beta / 0.25
    loc = beta * 2 / 0.25 / precision
    torch.manual_seed(0)
    state = state_at(densities, loc + precision**-0.5 * torch.randn(4000, 2, 1, dtype=DTYPE))
    # Long steps, of which many are refused, so that the refusal is what keeps the density.
    step, scale = torch.full((2,), 1.3, dtype=DTYPE), torch.full((2, 1), precision**-0.5, dtype=DTYPE)
    for _ in range(3):
        state, probability = move(densities, state, beta, step, scale, 2)
    assert 0.3 < float(probability.mean()) < 0.99
    assert_mean(state.z[..., 0], loc)
    assert_mean((state.z[..., 0] - loc) ** 2, 1 / precision)


def test_moves_reject_what_is_not_finite() -> None:
    box = Uniform(torch.tensor(0.0, dtype=DTYPE), 1.0, validate_args=False)

    def densities(z: Tensor) -> tuple[Tensor, Tensor]:
        return box.log_prob(z).sum(-1), (box.log_prob(z) + z.log()).sum(-1)

    torch.manual_seed(0)
    state = state_at(densities, torch.rand(2000, 1, 1, dtype=DTYPE).sqrt())
    for _ in range(5):
        state, _ = move(
            densities, state, 1.0, torch.ones(1, dtype=DTYPE), torch.full((1, 1), 0.4, dtype=DTYPE), 2
        )
    assert ((state.z > 0) & (state.z < 1)).all()
    # The density 2 z has the mean 2/3.
    assert_mean(state.z[..., 0], 2 / 3)


@pytest.mark.parametrize("schedule", ["sigmoid", "linear"])
def test_levels_rise_from_nought_to_one(schedule) -> None:
    levels = Annealing(steps=7, schedule=schedule).levels()
    assert (levels[0], levels[-1], len(levels)) == (0.0, 1.0, 8)
    assert (levels.diff() > 0).all()
    torch.testing.assert_close(levels, 1 - levels.flip(0))


def test_estimates_dispatch_and_count_chains() -> None:
    bed = linear_gaussian(n=2, shift=0.2)
    found = evidence(bed.model, bed.batch.x, 3, method="ais", annealing=FEW, seed=5)
    assert found.samples == 3
    assert torch.equal(found.value, passed(bed, 3, FEW, seed=5).lower.value)
    assert not torch.equal(
        found.value,
        evidence(bed.model, bed.batch.x, 3, method="ais", annealing=Annealing(steps=12), seed=5).value,
    )
    assert evidence(bed.model, bed.batch.x, method="ais", annealing=FEW).samples == 16
    with pytest.raises(ConfigError, match="unknown method 'aiss'; did you mean 'ais'"):
        evidence(bed.model, bed.batch.x, method="aiss")
    with pytest.raises(ConfigError, match="annealing goes with method='ais'"):
        evidence(bed.model, bed.batch.x, annealing=FEW)
    with pytest.raises(ConfigError, match="common_noise"):
        evidence(bed.model, bed.batch.x, method="ais", common_noise=True)


def test_one_step_is_importance_sampling() -> None:
    bed = linear_gaussian(n=400, shift=0.3)
    one = passed(bed, 2, Annealing(steps=1)).lower.value
    drawn = evidence(bed.model, bed.batch.x, 2).value
    difference = (one - drawn)[:, None]
    assert_mean(difference, 0.0)
    assert difference.std() > 0.1


@pytest.mark.parametrize("memory", [1, 3000, 2**24])
def test_chunks_and_progress(memory: int) -> None:
    bed = linear_gaussian(n=3)
    shares: list[float] = []
    found = passed(bed, 2, FEW, memory=memory, on_part=shares.append, latents=bed.posterior().mean.detach())
    assert sum(shares) == pytest.approx(1.0)
    # With the exact posterior nothing varies: every chain's weight is p(x).
    exact = bed.log_evidence().detach()
    torch.testing.assert_close(found.lower.value, exact, rtol=0, atol=1e-9)
    assert found.upper is not None
    torch.testing.assert_close(found.upper.value, exact, rtol=0, atol=1e-9)


def test_seed_and_precision() -> None:
    bed = linear_gaussian(n=3, shift=0.3)
    before = torch.get_rng_state()
    first = passed(bed, 2, FEW, seed=1).lower.value
    assert torch.equal(passed(bed, 2, FEW, seed=1).lower.value, first)
    assert torch.equal(torch.get_rng_state(), before)
    problem, model = mean_field(3, 4)
    x = model.simulate(300)[0].float()
    double = annealing_pass(model, x, 8, FEW, dtype=torch.float64).lower
    assert double.value.dtype == DTYPE
    assert_mean((double.value - problem.log_prob(x.double())).exp()[:, None], 1.0)


def test_enumerable_latents_are_exact_on_both_sides() -> None:
    bed = class_latent(temperature=2.0)
    found = evidence(bed.model, bed.batch.x, 2, method="ais")
    torch.testing.assert_close(found.value, bed.log_evidence().detach(), rtol=0, atol=1e-12)
    assert not found.standard_error.any()
    both = bracket(bed.model, 7, 2)
    assert both.exact
    assert both.width == 0
    torch.testing.assert_close(both.lower, torch.logsumexp(bed.log_joint(both.x), -1).detach())


class _Bits(Conditional):
    """Two independent one-hot latents, which torch can't list."""

    def forward(self, context: Tensor | None = None) -> Independent:
        n = 1 if context is None else len(context)
        return Independent(OneHotCategorical(logits=torch.zeros(n, 2, 3, dtype=DTYPE)), 1)


def test_what_can_not_be_annealed_is_refused() -> None:
    bed = linear_gaussian()
    model = LatentVariableModel(bed.model.prior, _Bits(), bed.model.likelihood)
    with pytest.raises(BoundError, match="discrete and can't be enumerated"):
        evidence(model, bed.batch.x, 2, method="ais")
    shared, chain = as_model(SharedRegression(), 3), as_model(TwoLayerChain(), 5)
    with pytest.raises(BoundError, match="shared by all data"):
        annealing_pass(shared, shared.data.x, 2, context=shared.data.context)
    x = TwoLayerChain().sample(4, 0)
    with pytest.raises(BoundError, match="has z2, z1 and draws them itself"):
        annealing_pass(chain, x, 2)
    with pytest.raises(BoundError, match="no method simulate"):
        bracket(chain, 3)
    with pytest.raises(ConfigError, match="samples=0"):
        evidence(bed.model, bed.batch.x, 0, method="ais")
    with pytest.raises(ShapeError, match="no data"):
        evidence(bed.model, bed.batch.x[:0], 2, method="ais")
    with pytest.raises(ConfigError, match="n=0"):
        bracket(bed.model, 0)


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"leaps": 0}, {"start": "here"}, {"schedule": "x"}, {"acceptance": 1.0}]
)
def test_settings_that_can_not_be(wrong) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Annealing(**wrong)


def test_bracket_with_context_and_mask() -> None:
    for variant in ({"context_dim": 2}, {"missing": 0.5}):
        bed = linear_gaussian(n=200, shift=0.2, **variant)
        _, context, observed = bed.batch
        if observed is not None:
            # Of a datum without any cell the reference knows no density.
            observed[:, 0] = True
        found = bracket(bed.model, 200, 4, FEW, context=context, observed=observed)
        exact = (
            LinearGaussianBed(bed.model, type(bed.batch)(found.x, context, observed)).log_evidence().detach()
        )
        assert_mean((found.lower - exact).exp()[:, None], 1.0)
        assert_mean((exact - found.upper).exp()[:, None], 1.0)
        assert found.width > 0
        assert found.width_standard_error == pytest.approx(
            float((found.upper - found.lower).std()) / sqrt(200)
        )


def test_curve_grows_from_the_elbo_to_the_evidence() -> None:
    bed = linear_gaussian(n=40, shift=0.3, log_stretch=0.1)
    curve = bound_curve(bed.model, bed.batch.x, (1, 2, 10, 100, 1000))
    q = bed.model.encode(bed.batch.x)
    elbo = (bed.log_evidence() - kl_divergence(q, bed.posterior())).detach()
    assert isinstance(q, MultivariateNormal)
    assert ((curve.value[0] - elbo).abs() <= 4.5 * curve.standard_error[0]).all()
    means = curve.value.mean(1)
    assert (means.diff() > 0).all()
    assert abs(float((curve.value[-1] - bed.log_evidence().detach()).mean())) < 0.05
    # Ten draws: by the estimate of many independent groups.
    many = evidence(bed.model, bed.batch.x.repeat(100, 1), 10, seed=3).value.reshape(100, -1)
    error = (curve.standard_error[2].square() + many.var(0) / 100).sqrt()
    assert ((curve.value[2] - many.mean(0)).abs() <= 4.5 * error).all()
    with pytest.raises(ConfigError, match="at least 1"):
        bound_curve(bed.model, bed.batch.x, (0, 2))
