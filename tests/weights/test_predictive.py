from math import log

import pytest
import torch
from scipy.stats import poisson
from torch.distributions import Normal, Poisson

from jensen.errors import ConfigError, ShapeError
from jensen.weights import MixturePredictive, NormalPredictive, linearised
from jensen.weights.likelihoods import likelihood
from testbed import assert_mean

DTYPE = torch.float64
TORCH = torch.Generator().manual_seed(0)


def normals() -> MixturePredictive:
    outputs = torch.randn(4, 3, 1, generator=TORCH, dtype=DTYPE) * 3
    return MixturePredictive(
        likelihood("normal", 0.5), outputs, log_weights=torch.tensor([0.1, 0.2, 0.3, 0.4]).log()
    )


def test_moments_and_parts_of_a_mixture() -> None:
    found = normals()
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=DTYPE)
    locs = found.outputs[..., 0]
    mean = (weights[:, None] * locs).sum(0)
    torch.testing.assert_close(found.mean, mean, atol=1e-6, rtol=1e-6)
    assert found.aleatoric_variance.tolist() == pytest.approx([0.25] * 3)
    spread = (weights[:, None] * (locs - mean).square()).sum(0)
    torch.testing.assert_close(found.epistemic_variance, spread, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.std.square(), spread + 0.25, atol=1e-5, rtol=1e-5)
    draws = found.sample(40_000, seed=1)
    assert_mean(draws, found.mean)
    assert_mean((draws - found.mean).square(), found.variance)


def test_log_prob_is_the_log_of_the_mean_density_with_its_sign() -> None:
    found, y = normals(), torch.tensor([0.1, -2.0, 4.0], dtype=DTYPE)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None]
    density = (weights * Normal(found.outputs[..., 0], 0.5).log_prob(y).exp()).sum(0)
    torch.testing.assert_close(found.log_prob(y), density.log(), atol=1e-6, rtol=1e-6)
    with pytest.raises(ShapeError, match="3 data were predicted, got 2"):
        found.log_prob(y[:2])
    several = MixturePredictive(likelihood("normal", 0.5), found.outputs.expand(4, 3, 2))
    joint = several.log_prob(torch.stack([y, y], 1))
    each = 2 * Normal(found.outputs[..., 0], 0.5).log_prob(y)
    torch.testing.assert_close(joint, each.exp().mean(0).log())


def test_entropy_and_mutual_information_of_normals() -> None:
    found = normals()
    y = torch.linspace(-30, 30, 200_001, dtype=DTYPE)
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None, None]
    density = (weights * Normal(found.outputs, 0.5).log_prob(y).exp()).sum(0)
    entropy = torch.trapezoid(torch.special.entr(density), y, dim=-1)
    torch.testing.assert_close(found.entropy, entropy, atol=1e-6, rtol=1e-6)
    noise = float(Normal(0.0, 0.5).entropy())
    torch.testing.assert_close(found.mutual_information, entropy - noise, atol=1e-6, rtol=1e-6)


def test_entropy_and_mutual_information_of_classes() -> None:
    logits = torch.tensor([[[100.0, 0.0]], [[0.0, 100.0]]])
    agreed = MixturePredictive(likelihood("categorical"), torch.zeros(2, 1, 2))
    split = MixturePredictive(likelihood("categorical"), logits)
    for found in (agreed, split):
        assert found.mean.tolist() == [[0.5, 0.5]]
        assert float(found.entropy) == pytest.approx(0.6931472)
    assert float(agreed.mutual_information) == pytest.approx(0.0, abs=1e-7)
    assert float(split.mutual_information) == pytest.approx(0.6931472)
    assert float(split.aleatoric_variance.sum()) == pytest.approx(0.0, abs=1e-7)
    assert split.epistemic_variance.tolist() == [[0.25, 0.25]]
    single = MixturePredictive(likelihood("bernoulli"), logits[..., :1] - 50)
    assert float(single.mutual_information) == pytest.approx(0.6931472)
    with pytest.raises(ConfigError, match="no quantiles"):
        split.quantiles(0.5)


def test_quantiles_invert_the_distribution_function() -> None:
    found, levels = normals(), [0.05, 0.5, 0.9]
    weights = torch.tensor([0.1, 0.2, 0.3, 0.4])[:, None]
    for level, value in zip(levels, found.quantiles(levels), strict=True):
        below = (weights * Normal(found.outputs[..., 0], 0.5).cdf(value)).sum(0)
        assert below.tolist() == pytest.approx([level] * 3, abs=1e-6)
    assert torch.equal(found.quantiles(0.5), found.quantiles([0.5])[0])
    with pytest.raises(ConfigError, match="between 0 and 1"):
        found.quantiles(1.0)


def test_counts_by_summation() -> None:
    outputs = torch.tensor([[[0.0], [3.0]], [[1.0], [2.0]]], dtype=DTYPE)
    found = MixturePredictive(likelihood("poisson"), outputs)
    counts = torch.arange(200, dtype=DTYPE)
    table = Poisson(outputs.exp()).log_prob(counts).exp().mean(0)
    torch.testing.assert_close(found.entropy, torch.special.entr(table).sum(-1))
    rates = outputs.exp()[..., 0]
    torch.testing.assert_close(found.aleatoric_variance, rates.mean(0))
    for level in (0.01, 0.3, 0.5, 0.99):
        expected = (table.cumsum(-1) < level).sum(-1).to(DTYPE)
        assert torch.equal(found.quantiles(level), expected), level
    assert bool((found.mutual_information > 0).all())


def test_closed_form_of_normal_outputs_is_what_draws_tend_to() -> None:
    loc = torch.tensor([[0.0, 1.0], [2.0, -1.0]], dtype=DTYPE)
    root = torch.tensor([[[1.0, 0.0], [0.5, 0.3]], [[0.2, 0.0], [0.0, 2.0]]], dtype=DTYPE)
    covariance, family = root @ root.mT, likelihood("normal", 0.4)
    exact = linearised(family, loc, covariance)
    draws = linearised(family, loc, covariance, link="monte-carlo", samples=20_000)
    assert isinstance(exact, NormalPredictive)
    assert isinstance(draws, MixturePredictive)
    assert draws.samples == 20_000
    assert_mean(draws.outputs, loc)
    assert_mean((draws.outputs - loc).square(), exact.epistemic_variance)
    y = torch.tensor([[0.3, 0.7], [2.0, 0.0]], dtype=DTYPE)
    densities = family.log_prob(draws.outputs, y).exp()
    assert_mean(densities, exact.log_prob(y).exp())
    assert exact.quantiles(0.5).equal(exact.mean)
    information = 0.5 * (1 + exact.epistemic_variance / 0.16).log()
    torch.testing.assert_close(exact.mutual_information, information)
    assert_mean(exact.sample(20_000), exact.mean)


def test_probit_of_classes() -> None:
    loc, covariance = torch.tensor([[1.5]], dtype=DTYPE), torch.tensor([[[4.0]]], dtype=DTYPE)
    found = linearised(likelihood("bernoulli"), loc, covariance, link="probit")
    grid = torch.linspace(-25, 25, 20_001, dtype=DTYPE)
    exact = torch.trapezoid(Normal(1.5, 2.0).log_prob(grid).exp() * grid.sigmoid(), grid)
    assert float(found.mean) == pytest.approx(float(exact), abs=0.01)
    with pytest.raises(ConfigError, match="monte-carlo"):
        _ = found.mutual_information
    with pytest.raises(ConfigError, match="link='probit'"):
        linearised(likelihood("poisson"), loc, covariance, link="probit")


def test_entropy_of_narrow_components_far_apart() -> None:
    for away in (5.0, 1000.0, 2345.6, 1e5):
        outputs = torch.tensor([0.0, away], dtype=DTYPE)[:, None, None]
        found = MixturePredictive(likelihood("normal", 0.01), outputs)
        # Nothing of one lies under the other: which one it is counts log 2 more.
        assert float(found.mutual_information) == pytest.approx(log(2), abs=1e-9)


def test_predictions_of_counts_far_from_the_data() -> None:
    rates = torch.tensor([[7e4, 5.0, 1e12, 3.0], [8e4, 5.0, 1e12, torch.inf]], dtype=DTYPE)
    found = MixturePredictive(likelihood("poisson"), rates.log()[..., None])
    normal = Normal(rates, rates.sqrt()).entropy()
    assert float(found.entropy[0]) == pytest.approx(float(normal[:, 0].mean()) + log(2), abs=1e-5)
    assert float(found.entropy[1]) == pytest.approx(poisson(5.0).entropy(), abs=1e-9)
    assert float(found.entropy[2]) == pytest.approx(float(normal[0, 2]), abs=1e-9)
    assert not bool(found.entropy[3].isfinite())
    levels = found.quantiles([0.1, 0.9])
    assert bool((levels[0, :3] < levels[1, :3]).all())
    assert levels[0, 1] == poisson(5.0).ppf(0.1)
    assert levels[1, 3] > 1e100
