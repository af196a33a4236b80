from math import log, pi

import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Distribution, MultivariateNormal, Poisson

from jensen.distributions import Conditional
from jensen.errors import BoundError, ConfigError, FitError
from jensen.inference import Target, positive, real
from jensen.inference.families import Frame, FullRank, MeanField, Mixture
from jensen.inference.minibatches import Minibatches, full_pass, minibatch_modes
from jensen.inference.pathwise import pathwise
from jensen.inference.stochastic import Ascending, _flat, _later, stochastic
from jensen.seeding import seeded

MEAN = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
PRECISION = torch.tensor([[2.0, 0.8, 0.0], [0.8, 1.5, -0.3], [0.0, -0.3, 1.0]], dtype=torch.float64)
LOG_EVIDENCE = 0.5 * (3 * log(2 * pi) - float(torch.logdet(PRECISION)))
TIGHT = Ascending(samples=32, tolerance=1e-4)


def gaussian() -> Target:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        x = p["x"] - MEAN
        return -0.5 * x @ PRECISION @ x

    return Target(log_joint, {"x": real(3)})


def negative_kl(family: nn.Module) -> Tensor:
    """The bound less the log evidence, exactly, for a normal posterior."""
    q: Distribution = family(None)
    covariance = q.covariance_matrix if isinstance(q, MultivariateNormal) else q.variance.diag()
    shift = q.mean - MEAN
    trace = (PRECISION * covariance).sum() + shift @ PRECISION @ shift
    return 0.5 * (3 + torch.logdet(covariance) + torch.logdet(PRECISION) - trace)


def displaced(family: nn.Module) -> nn.Module:
    with seeded(5), torch.no_grad():
        for parameter in family.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    return family


def test_full_rank_recovers_a_gaussian_and_its_evidence() -> None:
    found = stochastic(gaussian(), FullRank(3), ascending=TIGHT)
    q = found.posterior(None)
    assert found.converged, found.reason
    # A KL of 3 x 1e-4 nats allows a mean to be off by sqrt(2 x 3e-4) = .025 standard deviations.
    assert ((q.mean - MEAN).abs() * PRECISION.diagonal().sqrt()).max() < 0.025
    torch.testing.assert_close(q.precision_matrix.detach(), PRECISION, rtol=0.03, atol=0.03)
    assert abs(found.lower_bound - LOG_EVIDENCE) < 1e-3


def test_mean_field_has_the_inverse_precisions() -> None:
    found = stochastic(gaussian(), MeanField(3), ascending=Ascending(samples=64, steps=800))
    q = found.posterior(None)
    assert ((q.mean - MEAN).abs() * PRECISION.diagonal().sqrt()).max() < 0.02
    assert (q.variance * PRECISION.diagonal()).log().abs().max() < 0.05
    best = LOG_EVIDENCE + 0.5 * float(torch.logdet(PRECISION) - PRECISION.diagonal().log().sum())
    # Of the mean of 512 draws, in pairs.
    assert abs(found.lower_bound - best) < 0.15


@pytest.mark.parametrize("make", [MeanField, FullRank])
def test_pathwise_gradient_is_unbiased(make: type) -> None:
    family = displaced(make(3))
    negative_kl(family).backward()
    exact = torch.cat([p.grad.reshape(-1) for p in family.parameters()])
    estimates = []
    with seeded(1):
        for _ in range(200):
            family.zero_grad()
            pathwise(gaussian().value_and_gradient, family, 4).surrogate.backward()
            estimates.append(torch.cat([p.grad.reshape(-1) for p in family.parameters()]))
    drawn = torch.stack(estimates)
    standard_error = drawn.std(0) / len(drawn) ** 0.5
    assert ((drawn.mean(0) - exact).abs() < 4 * standard_error + 1e-12).all()


def test_pathwise_gradient_has_no_variance_at_the_posterior() -> None:
    scale = torch.linalg.cholesky(torch.linalg.inv(PRECISION))
    family = FullRank.around(MEAN, scale)
    with seeded(0):
        estimate = pathwise(gaussian().value_and_gradient, family, 4)
    estimate.surrogate.backward()
    assert max(float(p.grad.abs().max()) for p in family.parameters()) < 1e-12
    assert abs(float(estimate.bound) - LOG_EVIDENCE) < 1e-12


def test_mixture_finds_both_modes_and_their_weights() -> None:
    modes = MultivariateNormal(
        torch.tensor([[-4.0], [3.0]], dtype=torch.float64), torch.eye(1, dtype=torch.float64)
    )
    log_weights = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    target = Target(lambda p: (modes.log_prob(p["x"]) + log_weights).logsumexp(0), {"x": real(1)})
    start = Mixture(torch.tensor([[-3.0], [2.0]]), torch.ones(2, 1, 1))
    found = stochastic(target, start)
    q = found.posterior
    assert isinstance(q, Mixture)
    torch.testing.assert_close(torch.softmax(q.logits.detach(), 0), log_weights.exp(), rtol=0, atol=0.01)
    assert abs(found.lower_bound) < 0.01


class Own(nn.Module):
    """A user's posterior in units of its own, tenths."""

    def __init__(self) -> None:
        super().__init__()
        self.where = nn.Parameter(torch.zeros(3, dtype=torch.float64))
        self.factor = nn.Parameter(10 * torch.eye(3, dtype=torch.float64))

    def forward(self, context: Tensor | None = None) -> Distribution:
        return MultivariateNormal(self.where / 10, scale_tril=(self.factor / 10).tril(), validate_args=False)


def test_a_users_own_posterior_with_an_own_unit() -> None:
    found = stochastic(gaussian(), Own(), ascending=Ascending(steps=1000))
    assert found.stages[0][0] >= 0.3
    assert found.lower_bound > LOG_EVIDENCE - 0.05


def test_same_seed_same_fit_and_the_start_is_untouched() -> None:
    start = MeanField(3)
    how = Ascending(steps=150)
    first, second = (stochastic(gaussian(), start, ascending=how, seed=7) for _ in range(2))
    assert torch.equal(first.history, second.history)
    assert float(start.loc.detach().abs().max()) == 0
    assert not first.converged
    assert "all the steps" in first.reason


def test_a_plateau_is_forgotten() -> None:
    steps = torch.cat([torch.full((60,), -30.0), torch.zeros(340)]).double()
    with seeded(0):
        steps += torch.randn_like(steps)
    assert not _flat(_later(steps, 0.0), 0.01)
    assert _flat(_later(steps, 0.5), 0.01)
    assert len(_later(steps, 0.5)) == 200
    assert len(_later(steps[:120], 0.9)) == 100
    assert len(_later(steps[:110], 0.9)) == 110
    # A rise that goes on is still seen.
    assert not _flat(_later(steps + torch.linspace(0, 10, 400), 0.5), 0.01)


def test_too_large_a_step_size_costs_time_only() -> None:
    found = stochastic(gaussian(), FullRank(3), ascending=Ascending(step_size=3.0, steps=1000))
    assert found.lower_bound > LOG_EVIDENCE - 0.3


def logistic(n: int = 400) -> Target:
    with seeded(0):
        x = torch.randn(n, 3, dtype=torch.float64)
        y = torch.bernoulli(torch.sigmoid(x @ MEAN))

    def log_likelihood(p: dict[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
        logits = x @ p["w"]
        return y * logits - nn.functional.softplus(logits)

    return Target(
        lambda p: -0.5 * (p["w"] ** 2).sum(), {"w": real(3)}, log_likelihood=log_likelihood, data=(x, y)
    )


def test_a_full_pass_is_the_target() -> None:
    target = logistic()
    with seeded(1):
        points = torch.randn(4, 3, dtype=torch.float64)
    for part, whole in zip(full_pass(target, points, 150), target.value_and_gradient(points), strict=True):
        torch.testing.assert_close(part, whole)


@pytest.mark.parametrize("anchored", [False, True])
def test_minibatches_are_unbiased_and_an_anchor_takes_their_noise(anchored: bool) -> None:
    target = logistic()
    rows = Minibatches(target, 20)
    anchor = torch.tensor([0.9, -1.8, 0.4], dtype=torch.float64)
    if anchored:
        rows.anchored(anchor)
    points = anchor + torch.tensor([[0.1, -0.1, 0.1], [0.0, 0.2, 0.0]], dtype=torch.float64)
    with seeded(2):
        values, gradients = zip(*(rows(points) for _ in range(400)), strict=True)
    for drawn, exact in zip((values, gradients), target.value_and_gradient(points), strict=True):
        estimates = torch.stack(list(drawn))
        standard_error = estimates.std(0) / len(estimates) ** 0.5
        assert ((estimates.mean(0) - exact).abs() < 4 * standard_error).all()
    spread = torch.stack(list(gradients)).std(0)
    assert (spread.max() < 8) if anchored else (spread.max() > 20)


def test_minibatch_fit_agrees_with_the_fit_of_all_data() -> None:
    target = logistic(2000)
    mode = minibatch_modes(target, 500, target.starting_points(1))[0]
    frame = Frame(mode.point, mode.scale_tril)
    how = Ascending(steps=300)
    whole = stochastic(target, FullRank(frame), ascending=how).posterior(None)
    found = stochastic(target, FullRank(frame), batch_size=200, ascending=how)
    q = found.posterior(None)
    assert ((q.mean - whole.mean).abs() / whole.stddev).max() < 0.1
    assert (q.stddev / whole.stddev).log().abs().max() < 0.05


def test_the_first_mode_from_minibatches_is_that_of_all_data() -> None:
    target = logistic(2000)
    mode = minibatch_modes(target, 500, target.starting_points(1))[0]
    _, gradient = target.value_and_gradient(mode.point[None])
    # In posterior standard deviations: the Newton step that is left.
    assert float((mode.scale_tril.T @ gradient[0]).norm()) < 0.3


class Counted(Conditional):
    def __init__(self) -> None:
        super().__init__()
        self.rate = nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, context: Tensor | None = None) -> Distribution:
        return torch.distributions.Independent(Poisson(self.rate), 1)


def test_bad_input() -> None:
    with pytest.raises(BoundError, match="gradient='score'"):
        stochastic(Target(lambda p: -p["x"].square(), {"x": real()}), Counted())
    with pytest.raises(ConfigError, match="no parameters to fit"):
        stochastic(gaussian(), Frame.standard(3))
    with pytest.raises(ConfigError, match="knows its rows"):
        stochastic(gaussian(), MeanField(3), batch_size=10)
    with pytest.raises(ConfigError, match="numbers above 0"):
        Ascending(samples=0)
    with pytest.raises(ConfigError, match=r"burn_in is 1\.0"):
        Ascending(burn_in=1.0)
    with pytest.raises(ConfigError, match="at least one row"):
        Minibatches(logistic(), 0)
    nowhere = Target(lambda p: -p["x"] + torch.log(p["x"] - torch.inf), {"x": positive()})
    with pytest.raises(FitError, match="none of its draws"):
        stochastic(nowhere, MeanField(1))


def test_draws_outside_the_support_are_left_out_and_counted() -> None:
    # sqrt of a negative number: nan below zero, on half of the first posterior's draws.
    target = Target(lambda p: -0.5 * ((p["x"] - 4) * 3) ** 2 + 0 * p["x"].sqrt(), {"x": real()})
    start = MeanField.around(torch.ones(1), torch.ones(1))
    found = stochastic(target, start, ascending=Ascending(steps=400))
    assert 0.5 < found.finite < 1
    assert abs(float(found.posterior(None).mean.detach()) - 4) < 0.05
