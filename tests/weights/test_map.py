import copy
from pathlib import Path

import pytest
import torch
from torch import nn

import jensen as jn
from jensen.errors import ConfigError, DataError, FitError, RunError, ShapeError, SupportError
from jensen.weights.likelihoods import NOISE
from weights.linear import regression

FULL = {"epochs": 300, "batch_size": 1000, "learning_rate": 0.5}


def test_map_is_the_exact_mean() -> None:
    problem = regression()
    posterior = problem.fit("map", **FULL)
    torch.testing.assert_close(posterior.sample(2)["weight"][1, 0], problem.mean, atol=1e-4, rtol=1e-3)
    found = posterior.predict(problem.x)
    torch.testing.assert_close(found.mean, problem.x @ problem.mean, atol=1e-4, rtol=1e-3)
    assert found.samples == 1
    torch.testing.assert_close(found.std, torch.full_like(found.std, 0.5))
    assert posterior.history["loss"][-1] < posterior.history["loss"][0]


def test_the_noise_is_learned() -> None:
    problem = regression(200)
    posterior = jn.weights.fit(
        problem.network(), problem.x, problem.y, method="map", likelihood="normal", prior_scale=100.0, **FULL
    )
    rest = problem.y - posterior.predict(problem.x).mean
    found = posterior.predict(problem.x[:1]).std
    assert float(found) == pytest.approx(float(rest.square().mean().sqrt()), rel=1e-3)
    assert set(posterior.sample(1)) == {"weight"}
    assert NOISE in posterior.point


def test_same_seed_same_weights_and_nothing_left_seeded() -> None:
    x, y = torch.randn(40, 2), torch.randint(0, 3, (40,))
    network = nn.Sequential(nn.Linear(2, 8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 3))
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    options = {"method": "map", "epochs": 3, "batch_size": 8}
    first, second = (jn.weights.fit(network, x, y, seed=3, **options) for _ in range(2))
    other = jn.weights.fit(network, x, y, seed=4, **options)
    assert first.likelihood.name == "categorical"
    assert torch.equal(first.point["0.weight"], second.point["0.weight"])
    assert not torch.equal(first.point["0.weight"], other.point["0.weight"])
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_no_epochs_keep_the_weights() -> None:
    network = nn.Linear(2, 1)
    posterior = jn.weights.fit(network, torch.randn(9, 2), torch.randn(9), method="map", epochs=0)
    assert torch.equal(posterior.point["weight"], network.weight)


def test_batch_statistics_are_learned() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.BatchNorm1d(2), nn.Linear(2, 1))
    x = torch.randn(64, 2) * 3 + 5
    posterior = jn.weights.fit(
        network, x, torch.randn(64), method="map", epochs=200, batch_size=64, learning_rate=1e-3
    )
    assert posterior.network.buffers["0.running_mean"].tolist() == pytest.approx(x.mean(0).tolist(), rel=1e-4)
    assert network[0].running_mean.tolist() == [0, 0]


def test_saved_and_loaded(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    network[0].requires_grad_(False)
    x, y = torch.randn(30, 2), torch.randn(30)
    posterior = jn.weights.fit(network, x, y, method="map", epochs=5, prior="scale-mixture", scale_ratio=0.1)
    posterior.save(tmp_path)
    again = jn.weights.load(
        tmp_path, network=nn.Sequential(nn.Linear(2, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    )
    assert torch.equal(again.predict(x).mean, posterior.predict(x).mean)
    assert again.method == "map"
    assert list(again.sample(1)) == list(posterior.sample(1))
    with pytest.raises(ShapeError, match=r"parameter '0\.weight' is"):
        jn.weights.load(tmp_path, network=nn.Sequential(nn.Linear(3, 4)))
    with pytest.raises(ConfigError, match="network=net"):
        jn.weights.load(tmp_path)
    (tmp_path / "weights.safetensors").write_bytes(b"broken")
    with pytest.raises(RunError, match="damaged"):
        jn.weights.load(tmp_path, network=network)
    with pytest.raises(RunError, match="holds no posterior"):
        jn.weights.load(tmp_path / "none", network=network)


X, Y = torch.randn(20, 2), torch.randn(20)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"method": "mapp"}, ConfigError, "did you mean 'map'"),
        ({"epoch": 3}, ConfigError, "option of method 'map' 'epoch'; did you mean 'epochs'"),
        ({"epochs": "many"}, ConfigError, "option epochs of method 'map'"),
        ({"prior": "norml"}, ConfigError, "did you mean 'normal'"),
        ({"prior_scale": "learned"}, ConfigError, "no bound on the evidence"),
        ({"X": torch.randn(20, 3)}, ShapeError, "can't take data"),
        ({"X": X.log()}, DataError, "NaN or infinite"),
        ({"y": Y.log()}, DataError, "NaN or infinite"),
        ({"y": ["a"] * 20}, DataError, "y has to hold numbers"),
        ({"y": Y[:10]}, ShapeError, "20 data and y 10 targets"),
        ({"likelihood": "bernoulli"}, SupportError, "0 or 1"),
        ({"likelihood": "bernoulli", "y": torch.ones(20)}, DataError, "one class"),
        ({"likelihood": "categorical"}, ShapeError, "one output a class"),
        ({"network": nn.ReLU()}, ConfigError, "no parameters"),
    ],
)
def test_bad_input(change: dict, error: type, message: str) -> None:
    arguments = {"network": nn.Linear(2, 1), "X": X, "y": Y, "method": "map", "epochs": 1} | change
    with pytest.raises(error, match=message):
        jn.weights.fit(**arguments)


def test_what_a_point_can_not_do() -> None:
    posterior = jn.weights.fit(nn.Linear(2, 1), X, Y, method="map", epochs=1)
    with pytest.raises(ConfigError, match="no density"):
        posterior.log_prob(posterior.sample(1))
    with pytest.raises(ConfigError, match="no normal form"):
        posterior.update(X, Y)
    with pytest.raises(ConfigError, match="at least 1"):
        posterior.predict(X, samples=0)
    assert posterior.sample(torch.Size([2, 3]))["weight"].shape == (2, 3, 1, 2)


def test_what_can_not_be_predicted_or_trained_is_said() -> None:
    posterior = jn.weights.fit(nn.Linear(2, 1), X, Y, method="map", epochs=1)
    with pytest.raises(DataError, match="1 of 40 cells of X are NaN"):
        posterior.predict(torch.where(X[3, 1] == X, torch.nan, X))
    with pytest.raises(FitError, match="not finite"):
        jn.weights.fit(nn.Linear(2, 1), X * 1e30, Y, method="map", epochs=20)
