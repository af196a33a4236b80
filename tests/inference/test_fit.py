import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import HalfCauchy, LKJCholesky, MultivariateNormal, Normal

from jensen.errors import ConfigError, DataError, FitError
from jensen.inference import Target, cholesky_correlation, fit, positive, real
from jensen.inference.adaptive import adapt
from jensen.inference.families.student_mixture import StudentMixture
from jensen.inference.found import weigh

METHODS = ["auto", "mean-field", "full-rank", "low-rank", "laplace"]

torch.manual_seed(0)
X = torch.randn(30, 3, dtype=torch.float64) @ torch.tensor([[1.0, 0.9, 0.0], [0, 0.3, 0], [0, 0, 1]]).double()
Y = X @ torch.tensor([1.0, -1.0, 0.5]).double() + 0.7 * torch.randn(30, dtype=torch.float64)


def regression(x: Tensor = X, y: Tensor = Y) -> Target:
    def log_joint(p):
        return Normal(0.0, 2.0).log_prob(p["beta"]).sum() + Normal(x @ p["beta"], 0.7).log_prob(y).sum()

    return Target(log_joint, {"beta": real(3)})


def exact(x: Tensor = X, y: Tensor = Y) -> tuple[Tensor, Tensor, float]:
    """Mean, covariance, and log evidence of the regression."""
    precision = torch.eye(3).double() / 4 + x.T @ x / 0.49
    covariance = torch.linalg.inv(precision)
    marginal = MultivariateNormal(
        torch.zeros(len(y)).double(), 4 * x @ x.T + 0.49 * torch.eye(len(y)).double()
    )
    return covariance @ x.T @ y / 0.49, covariance, float(marginal.log_prob(y))


@pytest.mark.parametrize("method", ["auto", "full-rank", "laplace"])
def test_conjugate_regression_is_exact(method: str):
    mean, covariance, log_evidence = exact()
    found = fit(regression(), method)
    assert found.pareto_k < 0.5
    assert float(found.evidence) == pytest.approx(log_evidence, abs=5e-3)
    assert found.elbo == pytest.approx(log_evidence, abs=2e-2)
    draws = found.sample(20_000, seed=1)["beta"]
    sd = covariance.diagonal().sqrt()
    assert ((draws.mean(0) - mean) / sd).abs().max() < 0.03
    assert (draws.std(0) / sd).log().abs().max() < 0.02


def test_the_mean_field_is_itself_and_says_what_it_misses():
    _, covariance, log_evidence = exact()
    precision = torch.linalg.inv(covariance)
    found = fit(regression(), "mean-field", pool=20_000)
    draws = found.sample(20_000, seed=1)["beta"]
    narrow = precision.diagonal().rsqrt()
    assert (draws.std(0) / narrow).log().abs().max() < 0.02
    gap = 0.5 * float(precision.diagonal().log().sum() - torch.linalg.slogdet(precision).logabsdet)
    assert abs(found.elbo - (log_evidence - gap)) < 4 * found.elbo_standard_error
    repaired = fit(regression(), "mean-field", linear_response=True)
    assert (
        repaired.sample(20_000, seed=1)["beta"].std(0) / covariance.diagonal().sqrt()
    ).log().abs().max() < 0.02


def eight_schools() -> Target:
    y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64)
    sigma = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64)

    def log_joint(p):
        theta = p["mu"] + p["tau"] * p["z"]
        return (
            Normal(0.0, 5.0).log_prob(p["mu"])
            + HalfCauchy(5.0).log_prob(p["tau"])
            + Normal(0.0, 1.0).log_prob(p["z"]).sum()
            + Normal(theta, sigma).log_prob(y).sum()
        )

    return Target(log_joint, {"mu": real(), "tau": positive(), "z": real(8)})


def eight_schools_moments() -> tuple[float, float, float]:
    """Posterior means of tau and mu, and the log evidence, by quadrature: mu and theta are integrated out exactly."""
    y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64)
    sigma = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64)
    tau = torch.linspace(1e-4, 400, 400_000, dtype=torch.float64)
    variance = sigma**2 + tau[:, None] ** 2
    precision = 1 / 25 + (1 / variance).sum(1)
    mean = (y / variance).sum(1) / precision
    log_marginal = (
        HalfCauchy(5.0).log_prob(tau)
        - 0.5 * (variance.log() + y**2 / variance + math.log(2 * math.pi)).sum(1)
        + 0.5 * precision * mean**2
        - 0.5 * (25 * precision).log()
    )
    total = (log_marginal.logsumexp(0) + (tau[1] - tau[0]).log()).item()
    weights = log_marginal.softmax(0)
    return float(weights @ tau), float(weights @ mean), total


def test_a_skewed_posterior_is_reached_by_weights():
    tau, mu, log_evidence = eight_schools_moments()
    found = fit(eight_schools())
    assert found.pareto_k < 0.7
    assert found.reliable
    draws = found.sample(20_000, seed=2)
    assert float(draws["tau"].mean()) == pytest.approx(tau, abs=0.15)
    assert float(draws["mu"].mean()) == pytest.approx(mu, abs=0.15)
    assert abs(float(found.evidence) - log_evidence) < 4 * float(found.evidence.standard_error)
    assert found.elbo < log_evidence


def bimodal() -> Target:
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    centres = torch.tensor([-6.0, 6.0], dtype=torch.float64)
    return Target(
        lambda p: (weights.log() + Normal(centres, 1.0).log_prob(p["x"])).logsumexp(0) + 2.5, {"x": real()}
    )


def test_a_second_mode_is_noticed_and_covered():
    found = fit(bimodal(), starts=12)
    assert "2 modes" in found.notes[0]
    assert found.reliable
    assert float(found.evidence) == pytest.approx(2.5, abs=0.02)
    assert float((found.sample(20_000, seed=3)["x"] > 0).double().mean()) == pytest.approx(0.7, abs=0.02)
    one = fit(bimodal(), "laplace", starts=12)
    assert "auto" in one.notes[0]


def funnel() -> Target:
    def log_joint(p):
        return Normal(0.0, 3.0).log_prob(p["v"]) + Normal(0.0, (p["v"] / 2).exp()).log_prob(p["x"]).sum()

    return Target(log_joint, {"v": real(), "x": real(9)})


def test_what_a_family_can_not_reach_is_flagged():
    found = fit(funnel(), "mean-field")
    assert not found.reliable
    assert found.pareto_k > 0.7
    assert "Don't trust it" in found.summary().words[0]


def test_a_density_without_modes_is_fitted_all_the_same():
    """The centred eight schools: the density grows without bound where tau goes to zero."""
    y = torch.tensor([28.0, 8, -3, 7, -1, 1, 18, 12], dtype=torch.float64)
    sigma = torch.tensor([15.0, 10, 16, 11, 9, 11, 10, 18], dtype=torch.float64)

    def log_joint(p):
        return (
            Normal(0.0, 5.0).log_prob(p["mu"])
            + HalfCauchy(5.0).log_prob(p["tau"])
            + Normal(p["mu"], p["tau"]).log_prob(p["theta"]).sum()
            + Normal(p["theta"], sigma).log_prob(y).sum()
        )

    found = fit(Target(log_joint, {"mu": real(), "tau": positive(), "theta": real(8)}))
    assert "no mode was found" in found.notes[0]
    assert float(found.sample(4000, seed=0)["mu"].mean()) == pytest.approx(
        eight_schools_moments()[1], abs=1.0
    )


@pytest.mark.parametrize("method", METHODS)
def test_same_seed_same_numbers(method: str):
    first, second = fit(regression(), method, seed=5), fit(regression(), method, seed=5)
    assert first.elbo == second.elbo
    torch.testing.assert_close(first.sample(7, seed=1), second.sample(7, seed=1), rtol=0, atol=0)
    state = torch.get_rng_state()
    first.sample(3, seed=1)
    assert torch.equal(state, torch.get_rng_state())


def test_shapes_of_draws():
    found = fit(regression(), "laplace")
    assert found.sample(torch.Size([2, 3]))["beta"].shape == (2, 3, 3)
    assert found.sample(0)["beta"].shape == (0, 3)
    draws = found.sample(5, seed=0)
    torch.testing.assert_close(found.log_prob(draws), found.posterior.log_prob(draws["beta"]))
    with pytest.raises(ConfigError, match="negative"):
        found.sample(-1)


def test_the_summary_is_printed(capsys: pytest.CaptureFixture[str]):
    found = fit(regression())
    summary = found.summary()
    printed = capsys.readouterr().out
    assert printed.strip() == str(summary)
    assert "beta[2]" in printed
    assert "k-hat" in printed
    assert summary.words[0].startswith("Trust means")
    mean, *_ = exact()
    assert summary.columns["mean"][0] == pytest.approx(float(mean[0]), abs=0.05)


def test_words_for_the_mean_field():
    precision = torch.tensor([[1.0, 0.6], [0.6, 1.0]], dtype=torch.float64)
    target = Target(lambda p: -0.5 * p["x"] @ precision @ p["x"], {"x": real(2)})
    words = fit(target, "mean-field").summary().words[0]
    assert "Trust the means, not the spreads" in words
    assert "too narrow in x[" in words
    assert "spreads and 90 % intervals" in fit(target, "full-rank").summary().words[0]


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_to_arviz():
    data = fit(regression()).to_arviz(100)
    assert data.posterior["beta"].shape == (1, 100, 3)
    assert data.posterior.attrs["method"] == "auto"


def test_bad_input():
    with pytest.raises(ConfigError, match="did you mean 'mean-field'"):
        fit(regression(), "meanfield")
    with pytest.raises(ConfigError, match="option of the method 'laplace'"):
        fit(regression(), "laplace", rank=3)
    with pytest.raises(ConfigError, match="starts >= 1"):
        fit(regression(), starts=0)
    with pytest.raises(FitError, match="at init"):
        fit(Target(lambda p: -(p["x"].log()), {"x": real()}), init={"x": -1.0})
    with pytest.raises(FitError, match="without bound"):
        fit(Target(lambda p: p["x"] ** 2, {"x": real()}))
    with pytest.raises(FitError, match="improper"):
        fit(Target(lambda p: -0.5 * p["x"] ** 2 + 0 * p["y"], {"x": real(), "y": real()}))
    with pytest.raises(FitError, match="improper"):
        fit(Target(lambda p: -0.5 * (p["x"] - p["y"]) ** 2, {"x": real(), "y": real()}))


def test_init_may_be_several_points():
    found = fit(two_modes(), "mean-field", init={"x": torch.tensor([-4.0, 4.0])}, pool=400)
    assert "2 modes were found" in found.notes[0]
    with pytest.raises(DataError, match="isn't made of numbers"):
        fit(two_modes(), init={"x": "a"})


def test_init_is_where_it_starts():
    found = fit(bimodal(), "laplace", init={"x": -5.0})
    assert found.posterior.mean.item() == pytest.approx(-6.0, abs=1e-3)


def test_student_mixtures_are_densities_with_their_draws():
    torch.manual_seed(0)
    mixture = StudentMixture(
        torch.tensor([0.25, 0.75]).double(),
        torch.tensor([[-3.0, 0.0], [3.0, 1.0]]).double(),
        torch.tensor([[[1.0, 0.0], [0.5, 1.0]], [[0.5, 0.0], [0.0, 2.0]]]).double(),
        6.0,
    )
    grid = torch.linspace(-60, 60, 1201, dtype=torch.float64)
    points = torch.cartesian_prod(grid, grid)
    assert float(mixture.log_prob(points).exp().sum() * 0.1**2) == pytest.approx(1.0, abs=1e-3)
    draws = mixture.sample((100_000,))
    torch.testing.assert_close(draws.mean(0), mixture.mean, rtol=0, atol=0.03)
    assert draws[:50_000, 0].mean() - draws[50_000:, 0].mean() < 0.1  # in random order
    # A t distribution with 6 degrees of freedom has 1.5 times the scale's variance.
    assert float((draws[draws[:, 0] > 0, 1]).var()) == pytest.approx(1.5 * 4.0, rel=0.1)


def test_adaptation_finds_the_shape():
    def banana(p):
        return -0.5 * (p["x"][0] ** 2 / 4 + (p["x"][1] + p["x"][0] ** 2 / 2) ** 2 / 0.25)

    target = Target(banana, {"x": real(2)})
    start = StudentMixture(
        torch.ones(1).double(), torch.zeros(1, 2).double(), torch.eye(2).double()[None] * 1.5, 8.0
    )
    torch.manual_seed(0)
    rounds = adapt(target, start, rounds=12)
    best = max(rounds, key=lambda r: r.rank)
    assert best.share > 2 * rounds[0].share
    assert best.pareto_k < 0.7
    drawn = weigh(target, best.mixture, 8000)
    log_z = float(drawn.log_weights.logsumexp(0)) - math.log(8000)
    assert log_z == pytest.approx(math.log(2 * math.pi * 2 * 0.5), abs=0.1)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "contained", "simulations"),
    [
        ("auto", True, 150),
        ("full-rank", True, 150),
        ("low-rank", True, 150),
        ("mixture", True, 60),
        ("flow", True, 40),
        ("laplace", True, 150),
        ("mean-field", False, 150),
    ],
)
def test_simulation_based_calibration(method: str, contained: bool, simulations: int):
    """Ranks of the truth among draws are uniform, or pushed to both ends where q is too narrow."""
    options = {"steps": 300} if method == "flow" else {}
    generator = torch.Generator().manual_seed(0)
    draws = 99
    ranks = torch.empty(simulations, 3)
    for i in range(simulations):
        beta = 2 * torch.randn(3, generator=generator, dtype=torch.float64)
        y = X @ beta + 0.7 * torch.randn(30, generator=generator, dtype=torch.float64)
        found = fit(regression(X, y), method, starts=1, seed=i, pool=400, **options)
        ranks[i] = (found.sample(draws, seed=i)["beta"] < beta).sum(0)
    scaled = (ranks + 0.5) / (draws + 1)
    assert ((scaled.mean(0) - 0.5) * math.sqrt(12 * simulations)).abs().max() < 4
    # The variance of a uniform, 1/12; that of its estimate is 1/180 a simulation.
    z = (scaled.var(0) - 1 / 12) / math.sqrt(1 / 180 / simulations)
    if contained:
        assert z.abs().max() < 4
    else:
        assert z[:2].min() > 4


def test_words_where_few_draws_count():
    found = fit(regression())
    words = replace(found, effective=0.04).summary().words[0]
    assert words.startswith(
        "Trust the means, to about 0.08 sd, not the spreads or tails: only 4.0 % of the draws"
    )
    assert "160 of 4000" in words
    assert replace(found, effective=0.004).summary().words[0].startswith("Don't trust it: only 0.4 %")


def test_a_funnel_is_not_trusted_though_its_weights_are_even():
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        scale = (p["v"] / 2).exp()
        return Normal(0.0, 3.0).log_prob(p["v"]) + (-0.5 * (p["x"] / scale).square() - scale.log()).sum()

    found = fit(Target(log_joint, {"v": real(), "x": real(9)}))
    assert not found.reliable
    assert "whatever k-hat says" in found.summary().words[0]


def two_modes() -> Target:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        parts = [
            Normal(place, 1.0).log_prob(p["x"]) + math.log(share) for place, share in ((-4, 0.7), (4, 0.3))
        ]
        return torch.stack(parts).logsumexp(0)

    return Target(log_joint, {"x": real()})


@pytest.mark.parametrize("gradient", ["fixed", "pathwise"])
def test_a_mode_that_was_found_and_left_out_is_told(gradient: str):
    found = fit(two_modes(), "mean-field", gradient=gradient, pool=400)
    assert found.effective > 0.99  # The weights don't see it.
    assert not found.reliable
    words = found.summary().words
    assert words[0].startswith("Don't trust it as a whole")
    assert "hold about 30 % of the posterior" in words[0]
    assert "2 modes were found and q lies at the heaviest one" in words[1]
    assert fit(two_modes()).reliable


def test_means_that_the_weights_correct_are_not_those_of_q():
    """Laplace's means of exponentials are sqrt(e), not 1, and few of its draws are effective."""
    target = Target(lambda p: -p["x"].sum(), {"x": positive(7)})
    found = replace(fit(target, "laplace"), pareto_k=0.6)
    assert found.effective < 0.15
    assert found.sample(20_000, seed=0)["x"].mean() > 1.5
    assert found.summary().words[0].startswith("Trust neither means nor spreads")
    weighted = replace(found, weighted=True)
    assert weighted.summary().words[0].startswith("Trust the means, to about")


def test_what_is_off_is_told_of_the_values_that_the_table_shows():
    """Too narrow in the logarithm is too wide in the value."""
    found = fit(Target(lambda p: 2 * p["x"].log() - p["x"], {"x": positive()}), "laplace")
    assert found.sample(20_000, seed=0)["x"].std() > 1.1 * 3**0.5
    assert "x" in found.summary().words[0]
    assert "neither" in found.summary().words[0] or "too wide in x" in found.summary().words[0]


def test_numbers_that_never_vary_are_never_off():
    target = Target(
        lambda p: LKJCholesky(3, torch.tensor(2.0).double()).log_prob(p["L"]), {"L": cholesky_correlation(3)}
    )
    for method in ("laplace", "auto"):
        words = " ".join(fit(target, method).summary().words)
        assert "L[0,0]" not in words
        assert "L[0,1]" not in words


def test_a_thin_tail_of_even_weights_is_no_alarm():
    found = replace(fit(regression(), "full-rank"), pareto_k=2.6, effective=0.99999)
    assert found.reliable
    assert "the weights are all but even (k-hat, 2.60, says nothing then)" in found.summary().words[0]
    assert not replace(found, effective=0.999).reliable


def test_draws_without_a_log_joint_are_told():
    y = torch.tensor([-1.0, 1.0, 2.0], dtype=torch.float64)
    target = Target(
        lambda p: Normal(0.0, 1.0).log_prob(p["s"]) + Normal(0.0, p["s"]).log_prob(y).sum(), {"s": real()}
    )
    found = fit(target, "laplace", init={"s": 1.0})
    assert found.elbo == -math.inf
    words = found.summary().words
    assert "of the draws lie where the log-joint isn't finite" in words[0]
    assert "have a log-joint of NaN" in words[1]


def test_a_spread_that_rests_on_few_draws_is_told():
    """On a narrow banana the second coordinate's variance is 2.09, mostly owed to where few draws come."""

    def log_joint(p: dict[str, Tensor]) -> Tensor:
        return Normal(0.0, 1.0).log_prob(p["x"][0]) + Normal(p["x"][0].square(), 0.3).log_prob(p["x"][1])

    found = fit(Target(log_joint, {"x": real(2)}))
    assert found.reliable
    assert found.sample(20_000, seed=0)["x"][:, 1].var() < 0.9 * 2.09
    assert "not the spreads" in found.summary().words[0]
    assert "the spread of x[1] rests on few" in found.summary().words[0]
