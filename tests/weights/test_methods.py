"""What every method owes, whatever its likelihood."""

import copy
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

import jensen as jn
from jensen.errors import RunError
from jensen.weights import METHODS

METHODS_HERE = ("map", "bayes-by-backprop", "dropout", "ensemble", "swag")
OPTIONS = {"dropout": {"insert": 0.2}, "swag": {"collect": 2}, "ensemble": {"members": 3}}
TARGETS = {
    "categorical": (3, lambda f: f.argmax(1)),
    "bernoulli": (1, lambda f: (f[:, 0] > f[:, 0].median()).long()),
    "poisson": (2, lambda f: f[:, :2].abs().round()),
    "normal": (2, lambda f: f[:, :2]),
}


def data(likelihood: str) -> tuple[nn.Module, Tensor, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(24, 3)
    outputs, targets = TARGETS[likelihood]
    network = nn.Sequential(nn.Linear(3, 5), nn.Tanh(), nn.Linear(5, outputs))
    return network, x, targets(x @ torch.randn(3, 3) * 2)


@pytest.mark.parametrize("likelihood", TARGETS)
@pytest.mark.parametrize("method", METHODS_HERE)
def test_fit_predict_save_and_load(method: str, likelihood: str, tmp_path: Path) -> None:
    network, x, y = data(likelihood)
    before, state = copy.deepcopy(network.state_dict()), torch.get_rng_state()
    options = {"method": method, "likelihood": likelihood, "epochs": 2, "seed": 3, **OPTIONS.get(method, {})}
    posterior = jn.weights.fit(network, x, y, **options)
    found = posterior.predict(x, samples=4)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    assert found.mean.shape == {"categorical": (24, 3), "bernoulli": (24,)}.get(likelihood, (24, 2))
    assert found.samples == {"map": 1, "ensemble": 3}.get(method, 4)
    for values in (found.mean, found.std, found.entropy, found.mutual_information, found.log_prob(y)):
        assert bool(values.isfinite().all())
    assert found.log_prob(y).shape == (24,)
    assert found.sample(5).shape[:2] == (5, 24)
    again = jn.weights.fit(network, x, y, **options).predict(x, samples=4)
    assert torch.equal(again.mean, found.mean)
    drawn = posterior.sample(2)
    assert all(drawn[name].shape == (2, *value.shape) for name, value in network.named_parameters())
    posterior.save(tmp_path)
    loaded = jn.weights.load(tmp_path, network=copy.deepcopy(network))
    assert torch.equal(loaded.predict(x, samples=4).mean, found.mean)
    assert loaded.likelihood.name == likelihood


def test_every_option_is_described() -> None:
    for method in METHODS.values():
        for name, field in method.options.model_fields.items():
            assert field.description, name


def test_other_files_hold_no_posterior(tmp_path: Path) -> None:
    save_file({"a": torch.ones(1)}, tmp_path / "weights.safetensors", {"about": "{}"})
    with pytest.raises(RunError, match="holds something else than a posterior"):
        jn.weights.load(tmp_path, network=nn.Linear(1, 1))
