import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import jensen as jn
from jensen.errors import ConfigError
from testbed import assert_mean

X, Y = torch.randn(40, 3), torch.randn(40)


def chain(p: float = 0.3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Dropout(p), nn.Linear(6, 1))


def test_p_is_to_drop_and_the_mean_is_kept() -> None:
    posterior = jn.weights.fit(chain(), X, Y, method="dropout", epochs=1)
    masks = posterior.sample(20_000, seed=0)["2.mask"]
    assert masks.shape == (20_000, 6)
    assert masks.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert_mean((masks == 0).double(), 0.3)
    assert_mean(masks, 1.0)


def test_predictions_are_those_of_networks_with_columns_of_weights_dropped() -> None:
    posterior = jn.weights.fit(chain(), X, Y, method="dropout", epochs=5, noise_scale=0.1)
    draws = posterior.sample(16, seed=4)
    found = posterior.predict(X, samples=16, seed=4).outputs
    network = chain().eval()
    for s in range(16):
        # W diag(z), as the lecture has it.
        weights = {name: draws[name][s] for name in ("0.weight", "0.bias", "3.weight", "3.bias")}
        weights["3.weight"] = weights["3.weight"] * draws["2.mask"][s]
        expected = torch.func.functional_call(network, weights, (X,))
        torch.testing.assert_close(found[s], expected)


def test_inserted_dropout_is_that_of_modules() -> None:
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Linear(3, 6), nn.ReLU(), nn.Linear(6, 1))
    with pytest.raises(ConfigError, match=r"insert=0\.1"):
        jn.weights.fit(plain, X, Y, method="dropout")
    with pytest.raises(ConfigError, match="none; put"):
        jn.weights.fit(nn.Linear(3, 1), X, Y, method="dropout", insert=0.1)
    options = {"method": "dropout", "epochs": 3, "noise_scale": 0.5}
    inserted = jn.weights.fit(plain, X, Y, insert=0.3, **options)
    own = jn.weights.fit(chain(), X, Y, **options)
    torch.testing.assert_close(inserted.predict(X).mean, own.predict(X).mean)
    assert set(inserted.masks) == {"2.mask"}
    assert torch.equal(plain[0].weight, chain()[0].weight)


def test_convolutions_drop_channels_and_attention_goes_the_general_way() -> None:
    torch.manual_seed(0)
    image = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Dropout2d(0.5), nn.ReLU(), nn.Conv2d(4, 2, 3), nn.Flatten())
    posterior = jn.weights.fit(
        image, torch.randn(8, 1, 5, 5), torch.randint(0, 2, (8,)), method="dropout", epochs=1
    )
    assert posterior.masks == {"1.mask": (0.5, (4, 1, 1))}
    inserted = jn.weights.fit(
        image, torch.randn(8, 1, 5, 5), torch.randint(0, 2, (8,)), method="dropout", insert=0.5, epochs=1
    )
    assert inserted.masks == {"3.mask": (0.5, (4, 1, 1))}
    attention = nn.Sequential(
        nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.2), nn.Flatten(), nn.Linear(12, 1)
    )
    x = torch.randn(6, 3, 4)
    posterior = jn.weights.fit(attention, x, torch.randn(6), method="dropout", epochs=1)
    outputs = posterior.predict(x, samples=3).outputs
    assert not torch.allclose(outputs[0], outputs[1])


class Reused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.drop, self.first, self.second = nn.Dropout(0.5), nn.Linear(3, 5), nn.Linear(5, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(self.drop(self.first(self.drop(x))))


def test_a_module_for_two_places_is_named() -> None:
    with pytest.raises(ConfigError, match="module 'drop' gets inputs of shapes"):
        jn.weights.fit(Reused(), X, Y, method="dropout")


def test_saved_and_loaded(tmp_path: Path) -> None:
    for name, network, options in (("own", chain(), {}), ("inserted", chain(0.0), {"insert": 0.2})):
        posterior = jn.weights.fit(network, X, Y, method="dropout", epochs=2, **options)
        posterior.save(tmp_path / name)
        again = jn.weights.load(tmp_path / name, network=copy.deepcopy(network))
        assert torch.equal(again.predict(X).mean, posterior.predict(X).mean)
