from pathlib import Path
from typing import Any

import pytest
import torch
from scipy.integrate import quad
from scipy.stats import norm
from torch import nn

import jensen as jn
from jensen.errors import ConfigError, ShapeError
from jensen.seeding import seeded
from jensen.weights.pbp import PbpPosterior
from jensen.weights.pbp.filtering import Gamma, _gamma_moments, filtered, refine_prior, started
from jensen.weights.pbp.moments import output_moments, relu_moments


def assert_close(got: Any, wanted: Any, rtol: float = 1e-8, atol: float = 1e-12) -> None:
    torch.testing.assert_close(
        torch.as_tensor(got, dtype=torch.float64),
        torch.as_tensor(wanted, dtype=torch.float64),
        rtol=rtol,
        atol=atol,
    )


@pytest.mark.parametrize("mean", [-6.0, -0.5, 0.0, 2.0, 9.0])
@pytest.mark.parametrize("variance", [0.04, 3.0])
def test_moments_of_a_rectified_normal(mean: float, variance: float) -> None:
    scale = variance**0.5
    top = max(mean + 12 * scale, 1.0)
    moments = [
        quad(lambda a, k=k: a**k * norm.pdf(a, mean, scale), 0, top, epsabs=1e-14, limit=200)[0]
        for k in (1, 2)
    ]
    got = relu_moments(torch.tensor([mean]).double(), torch.tensor([variance]).double())
    assert_close(got[0], [moments[0]], rtol=1e-6, atol=1e-12)
    assert_close(got[1], [moments[1] - moments[0] ** 2], rtol=1e-6, atol=1e-12)


def layers(shapes: list[tuple[int, int]]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    generator = torch.Generator().manual_seed(0)
    options: Any = {"generator": generator, "dtype": torch.float64}
    return [(torch.randn(*shape, **options), torch.rand(*shape, **options) + 0.1) for shape in shapes]


@pytest.mark.parametrize(
    ("shapes", "bias"), [([(1, 4)], 0.0), ([(8, 4), (1, 9)], 0.0), ([(8, 4), (6, 9), (1, 7)], 0.05)]
)
def test_moments_of_the_output_are_those_of_drawn_networks(
    shapes: list[tuple[int, int]], bias: float
) -> None:
    found = layers(shapes)
    x = torch.tensor([[0.3, -1.2, 2.0]], dtype=torch.float64)
    mean, variance = output_moments(found, x)
    n = 40_000
    with seeded(1):
        z = x.expand(n, 1, 3)
        for place, (m, v) in enumerate(found):
            weights = m + v.sqrt() * torch.randn(n, *m.shape, dtype=torch.float64)
            z = z.relu() if place else z
            z = (z @ weights[..., :-1].mT + weights[..., None, :, -1]) / m.shape[-1] ** 0.5
    drawn = z[:, 0, 0]
    away = (drawn - drawn.mean()).square()
    # Exact up to one hidden layer; with two, hidden units are dependent, which is left out.
    assert abs(drawn.mean() - mean[0]) < 4 * drawn.std() / n**0.5 + bias * drawn.std()
    assert abs(away.mean() - variance[0]) < 4 * away.std() / n**0.5 + 4 * bias * away.mean()


def test_gamma_with_the_moments_of_a_product() -> None:
    a, b = torch.tensor([5.0]).double(), torch.tensor([2.0]).double()
    # Times lambda^1.5 exp(-0.7 lambda) it is the Gamma of shape a + 1.5 and rate b + 0.7.

    def log_z(shape: torch.Tensor) -> torch.Tensor:
        return (
            shape * b.log()
            - torch.lgamma(shape)
            + torch.lgamma(shape + 1.5)
            - (shape + 1.5) * (b + 0.7).log()
        )

    shape, rate, good = _gamma_moments(Gamma(a, b), (log_z(a), log_z(a + 1), log_z(a + 2)))
    assert_close(shape, a + 1.5)
    assert_close(rate, b + 0.7)
    assert bool(good)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_filtering_is_exact_for_one_weight(batch_size: int) -> None:
    # At x = 0 the output is the bias alone: a normal mean with known noise.
    with seeded(0):
        y = 1.5 + 0.5 * torch.randn(11, dtype=torch.float64)
    network = nn.Linear(1, 1, dtype=torch.float64)
    options: Any = {
        "method": "pbp",
        "noise_scale": 0.5,
        "prior_scale": 2.0,
        "epochs": 1,
        "batch_size": batch_size,
    }
    zero = torch.zeros(11, 1, dtype=torch.float64)
    whole = jn.weights.fit(network, zero, y, **options)
    precision = 11 / 0.25 + 1 / 4
    assert isinstance(whole, PbpPosterior)
    assert_close(whole.mean["bias"], [float(y.sum() / 0.25 / precision)])
    assert_close(whole.variances()["bias"], [1 / precision])
    assert_close(whole.variances()["weight"], [[4.0]])
    found = whole.predict(zero[:1])
    assert_close(found.mean, whole.mean["bias"])
    assert_close(found.variance, [1 / precision + 0.25])
    parts = jn.weights.fit(network, zero[:4], y[:4], **options).update(zero[4:], y[4:])
    assert isinstance(parts, PbpPosterior)
    assert_close(parts.mean["bias"], whole.mean["bias"])
    assert_close(parts.variances()["bias"], whole.variances()["bias"])


def test_the_priors_factors_add_up() -> None:
    with seeded(0):
        state = started(((3, 3), (1, 4)), 2, noise_variance=None, prior_variances=None)
        x = torch.randn(2, 20, 2, dtype=torch.float64)
        state = filtered(state, x, x.sum(2), 2, 1)
        before = state
        state = refine_prior(state)
    assert state.prior is not None
    # What isn't the prior's factors' stays.
    for name, natural in (
        ("site_precision", lambda s: 1 / s.variance),
        ("site_linear", lambda s: s.mean / s.variance),
    ):
        assert_close(
            natural(state) - getattr(state, name),
            natural(before) - getattr(before, name),
            rtol=1e-6,
            atol=1e-8,
        )
    assert_close(state.prior.shape, 6 + state.site_shape.sum(1))
    assert_close(state.prior.rate, 6 + state.site_rate.sum(1))
    assert float(state.site_shape.abs().max()) > 0.1


def test_a_factor_of_the_prior_is_the_normal_product() -> None:
    state = started(((1, 2),), 1, noise_variance=1.0, prior_variances=None)
    # One weight whose data say N(0.7, 0.5), as its posterior less the factor of the prior.
    site = 1 / state.variance
    variance = 1 / (1 / 0.5 + site)
    moved = refine_prior(
        state.__class__(**{**vars(state), "mean": variance * 0.7 / 0.5, "variance": variance})
    )
    exact = 1 / (1 / 0.5 + 1 / 1.2)
    assert_close(moved.variance, [[exact, exact]], rtol=1e-6)
    assert_close(moved.mean, [[exact * 0.7 / 0.5] * 2], rtol=1e-6)


def curve(n: int = 60) -> tuple[torch.Tensor, torch.Tensor]:
    with seeded(4):
        x = torch.linspace(-2, 2, n)[:, None]
        return x, torch.sin(2 * x[:, 0]) + 0.1 * torch.randn(n)


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(1, 30), nn.ReLU(), nn.Linear(30, 1))


def test_it_learns_a_curve_its_noise_and_where_it_knows_nothing(tmp_path: Path) -> None:
    x, y = curve()
    posterior = jn.weights.fit(chain(), x, y, method="pbp", epochs=20, batch_size=4)
    assert isinstance(posterior, PbpPosterior)
    found = posterior.predict(x)
    assert float((found.mean - y).square().mean().sqrt()) < 0.45
    assert 0.05 < posterior.noise_scale < 0.7
    far = posterior.predict(torch.tensor([[8.0]]))
    assert float(far.epistemic_variance) > 5 * float(found.epistemic_variance.mean())
    drawn = posterior.predict(x, predictive="sampled", samples=3000)
    error = (drawn.epistemic_variance / 3000).sqrt()
    assert float(((drawn.mean - found.mean) / error).abs().max()) < 4.5
    ratio = drawn.epistemic_variance / found.epistemic_variance
    # The variance of a variance of n draws is about 2 / n of its square, more where tails are longer.
    assert float((ratio - 1).abs().max()) < 6 * (2 / 3000) ** 0.5
    posterior.save(tmp_path)
    again = jn.weights.load(tmp_path, network=chain())
    assert torch.equal(again.predict(x).std, found.std)
    assert torch.equal(
        again.update(x[:5], y[:5], epochs=1).predict(x).mean,
        posterior.update(x[:5], y[:5], epochs=1).predict(x).mean,
    )
    q = posterior.sample(3, seed=0)
    wanted = sum(
        torch.distributions.Normal(posterior.mean[name], posterior.variances()[name].sqrt())
        .log_prob(value)
        .flatten(1)
        .sum(1)
        for name, value in q.items()
    )
    torch.testing.assert_close(posterior.log_prob(q).float(), wanted, rtol=1e-4, atol=1e-2)


def test_learning_goes_on() -> None:
    x, y = curve()
    order = torch.randperm(60, generator=torch.Generator().manual_seed(0))
    x, y = x[order], y[order]
    first = jn.weights.fit(chain(), x[:20], y[:20], method="pbp", epochs=10, batch_size=4)
    second = first.update(x[20:], y[20:])
    before = float(first.predict(x).log_prob(y).mean())
    assert float(second.predict(x).log_prob(y).mean()) > before
    assert float(second.predict(x).epistemic_variance.mean()) < float(
        first.predict(x).epistemic_variance.mean()
    )


def test_wrong_input_is_refused() -> None:
    x, y = curve(10)
    fit: Any = lambda network, y=y, **options: jn.weights.fit(network, x, y, method="pbp", **options)  # noqa: E731
    with pytest.raises(ConfigError, match="module '1' is Tanh where ReLU was wanted"):
        fit(nn.Sequential(nn.Linear(1, 3), nn.Tanh(), nn.Linear(3, 1)))
    with pytest.raises(ConfigError, match="a Linear layer with a bias was wanted"):
        fit(nn.Sequential(nn.Linear(1, 3, bias=False), nn.ReLU(), nn.Linear(3, 1)))
    with pytest.raises(ConfigError, match="ends with a Linear layer of one output; this one has 2"):
        fit(nn.Linear(1, 2), torch.zeros(10, 2))
    with pytest.raises(ConfigError, match="likelihood='normal' with one noise, got 'bernoulli'"):
        fit(chain(), (y > 0).long())
    with pytest.raises(ConfigError, match="one noise, got 'normal' with noise_scale='network'"):
        fit(nn.Linear(1, 2), y, noise_scale="network")
    with pytest.raises(ConfigError, match="needs prior='normal', got 'laplace'"):
        fit(chain(), prior="laplace")
    posterior = fit(chain(), epochs=1)
    with pytest.raises(ShapeError, match="can't take data"):
        posterior.update(torch.zeros(3, 2), torch.zeros(3))
    with pytest.raises(ConfigError, match="unknown option of method 'pbp' 'epoch'; did you mean 'epochs'"):
        posterior.update(x, y, epoch=3)
    for option in ("shape", "rate"):
        with pytest.raises(ConfigError, match=f"update can't change {option}"):
            posterior.update(x, y, **{option: 7.0})
    with pytest.raises(ConfigError, match="samples has to be at least 1, got 0"):
        posterior.predict(x, samples=0)
    frozen = chain()
    frozen[0].bias.requires_grad_(False)
    with pytest.raises(ConfigError, match="bias' is frozen"):
        fit(frozen)
