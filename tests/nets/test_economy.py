import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from jensen.data import from_array
from jensen.errors import ConfigError
from jensen.nets import ARCHITECTURES, Checkpointed, HalfPrecision, compiled
from jensen.recipes import RECIPES
from jensen.runs import fit
from jensen.seeding import Rows, seeded, sharing

SHAPE = (8, 8)


def network(dropout: float = 0.0, width: int = 64, blocks: int = 4) -> nn.Module:
    with seeded(0):
        return ARCHITECTURES["residual-mlp"].encoder(
            SHAPE, (2, 3), width=width, blocks=blocks, activation="silu", dropout=dropout
        )


def gradients(net: nn.Module, x: Tensor, rows: Rows | None = None) -> list[Tensor]:
    net.zero_grad()
    with seeded(1), sharing(rows):
        net(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in net.parameters() if parameter.grad is not None]


@pytest.mark.parametrize("rows", [None, Rows(1, 2, 6, 12)])
@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_checkpointing_gives_the_same_gradients(dropout: float, rows: Rows | None) -> None:
    """Also of a part of a batch, whose dropped units are rows of what the whole batch drops."""
    x = torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0))
    plain, saving = network(dropout), Checkpointed(network(dropout))
    for one, other in zip(gradients(plain, x, rows), gradients(saving, x, rows), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)


def test_checkpointing_keeps_less() -> None:
    """What autograd holds on to between the passes, counted through its own hooks."""

    def held(net: nn.Module) -> int:
        kept: dict[int, int] = {}

        def pack(value: Tensor) -> Tensor:
            if not isinstance(value, nn.Parameter):
                kept[value.data_ptr()] = value.nbytes
            return value

        x = torch.randn(500, *SHAPE)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
            loss = net(x).sum()
        assert loss.requires_grad
        return sum(kept.values())

    assert held(Checkpointed(network())) < 0.2 * held(network())


def test_bfloat16_is_for_training_alone_and_what_comes_out_has_all_digits() -> None:
    net = HalfPrecision(network())
    x = torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    exact = net.network(x).detach()
    net.train()
    rough = net(x).detach()
    assert rough.dtype == torch.float32
    error = float((rough - exact).abs().max() / exact.abs().max())
    # Eight binary digits, some layers.
    assert 1e-5 < error < 3e-2
    net.eval()
    assert torch.equal(net(x), exact)
    assert all(gradient.dtype == torch.float32 for gradient in gradients(net.train(), x))


def test_compiling_without_a_compiler_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"compile=true needs a C\+\+ compiler.*compile=false"):
        compiled(network())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="there is no compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_network_is_the_network() -> None:
    plain, fast = network(), compiled(network())
    x = torch.randn(20, *SHAPE, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fast(x), plain(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"checkpointing": True}, 1e-5),
        ({"accumulate": 3}, 1e-5),
        ({"accumulate": 2, "checkpointing": True, "dropout": 0.2}, 1e-5),
        ({"precision": "bf16-mixed"}, 2e-2),
        ({"threads": 1, "capture": "off"}, 0.0),
    ],
)
def test_options_that_save_memory_or_time_fit_the_same_model(
    options: dict[str, Any], tolerance: float
) -> None:
    with seeded(0):
        dataset = from_array(torch.randint(0, 2, (60, 16)).numpy(), name="random")
    base = {"epochs": 3, "hidden": 12, "latent_dim": 2, "batch_size": 16, "patience": None}
    same = {key: value for key, value in options.items() if key == "dropout"}
    plain = fit(dataset, options={**base, **same}, valid=0.2, device="cpu")
    saving = fit(dataset, options={**base, **options}, valid=0.2, device="cpu")
    for one, other in zip(plain.history, saving.history, strict=True):
        assert other["train"]["elbo"] == pytest.approx(one["train"]["elbo"], rel=tolerance, abs=0)
        assert other["valid"]["elbo"] == pytest.approx(one["valid"]["elbo"], rel=tolerance, abs=0)
    if "precision" in options:
        assert saving.history[-1]["train"]["elbo"] != plain.history[-1]["train"]["elbo"]


def test_a_step_with_networks_of_their_own_kind_is_not_captured() -> None:
    recipe = RECIPES["vae"]
    schema = from_array(torch.randint(0, 2, (60, 16)).numpy(), name="random").schema
    for options, capture in (({}, "auto"), ({"checkpointing": True}, "off"), ({"compile": True}, "off")):
        assert recipe.resolve(recipe.config(options), schema, 60).capture == capture
