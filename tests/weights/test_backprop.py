from math import prod
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Independent, Laplace, LowRankMultivariateNormal, Normal, kl_divergence

import jensen as jn
from jensen.errors import ConfigError, ShapeError
from jensen.training import Batch, Progress
from jensen.weights import FunctionalNetwork, NormalPosterior, Problem
from jensen.weights.backprop import BackpropOptions, Bound, kl
from jensen.weights.likelihoods import likelihood
from jensen.weights.noisy import noisy, suited
from jensen.weights.priors import NormalPrior, prior
from testbed import assert_mean
from weights.linear import DTYPE, regression

TORCH = torch.Generator().manual_seed(0)
LOC, LOG_SCALE = (
    torch.randn(7, generator=TORCH, dtype=DTYPE),
    torch.randn(7, generator=TORCH, dtype=DTYPE) * 0.3 - 1,
)
FACTOR = torch.randn(2, 7, generator=TORCH, dtype=DTYPE) * 0.5
PRIOR_SCALE = torch.full((7,), 0.8, dtype=DTYPE)
FULL = {"batch_size": 1000, "learning_rate": 0.3, "epochs": 200}


def test_kl_is_a_sum_over_the_weights() -> None:
    q = Independent(Normal(LOC, LOG_SCALE.exp()), 1)
    p = Independent(Normal(torch.zeros_like(LOC), 0.8), 1)
    found = kl(NormalPrior({"": PRIOR_SCALE}), LOC, LOG_SCALE, PRIOR_SCALE.log())
    assert abs(float(found - kl_divergence(q, p))) < 1e-6
    many = [torch.cat([t] * 1000) for t in (LOC, LOG_SCALE, PRIOR_SCALE.log())]
    assert float(kl(NormalPrior({"": PRIOR_SCALE}), *many)) == pytest.approx(1000 * float(found))
    low_rank = LowRankMultivariateNormal(LOC, FACTOR.T, (2 * LOG_SCALE).exp())
    full_p = torch.distributions.MultivariateNormal(torch.zeros_like(LOC), torch.eye(7, dtype=DTYPE) * 0.64)
    full_q = torch.distributions.MultivariateNormal(LOC, low_rank.covariance_matrix)
    found = kl(NormalPrior({"": PRIOR_SCALE}), LOC, LOG_SCALE, PRIOR_SCALE.log(), FACTOR)
    assert abs(float(found - kl_divergence(full_q, full_p))) < 1e-6


def test_the_fast_divergence_has_the_slopes_of_the_plain_one() -> None:
    loc, log_scale = LOC.clone().requires_grad_(), LOG_SCALE.clone().requires_grad_()
    single, each = torch.tensor(0.8, dtype=DTYPE).log(), PRIOR_SCALE.log()
    fast, plain = (kl(NormalPrior({"": s.exp()}), loc, log_scale, s) for s in (single, each))
    torch.testing.assert_close(fast, plain)
    for slope, expected in zip(
        torch.autograd.grad(2 * fast, (loc, log_scale)),
        torch.autograd.grad(2 * plain, (loc, log_scale)),
        strict=True,
    ):
        torch.testing.assert_close(slope, expected)


def test_sampled_kl_has_the_closed_form_as_its_mean() -> None:
    torch.manual_seed(0)
    draws = LOC + LOG_SCALE.exp() * torch.randn(4000, 7, dtype=DTYPE)
    laplace = prior("laplace", {"": LOC}, 0.8)
    closed = kl(laplace, LOC, LOG_SCALE, PRIOR_SCALE.log())
    # A mixture whose components are alike is a normal, and goes the way of draws.
    mixture = prior("scale-mixture", {"": LOC}, 0.8, ratio=1.0)
    normal = kl(NormalPrior({"": PRIOR_SCALE}), LOC, LOG_SCALE, PRIOR_SCALE.log())
    each = torch.stack([kl(mixture, LOC, LOG_SCALE, PRIOR_SCALE.log(), draws=d[None]) for d in draws[:800]])
    assert_mean(each, normal)
    q = Normal(LOC, LOG_SCALE.exp())
    assert_mean((q.log_prob(draws) - Laplace(0.0, PRIOR_SCALE).log_prob(draws)).sum(1), closed)
    low = draws + torch.randn(4000, 2, dtype=DTYPE) @ FACTOR
    each = torch.stack([kl(mixture, LOC, LOG_SCALE, PRIOR_SCALE.log(), FACTOR, d[None]) for d in low[:800]])
    assert_mean(each, kl(NormalPrior({"": PRIOR_SCALE}), LOC, LOG_SCALE, PRIOR_SCALE.log(), FACTOR))
    with pytest.raises(ConfigError, match="no closed form"):
        kl(mixture, LOC, LOG_SCALE, PRIOR_SCALE.log())


@pytest.mark.parametrize("estimator", ["auto", "sampling"])
def test_the_gradient_vanishes_where_the_exact_optimum_is(estimator: str) -> None:
    exact = regression()
    network = FunctionalNetwork(exact.network())
    found = prior("normal", network.weights, exact.prior_scale)
    problem = Problem(network, exact.x, exact.y, likelihood("normal", exact.noise_scale), found)
    bound = Bound(problem, BackpropOptions(estimator=estimator, samples=8))
    loc = exact.mean.clone().requires_grad_()
    log_scale = (0.5 * exact.mean_field_variance.log()).requires_grad_()
    batch, progress = Batch(exact.x, exact.y), Progress(0, 0.0, 0.0)
    losses = [bound({"loc": loc, "log_scale": log_scale}, batch, progress)[0] for _ in range(400)]
    slopes = [torch.cat(torch.autograd.grad(loss, (loc, log_scale))) for loss in losses]
    assert_mean(torch.stack(slopes), 0.0)
    assert_mean(torch.stack(losses).detach(), -exact.mean_field_elbo() / len(exact.y))


@pytest.mark.parametrize("estimator", ["auto", "sampling"])
def test_mean_field_is_exact_on_linear_regression(estimator: str) -> None:
    problem = regression()
    q = problem.fit("bayes-by-backprop", estimator=estimator, samples=32, **FULL)
    assert isinstance(q, NormalPosterior)
    # Noise of the gradient leaves a few per cent.
    torch.testing.assert_close(q.loc, problem.mean, atol=0.04, rtol=0)
    torch.testing.assert_close(q.scale.square(), problem.mean_field_variance, atol=0, rtol=0.15)
    elbo = -torch.tensor(q.history["negative_elbo"][-100:]) * len(problem.y)
    assert float(elbo.mean()) == pytest.approx(float(problem.mean_field_elbo()), abs=0.15)
    draws = q.sample(4000, seed=0)["weight"][:, 0]
    assert_mean(draws, q.loc)
    assert_mean((draws - q.loc).square(), q.scale.square())
    assert q.log_prob(q.sample(3)).shape == (3,)


def test_low_rank_reaches_the_full_posterior() -> None:
    problem = regression()
    q = problem.fit("bayes-by-backprop", structure="low-rank", rank=2, samples=32, **FULL)
    found = q.factor.T @ q.factor + torch.diag(q.scale.square())
    torch.testing.assert_close(found, problem.covariance, atol=0.01, rtol=0.1)
    _, variance = problem.predictive(problem.x)
    torch.testing.assert_close(q.predict(problem.x, samples=4000).variance, variance, atol=0, rtol=0.1)
    weights = q.sample(5)
    expected = LowRankMultivariateNormal(q.loc, q.factor.T, q.scale.square()).log_prob(
        weights["weight"][:, 0]
    )
    torch.testing.assert_close(q.log_prob(weights), expected)


NET = nn.Sequential(
    nn.Conv2d(1, 2, 3),
    nn.Flatten(),
    nn.ReLU(),
    nn.Linear(8, 4),
    nn.Unflatten(1, (2, 2)),
    nn.Linear(2, 3),
    nn.Flatten(),
).double()


def test_noise_on_outputs_is_distributed_like_draws_of_weights() -> None:
    torch.manual_seed(0)
    x, sets = torch.randn(2, 1, 4, 4, dtype=DTYPE), 20_000
    for index, kind in ((0, "flipout"), (3, "local"), (5, "flipout")):
        layer = NET[index]
        inputs = {0: x, 3: torch.randn(2, 8, dtype=DTYPE), 5: torch.randn(2, 2, 2, dtype=DTYPE)}[index]
        plain = FunctionalNetwork(nn.Sequential(layer, nn.Flatten()))
        assert suited(plain, inputs) == {"0": kind}
        function, scales = noisy(plain, {"0": kind})
        spread = {name: torch.rand_like(value) for name, value in plain.weights.items()}
        values = {**plain.weights, **{scales[n]: s for n, s in spread.items()}}
        each = function({n: v.expand(sets, *v.shape) for n, v in values.items()}, inputs)
        drawn = {
            n: plain.weights[n] + s * torch.randn(sets, *s.shape, dtype=DTYPE) for n, s in spread.items()
        }
        reference = plain(drawn, inputs)
        assert_mean(each, plain.single({}, inputs), errors=5)
        gap = each.var(0) / reference.var(0) - 1
        assert float(gap.abs().max()) < 5 * 2 / sets**0.5 * 1.5
        if kind == "flipout":
            # Positions of a datum share its weights: their covariance is that of drawn weights too.
            a, b = (values[:, 0] - values[:, 0].mean(0) for values in (each, reference))
            assert_mean((a[:, :1] * a[:, 1:]), (b[:, :1] * b[:, 1:]).mean(0), errors=7)


def test_estimators_have_one_mean_and_the_local_one_less_variance() -> None:
    torch.manual_seed(0)
    network = FunctionalNetwork(NET)
    x, y = torch.randn(5, 1, 4, 4, dtype=DTYPE), torch.randn(5, 6, dtype=DTYPE)
    problem = Problem(network, x, y, likelihood("normal", 0.5), prior("normal", network.weights))
    losses = {}
    for estimator in ("auto", "sampling"):
        bound = Bound(problem, BackpropOptions(estimator=estimator, samples=1, initial_scale=0.3))
        assert bound.layers == (
            {} if estimator == "sampling" else {"0": "flipout", "3": "local", "5": "flipout"}
        )
        values = bound.start(None)
        with torch.no_grad():
            each = [bound(values, Batch(x, y), Progress(0, 0.0, 0.0)) for _ in range(600)]
        losses[estimator] = torch.cat(each)
    gap = losses["auto"].mean() - losses["sampling"].mean()
    error = sum(loss.var() / len(loss) for loss in losses.values()) ** 0.5
    assert abs(float(gap)) < 4 * float(error)
    assert float(losses["auto"].var()) < float(losses["sampling"].var())


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.layer(x))


def test_layers_called_twice_keep_their_weights_within_a_pass() -> None:
    assert suited(FunctionalNetwork(Twice()), torch.zeros(2, 3)) == {}
    recurrent = FunctionalNetwork(nn.Sequential(Twice(), nn.Linear(3, 1)))
    assert suited(recurrent, torch.zeros(2, 3)) == {"1": "local"}
    q = jn.weights.fit(
        nn.Sequential(Twice(), nn.Linear(3, 1)),
        torch.randn(9, 3),
        torch.randn(9),
        method="bayes-by-backprop",
        epochs=2,
    )
    assert q.predict(torch.randn(4, 3)).outputs.shape == (64, 4, 1)


def test_subsets_and_the_rest() -> None:
    network = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1))
    x, y = torch.randn(20, 2), torch.randn(20)
    options = {"method": "bayes-by-backprop", "epochs": 5, "subset": "last-layer", "learning_rate": 0.01}
    fixed = jn.weights.fit(network, x, y, **options)
    assert set(fixed.sample(2)) == {"2.weight", "2.bias"}
    assert torch.equal(fixed.network.fixed["0.weight"], network[0].weight)
    trained = jn.weights.fit(network, x, y, rest="trained", **options)
    assert set(trained.sample(2)) == {"2.weight", "2.bias"}
    assert not torch.equal(trained.network.fixed["0.weight"], network[0].weight)
    network[0].bias.requires_grad_(False)
    partly = jn.weights.fit(network, x, y, rest="trained", **options)
    assert torch.equal(partly.network.fixed["0.bias"], network[0].bias)
    assert not torch.equal(partly.network.fixed["0.weight"], network[0].weight)
    later = partly.update(x, y)
    assert torch.equal(later.network.fixed["0.weight"], partly.network.fixed["0.weight"])
    with pytest.raises(ConfigError, match="'lastlayer'; there are"):
        jn.weights.fit(network, x, y, **options | {"subset": "lastlayer"})


def test_tempering_is_labelled() -> None:
    problem = regression()
    options = {**FULL, "samples": 32}
    cold = problem.fit("bayes-by-backprop", temperature=0.1, **options)
    assert set(cold.history) == {"tempered_loss"}
    assert cold.options["temperature"] == 0.1
    # The optimum of the tempered bound on this model: precisions X^T X / (T s^2) + 1 / t^2.
    squares = problem.x.square().sum(0) / (0.1 * problem.noise_scale**2)
    expected = 1 / (squares + 1 / problem.prior_scale**2)
    torch.testing.assert_close(cold.scale.square(), expected, atol=0, rtol=0.2)


def test_the_prior_scale_is_learned_by_the_evidence() -> None:
    problem = regression(60)
    q = jn.weights.fit(
        problem.network(),
        problem.x,
        problem.y,
        method="bayes-by-backprop",
        noise_scale=0.5,
        prior_scale="learned",
        samples=32,
        **FULL,
    )
    # Where the KL is stationary in the scale its square is the mean of m^2 + s^2.
    expected = (q.loc.square() + q.scale.square()).mean().sqrt()
    assert float(q.prior.scales["weight"]) == pytest.approx(float(expected), rel=0.02)


def test_today_s_posterior_is_tomorrow_s_prior() -> None:
    problem = regression(40)
    halves = [type(problem)(problem.x[part], problem.y[part]) for part in (slice(0, 20), slice(20, 40))]
    options = FULL | {"samples": 32}
    first = halves[0].fit("bayes-by-backprop", **options)
    second = first.update(halves[1].x, halves[1].y)
    assert isinstance(second.prior, NormalPrior)
    assert torch.equal(second.prior.loc["weight"][0], first.loc)
    # The next optimum is known too: the prior's precision adds to that of the data.
    data = halves[1].x.square().sum(0) / 0.25
    torch.testing.assert_close(1 / second.scale.square(), 1 / first.scale.square() + data, atol=0, rtol=0.15)
    gram = halves[1].x.T @ halves[1].x / 0.25 + torch.diag(1 / first.scale.square())
    mean = torch.linalg.solve(gram, halves[1].x.T @ halves[1].y / 0.25 + first.loc / first.scale.square())
    torch.testing.assert_close(second.loc, mean, atol=0.02, rtol=0)
    with pytest.raises(ShapeError, match="can't take data"):
        first.update(torch.randn(5, 4, dtype=DTYPE), torch.randn(5, dtype=DTYPE))
    low_rank = halves[0].fit("bayes-by-backprop", structure="low-rank", epochs=1)
    with pytest.raises(ConfigError, match="mean-field"):
        low_rank.update(halves[1].x, halves[1].y)
    others = {"structure": "low-rank", "rank": 2, "subset": "weight", "rest": "trained", "initial_scale": 1.0}
    for key, value in others.items():
        with pytest.raises(ConfigError, match=f"update can't change {key}"):
            first.update(halves[1].x, halves[1].y, **{key: value})


def test_saved_and_loaded(tmp_path: Path) -> None:
    problem = regression()
    for structure in ("mean-field", "low-rank"):
        q = problem.fit("bayes-by-backprop", epochs=2, structure=structure)
        q.save(tmp_path / structure)
        again = jn.weights.load(tmp_path / structure, network=problem.network())
        assert torch.equal(again.predict(problem.x).mean, q.predict(problem.x).mean)
        weights = q.sample(2)
        assert torch.equal(again.log_prob(weights), q.log_prob(weights))


def test_batch_norm_and_a_scale_mixture_train() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(12, 2))
    x = torch.randn(30, 1, 4, 4)
    y = (x.mean((1, 2, 3)) > 0).long()
    options = {"method": "bayes-by-backprop", "prior": "scale-mixture", "epochs": 60, "learning_rate": 0.02}
    q = jn.weights.fit(network, x, y, **options)
    found = q.predict(x)
    assert float(found.log_prob(y).mean()) > -0.4
    assert q.network.buffers["1.num_batches_tracked"] == 60
    assert network[1].num_batches_tracked == 0
    assert len(q.loc) == sum(prod(p.shape) for p in network.parameters())
