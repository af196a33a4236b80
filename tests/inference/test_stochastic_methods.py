import pytest
import torch
from torch import Tensor, nn
from torch.distributions import Normal

from inference.test_stochastic import LOG_EVIDENCE, MEAN, PRECISION, gaussian, logistic
from jensen.errors import ConfigError, ShapeError
from jensen.inference import Target, fit, real
from jensen.inference.families import FullRank, MeanField

SD = PRECISION.diagonal().rsqrt()


@pytest.mark.parametrize("method", ["full-rank", "mixture", "flow", "pathfinder"])
def test_families_that_contain_a_gaussian_find_it(method: str) -> None:
    options = {"steps": 200} if method in {"mixture", "flow"} else {}
    found = fit(gaussian(), method, gradient="pathwise" if method == "full-rank" else None, seed=0, **options)
    assert found.pareto_k < 0.7
    assert abs(float(found.evidence.value) - LOG_EVIDENCE) < 4 * float(found.evidence.standard_error) + 1e-6
    assert ((found.sample(20_000, seed=1)["x"].mean(0) - MEAN).abs() / SD).max() < 0.06


def test_mean_field_by_stochastic_gradients_is_the_one_by_fixed_draws() -> None:
    fixed = fit(gaussian(), "mean-field").posterior
    climbed = fit(gaussian(), "mean-field", gradient="pathwise", samples=64, steps=600).posterior
    assert fixed is not None
    assert climbed is not None
    torch.testing.assert_close(climbed.stddev, fixed.stddev, rtol=0.06, atol=0)


def test_score_function_needs_no_gradient_of_the_log_joint() -> None:
    def log_joint(p: dict[str, Tensor]) -> Tensor:
        x = (p["x"].detach() - 2.0).numpy()
        return torch.tensor(-0.5 * float((x**2).sum()), dtype=torch.float64)

    found = fit(Target(log_joint, {"x": real(2)}, loop=True), gradient="score", steps=400, pool=400)
    assert found.method == "full-rank"
    assert (found.sample(4000, seed=0)["x"].mean(0) - 2).abs().max() < 0.15
    assert found.summary().words[0].startswith("Trust means")


def test_minibatches() -> None:
    target = logistic(2000)
    whole = fit(target, "full-rank").posterior
    part = fit(target, "full-rank", gradient="pathwise", batch_size=200, steps=400, pool=400).posterior
    assert whole is not None
    assert part is not None
    assert ((part.mean - whole.mean).abs() / whole.stddev).max() < 0.1
    assert (part.stddev / whole.stddev).log().abs().max() < 0.07


def test_own_posterior() -> None:
    found = fit(gaussian(), FullRank(3), steps=300)
    assert found.method == "FullRank"
    assert abs(found.elbo - LOG_EVIDENCE) < 0.02


def test_stein_says_that_it_has_no_bound() -> None:
    found = fit(gaussian(), "stein", particles=50, steps=50)
    assert found.posterior is None
    assert torch.isnan(found.evidence.value)
    assert found.sample(10, seed=0)["x"].shape == (10, 3)


def test_what_has_not_converged_says_so() -> None:
    found = fit(gaussian(), MeanField(3), steps=5)
    assert any("hasn't converged" in note for note in found.notes)


def test_bad_input() -> None:
    with pytest.raises(ConfigError, match="did you mean 'pathwise'"):
        fit(gaussian(), "full-rank", gradient="pathwize")
    with pytest.raises(ConfigError, match="doesn't take gradient='score'"):
        fit(gaussian(), "laplace", gradient="score")
    with pytest.raises(ConfigError, match="doesn't take gradient='fixed'"):
        fit(gaussian(), "flow", gradient="fixed")
    with pytest.raises(ConfigError, match="option of the method 'flow'"):
        fit(gaussian(), "flow", batch=3)
    with pytest.raises(ConfigError, match="knows its rows"):
        fit(gaussian(), "full-rank", gradient="pathwise", batch_size=3)


def test_what_posteriors_of_ones_own_may_not_be() -> None:
    with pytest.raises(ConfigError, match="is fitted by stochastic gradients"):
        fit(gaussian(), FullRank(3), gradient="fixed")
    with pytest.raises(ConfigError, match="Linear failed"):
        fit(gaussian(), nn.Linear(1, 1))
    with pytest.raises(ConfigError, match="got NoneType"):
        fit(gaussian(), nn.Identity())
    with pytest.raises(ShapeError, match=r"over 3 coordinates, got event shape \(2,\)"):
        fit(gaussian(), FullRank(2))


def test_what_does_not_go_together_is_told() -> None:
    with pytest.raises(ConfigError, match=r"'auto' takes all rows .* gradient='pathwise'"):
        fit(logistic(50), batch_size=10)
    with pytest.raises(ConfigError, match="no density to weigh by"):
        fit(gaussian(), "stein", weighted=True)


def test_minibatches_begin_at_init_and_notice_a_second_mode() -> None:
    rows = 0.1 * torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 1.5
    target = Target(
        lambda p: Normal(0.05, 3.0).log_prob(p["x"]),
        {"x": real()},
        log_likelihood=lambda p, y: Normal(p["x"].abs(), 5.0).log_prob(y),
        data=rows,
    )
    options = {"gradient": "pathwise", "batch_size": 40, "steps": 200, "pool": 400}
    found = fit(target, "mean-field", **options)
    assert "2 modes were found" in found.notes[0]
    assert not found.reliable
    for place in (-1.0, 1.0):
        there = fit(target, "mean-field", init={"x": place}, **options)
        assert float(there.sample(100, seed=0)["x"].mean()) * place > 0
