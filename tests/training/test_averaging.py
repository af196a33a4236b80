import pytest
import torch
from torch import nn

from jensen.training import WeightAverage


def module() -> nn.Sequential:
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 1))
    net[1].bias.requires_grad_(False)
    return net


def test_is_the_recursion_by_hand() -> None:
    net = module()
    average = WeightAverage(net, 0.95)
    wanted = [p.detach().double().clone() for p in net.parameters() if p.requires_grad]
    assert len(average.averages) == 3
    for step in range(1, 400):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(0.1 * torch.randn_like(parameter))
        average.update(step)
        keep = min(0.95, (1 + step) / (10 + step))
        now = [p.detach().double() for p in net.parameters() if p.requires_grad]
        wanted = [keep * old + (1 - keep) * new for old, new in zip(wanted, now, strict=True)]
    for got, exact in zip(average.averages, wanted, strict=True):
        # The errors of twenty steps of single precision add up before they are forgotten.
        torch.testing.assert_close(got.double(), exact, rtol=1e-5, atol=1e-5)


def test_long_averages_take_in_the_weights_every_ten_steps() -> None:
    net = nn.Linear(1, 1, bias=False)
    average, wanted = WeightAverage(net, 0.999), 0.0
    with torch.no_grad():
        net.weight.zero_()
        average.averages[0].zero_()
    for step in range(1, 3001):
        with torch.no_grad():
            net.weight.fill_(step / 1000)
        before = average.averages[0].clone()
        average.update(step)
        taken_in = step <= 100 or step % 10 == 0
        assert taken_in == (not torch.equal(before, average.averages[0]))
        keep = min(0.999, (1 + step) / (10 + step))
        wanted = keep * wanted + (1 - keep) * step / 1000
    # Nine steps of a thousandth each is the most that it may lag behind the average of all of them.
    assert float(average.averages[0]) == pytest.approx(wanted, abs=0.009)


def test_forgets_the_start() -> None:
    net = nn.Linear(1, 1, bias=False)
    average = WeightAverage(net, 0.9999)
    with torch.no_grad():
        net.weight.fill_(1.0)
        average.averages[0].fill_(1e6)
    for step in range(1, 1001):
        average.update(step)
    # The product of (1 + t) / (10 + t) is below (11 / 1000)^9.
    assert float(average.averages[0]) == pytest.approx(1, abs=1e-6)


def test_applied_puts_the_average_in_place_and_restores_the_weights() -> None:
    net = module()
    average = WeightAverage(net, 0.5)
    with torch.no_grad():
        net[0].weight += 1
    average.update(1)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    averages = [value.clone() for value in average.averages]
    identities = [id(p) for p in net.parameters()]
    x = torch.randn(5, 3)
    with average.applied():
        assert torch.equal(net[0].weight, averages[0])
        assert not torch.equal(net[0].weight, before["0.weight"])
        with torch.no_grad():
            inside = net(x)
    assert not torch.equal(inside, net(x))
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(average.averages, averages, strict=True))
    assert [id(p) for p in net.parameters()] == identities


def test_applied_restores_the_weights_after_an_error() -> None:
    net = module()
    average = WeightAverage(net, 0.5)
    with torch.no_grad():
        net[0].weight += 1
    before = net[0].weight.detach().clone()
    with pytest.raises(ZeroDivisionError), average.applied():
        raise ZeroDivisionError
    assert torch.equal(net[0].weight, before)


def test_the_optimiser_goes_on_with_the_weights_after_a_look_at_the_average() -> None:
    def train(look: bool) -> torch.Tensor:
        torch.manual_seed(0)
        net = nn.Linear(3, 1)
        optimiser = torch.optim.AdamW(net.parameters(), lr=0.1, fused=True)
        average = WeightAverage(net, 0.9)
        for step in range(5):
            optimiser.zero_grad()
            net(torch.ones(2, 3)).square().sum().backward()
            optimiser.step()
            average.update(step + 1)
            if look:
                with average.applied():
                    net(torch.ones(2, 3))
        return net.weight.detach()

    assert torch.equal(train(look=True), train(look=False))
