from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from torch import nn

from jensen import weights
from jensen.errors import ConfigError, DataError, ShapeError
from jensen.weights import MixturePredictive, RescaledPredictive, Standardised
from jensen.weights.likelihoods import CategoricalLikelihood, NormalLikelihood

RNG = np.random.default_rng(0)
X = 5 + 3 * RNG.normal(size=(30, 2))
Y = 400 + 20 * X[:, 0] + 10 * RNG.normal(size=30)


def test_a_rescaled_predictive_is_that_of_the_scaled_targets() -> None:
    loc = torch.tensor([[[0.0], [1.0]], [[2.0], [-1.0]]], dtype=torch.float64)
    inner = MixturePredictive(NormalLikelihood(0.5), loc)
    outer = RescaledPredictive(inner, 10.0, 4.0)
    direct = MixturePredictive(NormalLikelihood(2.0), 10 + 4 * loc)
    y = torch.tensor([9.0, 13.0], dtype=torch.float64)
    for name in ("mean", "std", "aleatoric_variance", "epistemic_variance", "entropy", "mutual_information"):
        torch.testing.assert_close(getattr(outer, name), getattr(direct, name), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(outer.log_prob(y), direct.log_prob(y))
    torch.testing.assert_close(outer.quantiles([0.1, 0.7]), direct.quantiles([0.1, 0.7]))
    torch.testing.assert_close(outer.sample(5, seed=1), direct.sample(5, seed=1))


def test_several_targets_count_their_jacobians_together() -> None:
    loc = torch.zeros(1, 3, 2, dtype=torch.float64)
    outer = RescaledPredictive(MixturePredictive(NormalLikelihood(1.0), loc), 0.0, torch.tensor([2.0, 5.0]))
    y = torch.tensor([[1.0, 2.0]] * 3, dtype=torch.float64)
    exact = stats.norm(0, 2).logpdf(1.0) + stats.norm(0, 5).logpdf(2.0)
    np.testing.assert_allclose(outer.log_prob(y).numpy(), exact)


def test_classes_have_no_unit() -> None:
    with pytest.raises(ConfigError, match="normal noise"):
        RescaledPredictive(MixturePredictive(CategoricalLikelihood(), torch.zeros(1, 2, 3)), 0.0, 1.0)


def test_laplace_of_a_linear_model_in_the_targets_unit() -> None:
    """Against the closed form of Bayesian linear regression in standardised units."""
    net = nn.Linear(2, 1).double()
    model = Standardised(net, (2,), "normal").fit(
        X, Y, method="laplace", noise_scale=10.0, prior_scale=0.7, structure="full", epochs=100, seed=0
    )
    z = np.column_stack([(X - X.mean(0)) / X.std(0), np.ones(30)])
    t, s = (Y - Y.mean()) / Y.std(), 10.0 / Y.std()
    precision = z.T @ z / s**2 + np.eye(3) / 0.7**2
    mean = z @ np.linalg.solve(precision, z.T @ t / s**2)
    variance = (z * np.linalg.solve(precision, z.T).T).sum(1) + s**2
    found = model.predict(X)
    np.testing.assert_allclose(found.mean.numpy(), Y.mean() + Y.std() * mean, rtol=1e-5)
    np.testing.assert_allclose(found.std.numpy(), Y.std() * np.sqrt(variance), rtol=1e-5)
    exact = stats.norm(Y.mean() + Y.std() * mean, Y.std() * np.sqrt(variance)).logpdf(Y)
    np.testing.assert_allclose(found.log_prob(Y).numpy(), exact, rtol=1e-5)
    assert model.noise_scale == pytest.approx(10.0)


def test_predictions_do_not_depend_on_the_units() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    one = Standardised(net, (2,), "normal").fit(X, Y, method="map", epochs=20)
    other = Standardised(net, (2,), "normal").fit(1000 * X - 7, 3 * Y + 1, method="map", epochs=20)
    torch.testing.assert_close(other.predict(1000 * X - 7).mean, 3 * one.predict(X).mean + 1)


def test_updates_keep_the_units() -> None:
    net = nn.Linear(2, 1).double()
    options = {
        "method": "laplace",
        "noise_scale": 10.0,
        "prior_scale": 1.0,
        "structure": "full",
        "epochs": 50,
    }
    half = Standardised(net, (2,), "normal").fit(X[:15], Y[:15], **options)
    both = half.update(X[15:], Y[15:])
    assert both.target_unit == half.target_unit
    assert bool((both.predict(X).epistemic_variance < half.predict(X).epistemic_variance).all())
    assert half.predict(X).mean.shape == (30,)


def test_state_and_back() -> None:
    net = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)).double()
    model = Standardised(net, (2,), "normal").fit(X, Y, method="ensemble", members=2, epochs=3)
    again = Standardised(nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 1)).double(), (2,), "normal")
    again.load_state_dict(model.state_dict())
    assert bool((again.predict(X).mean == model.predict(X).mean).all())
    wrong = Standardised(nn.Linear(2, 1).double(), (2,), "normal")
    with pytest.raises(ShapeError, match=r"0.bias"):
        wrong.load_state_dict(model.state_dict())
    with pytest.raises(RuntimeError, match="no posterior"):
        again.load_state_dict({"about": torch.zeros(3, dtype=torch.uint8)})


def test_packed_is_what_save_writes(tmp_path: Path) -> None:
    net = nn.Linear(2, 1).double()
    posterior = weights.fit(net, X, Y, method="map", epochs=2)
    posterior.save(tmp_path)
    tensors, about = posterior.packed()
    again = weights.load(tmp_path, network=net)
    assert again.packed()[1]["history"] == about["history"]
    for name, value in again.packed()[0].items():
        torch.testing.assert_close(value, tensors[name])


def test_bad_input() -> None:
    model = Standardised(nn.Linear(2, 1), (2,), "normal")
    with pytest.raises(ConfigError, match="call fit first"):
        model.predict(X)
    with pytest.raises(DataError, match="1 of 60 cells"):
        model.fit(np.where(np.arange(60).reshape(30, 2) == 3, np.nan, X), Y)
    with pytest.raises(DataError, match="targets are NaN"):
        model.fit(X, np.full(30, np.nan))
    with pytest.raises(ShapeError, match="wanted data"):
        model.fit(X, Y, method="map", epochs=1).predict(X[:, :1])


@pytest.mark.parametrize("targets", [1, 2])
def test_without_units_the_targets_too_are_taken_as_they_are(targets: int) -> None:
    x = torch.linspace(-1, 1, 30, dtype=torch.float64)[:, None]
    y = torch.cat([100 + 50 * x, x], 1)[:, :targets].squeeze(1)
    network = nn.Linear(1, targets).double()
    options = {
        "method": "laplace",
        "structure": "full",
        "prior_scale": 1000.0,
        "noise_scale": 1.0,
        "epochs": 0,
    }
    plain = Standardised(network, (1,), "normal", scale=False).fit(x, y, **options).predict(x)
    direct = weights.fit(network, x, y, likelihood="normal", **options).predict(x)
    torch.testing.assert_close(plain.mean, direct.mean)
    torch.testing.assert_close(plain.std, direct.std)


class Lookup(nn.Module):
    """A column of places, and one of numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 2)
        self.layer = nn.Linear(3, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([self.table(x[:, 0].long()), x[:, 1:]], 1))


def test_data_of_embeddings_have_no_unit_and_are_not_cut() -> None:
    torch.manual_seed(0)
    x = torch.stack([torch.arange(24.0) % 4, torch.rand(24)], 1)
    y = 500 + 100 * x.sum(1)
    model = Standardised(Lookup(), (2,), "normal").fit(x, y, method="map", epochs=300, learning_rate=0.05)
    assert float((model.predict(x).mean - y).square().mean().sqrt()) < 20
    assert float((model.predict(x).mean - model.predict(x.floor()).mean).abs().max()) > 50
    places = nn.Sequential(nn.Embedding(4, 1), nn.Flatten(), nn.Linear(2, 1))
    whole = Standardised(places, (2,), "normal").fit(x.floor(), y, method="map", epochs=1)
    assert whole.predict(x.floor()).mean.shape == (24,)
    again = Standardised(places, (2,), "normal")
    again.load_state_dict(whole.state_dict())
    for fitted in (whole, again):
        with pytest.raises(DataError, match="was whole, an embedding's places, in the fit"):
            fitted.predict(x)
    with pytest.raises(ConfigError, match="Flatten has no parameters"):
        Standardised(nn.Flatten(), (2,), "normal").fit(x, y)
