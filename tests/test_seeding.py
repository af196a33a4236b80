import pytest
import torch

from jensen.seeding import seeded


def test_the_same_seed_gives_the_same_draws() -> None:
    def draw(seed: int) -> torch.Tensor:
        with seeded(seed):
            return torch.cat([torch.randn(3), torch.rand(3)])

    first = draw(0)
    torch.randn(5)
    assert torch.equal(draw(0), first)
    assert not torch.equal(draw(1), first)


def test_nothing_is_left_seeded() -> None:
    torch.manual_seed(5)
    wanted = torch.randn(4)
    torch.manual_seed(5)
    first = torch.randn(2)
    with seeded(0):
        torch.randn(100)
    assert torch.equal(torch.cat([first, torch.randn(2)]), wanted)


def test_the_generator_is_restored_after_an_error() -> None:
    before = torch.get_rng_state()
    with pytest.raises(ZeroDivisionError), seeded(0):
        torch.randn(3).fill_(1 / int(torch.zeros(())))
    assert torch.equal(torch.get_rng_state(), before)


def test_blocks_nest() -> None:
    with seeded(0):
        wanted = torch.randn(4)
    with seeded(0):
        first = torch.randn(2)
        with seeded(1):
            torch.randn(10)
        assert torch.equal(torch.cat([first, torch.randn(2)]), wanted)


def test_without_a_seed_the_users_generator_moves_on() -> None:
    torch.manual_seed(5)
    wanted = torch.randn(4)
    torch.manual_seed(5)
    with seeded(None):
        first = torch.randn(2)
    assert torch.equal(torch.cat([first, torch.randn(2)]), wanted)
