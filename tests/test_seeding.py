from collections.abc import Callable

import pytest
import torch
from torch.distributions import (
    Categorical,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    RelaxedBernoulli,
)
from torch.nn import functional

from jensen.seeding import Rows, seeded, shared_rows, sharing


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


ROWS = Rows(1, 2, 3, 7)
"""The second, fourth and sixth of seven rows."""


def flattened_dropout(x: torch.Tensor) -> torch.Tensor:
    """As a convolutional decoder drops: samples and rows are one dimension."""
    images = x.expand(4, *x.shape).reshape(4 * len(x), -1)
    return functional.dropout(images, 0.4).reshape(4, *x.shape)


@pytest.mark.parametrize(
    ("draw", "dim"),
    [
        (lambda x: torch.randn(2, len(x), 5), 1),
        (lambda x: torch.rand(x.shape), 0),
        (torch.randn_like, 0),
        (torch.bernoulli, 0),
        (lambda x: functional.dropout(x, 0.3), 0),
        (flattened_dropout, 1),
        (lambda x: Normal(x, 1.0).rsample((4,)), 1),
        (lambda x: MultivariateNormal(x, torch.eye(5)).rsample((4,)), 1),
        (lambda x: Categorical(x).sample((4,)), 1),
        (lambda x: OneHotCategorical(x).sample((4,)), 1),
        (lambda x: RelaxedBernoulli(torch.tensor(1.0), x).rsample((4,)), 1),
        (lambda x: torch.empty_like(x).exponential_(), 0),
    ],
)
def test_a_part_draws_what_the_whole_draws_for_its_rows(
    draw: Callable[[torch.Tensor], torch.Tensor], dim: int
) -> None:
    whole = torch.rand(7, 5, generator=torch.Generator().manual_seed(0))
    with seeded(0):
        expected = draw(whole)
        after = torch.get_rng_state()
    with seeded(0), sharing(ROWS):
        part = draw(ROWS.of(whole, 0))
        assert torch.equal(torch.get_rng_state(), after)
    assert torch.equal(part, ROWS.of(expected, dim))


def test_gradients_pass_through_what_a_part_drops() -> None:
    x = torch.ones(3, 5, requires_grad=True)
    with seeded(0), sharing(ROWS):
        y = functional.dropout(x, 0.5)
    y.sum().backward()
    assert torch.equal(x.grad, y.detach())
    assert set(y.flatten().tolist()) == {0.0, 2.0}


def test_noise_without_rows_and_with_a_generator_of_its_own_is_left_alone() -> None:
    with seeded(0):
        expected = torch.randn(2, 4)
    with seeded(0), sharing(ROWS):
        assert torch.equal(torch.randn(2, 4), expected)
        generator = torch.Generator().manual_seed(1)
        assert torch.equal(
            torch.rand(3, 5, generator=generator),
            torch.rand(3, 5, generator=torch.Generator().manual_seed(1)),
        )
    assert shared_rows() is None


def test_all_rows_change_nothing() -> None:
    with sharing(Rows(0, 1, 4, 4)):
        assert shared_rows() is None
    with sharing(ROWS):
        assert shared_rows() == ROWS
