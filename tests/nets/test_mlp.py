import pytest
import torch
from torch import nn

from jensen.errors import ShapeError
from jensen.nets import MLP, Residual, ResidualMLP


def test_is_linear_without_hidden_layers() -> None:
    network = MLP((2, 3), (4,), hidden=())
    (layer,) = network.layers
    x = torch.randn(5, 2, 3)
    assert torch.equal(network(x), layer(x.flatten(1)))


def test_has_the_widths_that_were_asked_for() -> None:
    widths = [
        (m.in_features, m.out_features)
        for m in MLP((2, 3), (4, 5), hidden=(7, 8)).modules()
        if isinstance(m, nn.Linear)
    ]
    assert widths == [(6, 7), (7, 8), (8, 20)]


def test_is_layers_with_an_activation_between_them() -> None:
    network = MLP((6,), (4,), hidden=(7, 8), activation="tanh")
    first, second, last = (m for m in network.modules() if isinstance(m, nn.Linear))
    x = torch.randn(5, 6)
    torch.testing.assert_close(network(x), last(second(first(x).tanh()).tanh()))


@pytest.mark.parametrize("family", [MLP, ResidualMLP])
def test_events_are_flattened_and_unflattened_row_by_row(family: type[nn.Module]) -> None:
    network = family((2, 3), (4, 5))
    x = torch.randn(6, 2, 3)
    assert torch.equal(network(x), network.layers(x.reshape(6, 6)).reshape(6, 4, 5))


def test_drops_hidden_units_with_the_probability_and_no_outputs() -> None:
    torch.manual_seed(0)
    network = MLP((1,), (1,), hidden=(10_000,), dropout=0.3)
    hidden = network.layers[:-1]
    assert isinstance(network.layers[-1], nn.Linear)
    with torch.no_grad():
        network.layers[0].weight.fill_(0)
        network.layers[0].bias.fill_(1)
        dropped = float((hidden(torch.zeros(1, 1)) == 0).float().mean())
    # Four standard errors of a share of 10,000.
    assert abs(dropped - 0.3) < 4 * (0.3 * 0.7 / 10_000) ** 0.5


def test_residual_adds_what_it_is_given() -> None:
    change = nn.Linear(3, 3)
    x = torch.randn(5, 3)
    assert torch.equal(Residual(change)(x), x + change(x))


def test_residual_blocks_that_change_nothing_leave_the_ends() -> None:
    network = ResidualMLP((6,), (4,), width=8, blocks=3, activation="silu")
    first, *blocks, act, last = network.layers
    assert len(blocks) == 3
    with torch.no_grad():
        for block in blocks:
            block.change[-1].weight.zero_()
            block.change[-1].bias.zero_()
    x = torch.randn(5, 6)
    torch.testing.assert_close(network(x), last(act(first(x))))


@pytest.mark.parametrize("network", [MLP((2, 3), (4,)), ResidualMLP((2, 3), (4,))])
@pytest.mark.parametrize("shape", [(5, 2, 4), (5,), (5, 3, 3, 2, 2)])
def test_inputs_of_another_shape_are_refused(network: nn.Module, shape: tuple[int, ...]) -> None:
    with pytest.raises(
        ShapeError, match=r"takes inputs of shape \(\.\.\., 2, 3\), got \(5,.*give data, latents"
    ):
        network(torch.zeros(shape))
