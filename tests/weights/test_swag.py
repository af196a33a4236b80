from pathlib import Path

import pytest
import torch
from torch import nn
from torch.distributions import LowRankMultivariateNormal

import jensen as jn
from jensen.errors import ConfigError
from jensen.weights import FunctionalNetwork, MembersPosterior, NormalPosterior
from jensen.weights.normal import batch_statistics
from jensen.weights.swag import Visits
from testbed import assert_mean
from weights.linear import DTYPE, regression

X, Y = torch.randn(40, 3), torch.randn(40)


def test_running_moments_are_those_of_the_vectors() -> None:
    vectors = torch.randn(9, 4, generator=torch.Generator().manual_seed(0), dtype=DTYPE) + 100
    visits = Visits(3)
    for vector in vectors:
        visits.add(vector)
    torch.testing.assert_close(visits.mean, vectors.mean(0))
    torch.testing.assert_close(visits.variance, vectors.var(0, correction=0), rtol=1e-6, atol=1e-9)
    expected = [vectors[t] - vectors[: t + 1].mean(0) for t in (6, 7, 8)]
    torch.testing.assert_close(torch.stack(visits.deviations), torch.stack(expected))


def test_the_average_is_the_exact_mean_of_linear_regression() -> None:
    problem = regression()
    options = {"epochs": 300, "batch_size": 1000, "learning_rate": 0.5, "collect": 10}
    for structure in ("average", "low-rank"):
        posterior = problem.fit("swag", structure=structure, **options)
        found = posterior.point["weight"][0] if structure == "average" else posterior.loc
        torch.testing.assert_close(found, problem.mean, atol=1e-3, rtol=1e-3)
    assert isinstance(problem.fit("swag", structure="average", **options | {"epochs": 1}), MembersPosterior)


def test_low_rank_noise_is_shared_by_all_tensors() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    options = {
        "method": "swag",
        "epochs": 2,
        "batch_size": 8,
        "learning_rate": 0.05,
        "collect_learning_rate": 0.05,
    }
    q = jn.weights.fit(network, X, Y, rank=5, collect=12, **options)
    assert isinstance(q, NormalPosterior)
    assert q.factor.shape == (5, 21)
    draws = q.sample(20_000, seed=0)
    first, last = draws["0.weight"].flatten(1), draws["2.weight"].flatten(1)
    # With noise drawn apart for each tensor this covariance would be zero.
    expected = (q.factor.T @ q.factor)[:12, 16:20]
    a, b = first - first.mean(0), last - last.mean(0)
    assert_mean((a[:, :, None] * b[:, None]).flatten(1), expected.flatten(), errors=5)
    assert float(expected.abs().max()) > 1e-4
    weights = {name: value[:3] for name, value in draws.items()}
    reference = LowRankMultivariateNormal(q.loc.double(), q.factor.T.double(), q.scale.square().double())
    flat = torch.cat([value.flatten(1) for value in weights.values()], 1).double()
    torch.testing.assert_close(q.log_prob(weights).double(), reference.log_prob(flat), rtol=1e-3, atol=1e-2)


def test_the_diagonal_has_the_visits_variances_and_low_rank_half_of_them() -> None:
    network = nn.Linear(3, 1)
    options = {"method": "swag", "epochs": 2, "batch_size": 8, "learning_rate": 0.05, "collect": 9}
    diagonal = jn.weights.fit(network, X, Y, structure="diagonal", **options)
    low_rank = jn.weights.fit(network, X, Y, rank=4, **options)
    assert diagonal.factor is None
    torch.testing.assert_close(low_rank.scale.square(), diagonal.scale.square() / 2)
    assert len(diagonal.history["loss"]) == 11


def test_batch_statistics_are_computed_for_each_draw(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 1))
    q = jn.weights.fit(network, X, Y, method="swag", epochs=2, collect=5, learning_rate=0.05, rank=3)
    draws = q.draw(3)
    for s in range(3):
        hidden = X @ draws["0.weight"][s].T + draws["0.bias"][s]
        torch.testing.assert_close(draws["1.running_mean"][s], hidden.mean(0))
        torch.testing.assert_close(draws["1.running_var"][s], hidden.var(0))
    q.save(tmp_path)
    again = jn.weights.load(tmp_path, network=network)
    assert torch.equal(again.predict(X).mean, q.predict(X).mean)
    plain = FunctionalNetwork(network)
    found = batch_statistics(plain, {n: v[None] for n, v in plain.weights.items()}, X)
    assert found["1.num_batches_tracked"].tolist() == [1]


def test_it_is_no_prior() -> None:
    q = jn.weights.fit(nn.Linear(3, 1), X, Y, method="swag", epochs=1, collect=2)
    with pytest.raises(ConfigError, match="as wide as its step size"):
        q.update(X, Y)
