import pytest
import torch
from torch import nn

from jensen.nets import DropInputs, Log1p, Rescale


@pytest.mark.parametrize(
    ("shift", "unit"),
    [
        (127.5, 127.5),
        (torch.tensor([1.0, -2.0, 0.5]), torch.tensor([2.0, 0.25, 8.0])),
        (0.0, torch.tensor(4.0)),
    ],
)
def test_rescale_subtracts_and_divides(shift: float | torch.Tensor, unit: float | torch.Tensor) -> None:
    x = 100 * torch.randn(5, 2, 3)
    assert torch.equal(Rescale(nn.Identity(), shift, unit)(x), (x - shift) / unit)


def test_rescale_calls_the_network_on_the_result() -> None:
    layer = nn.Linear(3, 2)
    x = torch.randn(5, 3)
    assert torch.equal(Rescale(layer, 1.0, 2.0)(x), layer((x - 1) / 2))


def test_units_are_state_and_no_parameters() -> None:
    one = Rescale(nn.Linear(3, 2), torch.tensor([1.0, 2.0, 3.0]), 2.0)
    assert set(one.state_dict()) == {"shift", "unit", "network.weight", "network.bias"}
    assert {name for name, _ in one.named_parameters()} == {"network.weight", "network.bias"}
    other = Rescale(nn.Linear(3, 2), torch.zeros(3), 1.0)
    other.load_state_dict(one.state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(one(x), other(x))
    assert one.double()(x.double()).dtype == torch.float64


def test_log1p_takes_the_logarithm_first() -> None:
    layer = nn.Linear(3, 2)
    x = torch.tensor([[0.0, 1.0, 1e6]])
    assert torch.equal(Log1p(layer)(x), layer(torch.log1p(x)))


def test_inputs_are_dropped_in_training_alone_and_what_is_left_is_scaled_up() -> None:
    network = DropInputs(nn.Identity(), 0.25)
    x = torch.ones(100, 100)
    torch.manual_seed(0)
    out = network.train()(x)
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    # Four standard errors of a share of 10,000.
    assert abs(float((out == 0).float().mean()) - 0.25) < 4 * (0.25 * 0.75 / 10_000) ** 0.5
    assert torch.equal(network.eval()(x), x)


def test_inputs_are_dropped_before_the_network() -> None:
    network = DropInputs(nn.Linear(3, 2), 1.0)
    bias = network.network.bias
    assert torch.equal(network.train()(torch.randn(5, 3)), bias.expand(5, 2))
