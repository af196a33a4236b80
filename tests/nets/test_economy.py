import itertools
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from jensen.data import from_array
from jensen.errors import ConfigError
from jensen.nets import ARCHITECTURES, Checkpointed, HalfPrecision, compiled
from jensen.nets.economy import segments
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


def test_a_network_without_layers_in_a_row_is_one_segment() -> None:
    net = nn.Bilinear(3, 3, 2)

    class Square(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.form = net

        def forward(self, x: Tensor) -> Tensor:
            return self.form(x, x)

    x = torch.randn(4, 3)
    one, other = gradients(Square(), x), gradients(Checkpointed(Square()), x)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_layers_keep_their_names() -> None:
    names = [f"network.{name}" for name in network().state_dict()]
    assert list(Checkpointed(network()).state_dict()) == names
    assert list(Checkpointed(network(), whole=True).state_dict()) == names


@pytest.mark.parametrize(
    ("costs", "held"),
    # Nine equal ones: three of three. Blocks of seven among ones: each by itself.
    [([1] * 9, 6), ([1, 7, 7, 1, 7, 7, 1], 12), ([1], 2), ([5, 1, 1, 1], 7), ([], 0)],
)
def test_segments_are_cut_so_that_least_is_held(costs: list[int], held: int) -> None:
    found = segments(costs)
    assert [place for part in found for place in part] == list(range(len(costs)))
    assert len(found) + max((sum(costs[i] for i in part) for part in found), default=0) == held
    # No way to cut holds less.
    for cuts in itertools.product([False, True], repeat=max(len(costs) - 1, 0)):
        sums, edges = [costs[0]] if costs else [], list(cuts)
        for cost, cut in zip(costs[1:], edges, strict=True):
            sums = [*sums, cost] if cut else [*sums[:-1], sums[-1] + cost]
        assert len(sums) + max(sums, default=0) >= held


def most_at_once(net: nn.Module, x: Tensor) -> int:
    """Bytes that a forward and a backward pass have at once, at most, beside weights and gradients."""
    net(x).sum().backward()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        net(x).square().sum().backward()
    total = most = 0
    for event in profiler.profiler.kineto_results.events():
        if event.name() == "[memory]":
            total += event.nbytes()
            most = max(most, total)
    return most


@pytest.mark.parametrize(
    ("name", "shape", "options", "part"),
    [
        ("residual-mlp", SHAPE, {"width": 64, "blocks": 16, "activation": "silu", "dropout": 0.1}, 0.25),
        ("mlp", SHAPE, {"hidden": (64,) * 16}, 0.7),
        ("residual", (1, 16, 16), {"channels": (8, 16)}, 0.7),
    ],
)
def test_checkpointing_by_segments_holds_less_at_once(
    name: str, shape: tuple[int, ...], options: dict[str, Any], part: float
) -> None:
    def encoder() -> nn.Module:
        return ARCHITECTURES[name].encoder(shape, (2, 3), **options)

    x = torch.randn(200, *shape)
    plain = most_at_once(encoder(), x)
    assert most_at_once(Checkpointed(encoder()), x) < part * plain
    # All at once it is as much again.
    assert most_at_once(Checkpointed(encoder(), whole=True), x) > 0.9 * plain


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
