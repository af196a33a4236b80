"""What every pair of networks owes, whichever it is; a new entry of the registry is covered by itself."""

import inspect
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from contracts.conformance import DEVICES, double, round_trip
from jensen.errors import ConfigError, ShapeError
from jensen.nets import ACTIVATIONS, ARCHITECTURES
from jensen.seeding import seeded

SMALL: dict[str, Any] = {"hidden": (6,), "width": 6, "channels": (4, 6), "blocks": 1}
"""Small values of the options that set sizes; an option that isn't here keeps its default."""
IMAGE_EVENTS = [(8, 8), (1, 8, 8), (3, 7, 9)]
OTHER_EVENTS = [(), (5,), (2, 3, 4, 5)]


def options(entry: str, **more: Any) -> dict[str, Any]:
    architecture = ARCHITECTURES[entry]
    return {name: SMALL[name] for name in architecture.options if name in SMALL} | more


def encoder(
    entry: str, in_shape: tuple[int, ...] = (8, 8), out_shape: tuple[int, ...] = (2, 3), **more: Any
) -> nn.Module:
    with double():
        return ARCHITECTURES[entry].encoder(in_shape, out_shape, **options(entry, **more))


def decoder(
    entry: str, in_shape: tuple[int, ...] = (3,), out_shape: tuple[int, ...] = (2, 8, 8), **more: Any
) -> nn.Module:
    with double():
        return ARCHITECTURES[entry].decoder(in_shape, out_shape, **options(entry, **more))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.fixture(params=ARCHITECTURES)
def entry(request: pytest.FixtureRequest) -> str:
    return request.param


def test_says_what_it_is_and_takes_its_options(entry: str) -> None:
    architecture = ARCHITECTURES[entry]
    for build in (architecture.encoder, architecture.decoder):
        family = build.func if isinstance(build, partial) else build
        assert inspect.getdoc(family)
        assert set(architecture.options) <= set(inspect.signature(build).parameters)
        for name in ("in_shape", "out_shape", *architecture.options):
            assert f"{name}:" in str(inspect.getdoc(family)), name


@pytest.mark.parametrize("batch", [(), (1,), (5,), (2, 5)])
@pytest.mark.parametrize("event", IMAGE_EVENTS + OTHER_EVENTS)
def test_shapes(entry: str, event: tuple[int, ...], batch: tuple[int, ...]) -> None:
    if ARCHITECTURES[entry].images and event in OTHER_EVENTS:
        with pytest.raises(ShapeError, match="network='mlp'"):
            encoder(entry, event)
        with pytest.raises(ShapeError, match="network='mlp'"):
            decoder(entry, out_shape=(2, *event))
        return
    for out_shape in ((4,), (2, 3)):
        assert encoder(entry, event, out_shape)(normal(*batch, *event)).shape == (*batch, *out_shape)
    for in_shape in ((3,), (2, 3)):
        assert decoder(entry, in_shape, (2, *event))(normal(*batch, *in_shape)).shape == (*batch, 2, *event)


def test_each_datum_is_mapped_by_itself(entry: str) -> None:
    for network, x in ((encoder(entry), normal(2, 3, 8, 8)), (decoder(entry), normal(2, 3, 3))):
        together = network.eval()(x)
        for i in range(2):
            for j in range(3):
                torch.testing.assert_close(together[i, j], network(x[i, j]), rtol=1e-12, atol=1e-12)
        assert not torch.allclose(together[0, 0], together[0, 1])


def test_every_weight_and_every_input_has_a_gradient(entry: str) -> None:
    # A smooth activation, since a small layer of another may be dead at the start.
    for network, x in (
        (encoder(entry, activation="silu"), normal(4, 8, 8)),
        (decoder(entry, activation="silu"), normal(4, 3)),
    ):
        x = x.requires_grad_()
        weighed = network(x)
        loss = (weighed * normal(*weighed.shape, seed=1)).sum()
        for gradient in torch.autograd.grad(loss, [x, *network.parameters()]):
            assert gradient.isfinite().all()
            assert (gradient != 0).any()


def test_every_cell_of_the_output_varies(entry: str) -> None:
    network = decoder(entry, out_shape=(2, 7, 9), activation="silu")
    assert (network(normal(10, 3)).std(0) > 0).all()


def test_starts_from_the_seed(entry: str) -> None:
    x = normal(4, 8, 8)

    def start(seed: int) -> Tensor:
        with seeded(seed):
            return encoder(entry)(x)

    assert torch.equal(start(0), start(0))
    assert not torch.equal(start(0), start(1))


def test_gradient_agrees_with_finite_differences(entry: str) -> None:
    network = encoder(entry, (4, 4), activation="tanh")
    assert torch.autograd.gradcheck(network, (normal(1, 4, 4).requires_grad_(),), eps=1e-5, atol=1e-7)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_takes_every_activation(entry: str, activation: str) -> None:
    kinds = {type(module) for module in encoder(entry, activation=activation).modules()}
    assert ACTIVATIONS[activation] in kinds
    assert kinds.isdisjoint({kind for name, kind in ACTIVATIONS.items() if name != activation})


def test_an_unknown_activation_is_refused(entry: str) -> None:
    with pytest.raises(ConfigError, match="unknown activation 'rellu'; did you mean 'relu'"):
        encoder(entry, activation="rellu")


def test_dropout_is_for_training_alone(entry: str) -> None:
    if "dropout" not in ARCHITECTURES[entry].options:
        return
    for network, x in (
        (encoder(entry, dropout=0.5), normal(4, 8, 8)),
        (decoder(entry, dropout=0.5), normal(4, 3)),
    ):
        network.train()
        assert not torch.equal(network(x), network(x))
        network.eval()
        assert torch.equal(network(x), network(x))


def test_without_dropout_training_is_the_same_as_evaluation(entry: str) -> None:
    network, x = encoder(entry), normal(4, 8, 8)
    assert torch.equal(network.train()(x), network.eval()(x))


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moves_to_a_device_and_a_precision(entry: str, device: str, dtype: torch.dtype) -> None:
    exact, moved = encoder(entry), encoder(entry)
    moved.load_state_dict(exact.state_dict())
    moved = moved.to(device=device, dtype=dtype)
    x = normal(4, 8, 8)
    got = moved(x.to(device, dtype))
    assert got.device.type == device
    assert got.dtype == dtype
    # Four layers of a few dozen numbers of order one; a GPU's convolutions may use shorter mantissas.
    tolerance = 1e-2 if device == "cuda" and dtype == torch.float32 else 1000 * torch.finfo(dtype).eps
    torch.testing.assert_close(got.double().cpu(), exact(x), rtol=tolerance, atol=tolerance)


def test_state_survives_a_file(entry: str) -> None:
    one, other = decoder(entry), decoder(entry)
    z = normal(4, 3)
    assert not torch.equal(one(z), other(z))
    other.load_state_dict(round_trip(one.state_dict()))
    assert torch.equal(one(z), other(z))
