import pytest
import torch

from jensen.training.randomness import Randomness

CPU = torch.device("cpu")


def test_is_reproducible_and_goes_on_from_block_to_block() -> None:
    def draws(seed: int) -> torch.Tensor:
        randomness = Randomness(seed, CPU)
        torch.randn(5)
        parts = []
        for _ in range(3):
            with randomness:
                parts.append(torch.randn(4))
            torch.randn(7)
        return torch.cat(parts)

    assert torch.equal(draws(0), draws(0))
    assert not torch.equal(draws(0), draws(1))
    assert torch.equal(draws(0), torch.randn(12, generator=torch.Generator().manual_seed(0)))


def test_does_not_disturb_the_users_generator() -> None:
    torch.manual_seed(5)
    wanted = torch.randn(6)
    torch.manual_seed(5)
    first = torch.randn(2)
    randomness = Randomness(0, CPU)
    second = torch.randn(2)
    with randomness:
        torch.randn(100)
    assert torch.equal(torch.cat([first, second, torch.randn(2)]), wanted)


def test_gives_the_generator_back_after_an_error() -> None:
    randomness = Randomness(0, CPU)
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), randomness:
        torch.randn(3).fill_(1 / int(torch.zeros(())))
    assert torch.equal(torch.get_rng_state(), before)


def test_goes_on_from_its_state() -> None:
    one = Randomness(0, CPU)
    with one:
        torch.randn(3)
    other = Randomness(1, CPU)
    other.state = [kept.clone() for kept in one.state]
    with one:
        wanted = torch.randn(4)
    with other:
        assert torch.equal(torch.randn(4), wanted)
