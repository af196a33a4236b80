"""The diagonal normal beside torch's way of writing it."""

import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Laplace, MultivariateNormal, Normal, kl_divergence

from jensen.distributions import DiagonalNormal, closed_form_kl, diagonal_normal, kl_of_cells
from jensen.seeding import seeded


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def both(*shape: int, seed: int = 0) -> tuple[DiagonalNormal, Independent]:
    loc, log_scale = numbers(*shape, seed=seed), numbers(*shape, seed=seed + 1)
    return DiagonalNormal(loc, log_scale), Independent(Normal(loc, log_scale.exp()), 1)


def standard(d: int) -> DiagonalNormal:
    zeros = torch.zeros(d, dtype=torch.float64)
    return DiagonalNormal(zeros, zeros, standard=True)


@pytest.mark.parametrize("what", ["mean", "mode", "stddev", "variance", "batch_shape", "event_shape"])
def test_properties_are_torchs(what: str) -> None:
    mine, torchs = both(4, 3)
    assert type(getattr(mine, what)) is type(getattr(torchs, what))
    torch.testing.assert_close(getattr(mine, what), getattr(torchs, what))


def test_log_prob_and_entropy_are_torchs() -> None:
    mine, torchs = both(4, 3)
    z = numbers(5, 4, 3, seed=2)
    torch.testing.assert_close(mine.log_prob(z), torchs.log_prob(z), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(mine.entropy(), torchs.entropy(), rtol=1e-12, atol=1e-12)


def test_standard_one_is_the_normal_with_zeros() -> None:
    zeros = torch.zeros(3, dtype=torch.float64)
    one, same = standard(3), DiagonalNormal(zeros, zeros)
    z = numbers(5, 3)
    torch.testing.assert_close(one.log_prob(z), same.log_prob(z), rtol=1e-14, atol=1e-14)
    q, _ = both(4, 3)
    torch.testing.assert_close(kl_of_cells(q, one), kl_of_cells(q, same), rtol=1e-13, atol=1e-13)
    with seeded(0):
        first = one.expand((4,)).sample((2,))
    with seeded(0):
        second = same.expand((4,)).sample((2,))
    assert torch.equal(first, second)


def test_draws_are_torchs_with_the_same_noise_and_their_path() -> None:
    mine, torchs = both(4, 3)
    for distribution in (mine, torchs.base_dist):
        distribution.loc.requires_grad_()
    mine.log_scale.requires_grad_()
    with seeded(0):
        drawn = mine.rsample((6,))
    with seeded(0):
        expected = torchs.rsample((6,))
    torch.testing.assert_close(drawn, expected, rtol=1e-13, atol=1e-13)
    (gradient,) = torch.autograd.grad(drawn.sum(), mine.log_scale)
    torch.testing.assert_close(gradient, (expected - mine.loc).sum(0).detach(), rtol=1e-10, atol=1e-10)


def test_divergence_is_torchs() -> None:
    (q, torch_q), (p, torch_p) = both(4, 3), both(4, 3, seed=5)
    expected = kl_divergence(torch_q, torch_p)
    for first in (q, torch_q):
        for second in (p, torch_p):
            torch.testing.assert_close(closed_form_kl(first, second), expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(kl_of_cells(q, p).sum(-1), expected, rtol=1e-11, atol=1e-12)


def test_divergence_from_another_family_is_torchs() -> None:
    q, torch_q = both(4, 3)
    p = Independent(Laplace(numbers(4, 3, seed=7), torch.ones(4, 3).double()), 1)
    torch.testing.assert_close(closed_form_kl(q, p), kl_divergence(torch_q, p), rtol=1e-12, atol=1e-12)


def test_what_isnt_a_diagonal_normal_over_a_vector_is_none() -> None:
    assert diagonal_normal(Independent(Normal(torch.zeros(2, 3), 1.0), 2)) is None
    assert diagonal_normal(Normal(torch.zeros(3), 1.0)) is None
    assert diagonal_normal(MultivariateNormal(torch.zeros(3), torch.eye(3))) is None


def test_expand_repeats_it() -> None:
    mine, _ = both(3)
    z = numbers(4, 3)
    assert mine.expand((2, 4)).batch_shape == (2, 4)
    torch.testing.assert_close(mine.expand((4,)).log_prob(z), mine.log_prob(z))


def test_sampling_leaves_the_path_of_the_scale() -> None:
    log_scale = torch.zeros(2, requires_grad=True)
    q = DiagonalNormal(torch.zeros(2), log_scale)
    q.sample()
    q.variance.sum().backward()
    assert log_scale.grad is not None
    assert torch.equal(log_scale.grad, torch.full((2,), 2.0))
