import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal

from jensen.data import checkerboard, linear_gaussian, pinwheel, two_moons
from jensen.errors import ConfigError


def test_evidence_is_that_of_scipy():
    problem = linear_gaussian(n=20, data_dim=4, latent_dim=2, noise_scale=0.3, seed=1)
    weight = problem.weight.numpy()
    reference = multivariate_normal(problem.mean.numpy(), weight @ weight.T + 0.09 * np.eye(4))
    # Both factorise a 4x4 matrix of condition below 1e3 in float64.
    np.testing.assert_allclose(problem.log_prob(problem.x), reference.logpdf(problem.x.numpy()), rtol=1e-10)


def test_bayes_rule_holds_for_every_latent():
    problem = linear_gaussian(n=6, data_dim=5, latent_dim=3, noise_scale=0.7, seed=2)
    posterior = problem.posterior(problem.x)
    z = posterior.sample()
    prior = torch.distributions.Normal(torch.zeros_like(z), 1.0).log_prob(z).sum(-1)
    mean = z @ problem.weight.mT + problem.mean
    likelihood = torch.distributions.Normal(mean, problem.noise_scale).log_prob(problem.x).sum(-1)
    evidence = prior + likelihood - posterior.log_prob(z)
    torch.testing.assert_close(evidence, problem.log_prob(problem.x), rtol=1e-10, atol=1e-10)


def test_seeds_repeat_and_leave_nothing_seeded():
    before = torch.get_rng_state()
    first, second = linear_gaussian(seed=3), linear_gaussian(seed=3)
    assert torch.equal(first.x, second.x)
    assert first.x.dtype == torch.float64
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(first.x, linear_gaussian(seed=4).x)


@pytest.mark.parametrize("options", [{"n": 0}, {"noise_scale": 0.0}, {"latent_dim": -1}])
def test_linear_gaussian_needs_numbers_above_zero(options):
    with pytest.raises(ConfigError, match="Give numbers above 0"):
        linear_gaussian(**options)


@pytest.mark.parametrize("draw", [two_moons, pinwheel, checkerboard])
def test_clouds_repeat_with_their_seed(draw):
    points = draw(500, seed=1)
    assert points.shape == (500, 2)
    assert np.isfinite(points).all()
    assert np.array_equal(points, draw(500, seed=1))
    assert not np.array_equal(points, draw(500, seed=2))


def test_checkerboard_has_only_black_fields_and_all_of_them():
    fields = np.floor(checkerboard(2000) / 2).astype(int)
    assert (fields.sum(axis=1) % 2 == 0).all()
    assert len({tuple(field) for field in fields.tolist()}) == 8
    assert fields.min() == -2
    assert fields.max() == 1
