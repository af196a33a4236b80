import numpy as np
import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Independent,
    Laplace,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from contracts.conformance import assert_gradients, assert_unbiased
from jensen.distributions import closed_form_kl
from jensen.seeding import seeded


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def diagonal(*shape: int, seed: int) -> Independent:
    return Independent(Normal(numbers(*shape, seed=seed), (0.5 * numbers(*shape, seed=seed + 1)).exp()), 1)


def full(*shape: int, seed: int) -> MultivariateNormal:
    d = shape[-1]
    lower = numbers(*shape, d, seed=seed).tril(-1)
    scale = torch.diag_embed((0.5 * numbers(*shape, seed=seed + 1)).exp()) + lower
    return MultivariateNormal(numbers(*shape, seed=seed + 2), scale_tril=scale)


def by_hand(q: MultivariateNormal, p: Independent) -> np.ndarray:
    """The textbook's formula, with an inverse and determinants."""
    result = []
    loc, scale = p.base_dist.loc.expand(q.loc.shape), p.base_dist.scale.expand(q.loc.shape)
    for m, cov, mean, sd in zip(
        q.loc.numpy(), q.covariance_matrix.numpy(), loc.numpy(), scale.numpy(), strict=True
    ):
        prior = np.diag(sd**2)
        inverse = np.linalg.inv(prior)
        trace, squares = np.trace(inverse @ cov), (mean - m) @ inverse @ (mean - m)
        logs = np.linalg.slogdet(prior)[1] - np.linalg.slogdet(cov)[1]
        result.append(0.5 * (trace + squares - len(m) + logs))
    return np.array(result)


@pytest.mark.parametrize("d", [1, 2, 6])
def test_full_from_diagonal_normal_agrees_with_the_formula(d: int) -> None:
    q, p = full(4, d, seed=0), diagonal(4, d, seed=10)
    kl = closed_form_kl(q, p)
    assert kl is not None
    np.testing.assert_allclose(kl.numpy(), by_hand(q, p), rtol=1e-11)


def test_full_from_diagonal_normal_broadcasts() -> None:
    q, p = full(4, 3, seed=0), diagonal(3, seed=10)
    kl = closed_form_kl(q, p)
    assert kl is not None
    assert kl.shape == (4,)
    np.testing.assert_allclose(kl.numpy(), by_hand(q, p), rtol=1e-11)


def test_full_from_diagonal_normal_agrees_with_sampling() -> None:
    q, p = full(4, 3, seed=0), diagonal(4, 3, seed=10)
    with seeded(0):
        z = q.sample((20_000,))
    kl = closed_form_kl(q, p)
    assert kl is not None
    assert_unbiased(q.log_prob(z) - p.log_prob(z), kl)


def test_full_from_diagonal_normal_is_that_of_diagonal_ones_where_it_is_diagonal() -> None:
    one, p = diagonal(4, 3, seed=0), diagonal(4, 3, seed=10)
    q = MultivariateNormal(one.mean, scale_tril=torch.diag_embed(one.stddev))
    torch.testing.assert_close(closed_form_kl(q, p), closed_form_kl(one, p), rtol=1e-12, atol=1e-12)


def test_gradient_of_full_from_diagonal_normal() -> None:
    def divergence(
        loc: Tensor, log_diagonal: Tensor, below: Tensor, mean: Tensor, log_scale: Tensor
    ) -> Tensor:
        lower = torch.diag_embed(log_diagonal.exp()) + below.tril(-1)
        q = MultivariateNormal(loc, scale_tril=lower)
        kl = closed_form_kl(q, Independent(Normal(mean, log_scale.exp()), 1))
        assert kl is not None
        return kl

    assert_gradients(
        divergence,
        *(numbers(2, 3, seed=0), numbers(2, 3, seed=1), numbers(2, 3, 3, seed=2)),
        numbers(3, seed=3),
        numbers(3, seed=4),
    )


def test_is_zero_from_itself() -> None:
    scale = (0.5 * numbers(4, 3)).exp()
    q = MultivariateNormal(numbers(4, 3), scale_tril=torch.diag_embed(scale))
    kl = closed_form_kl(q, Independent(Normal(numbers(4, 3), scale), 1))
    torch.testing.assert_close(kl, torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-14)


def test_of_classes_is_the_sum() -> None:
    q, p = OneHotCategorical(logits=numbers(4, 3, seed=0)), OneHotCategorical(logits=numbers(3, seed=1))
    wanted = (q.probs * (q.probs.log() - p.probs.log())).sum(-1)
    torch.testing.assert_close(closed_form_kl(q, p), wanted, rtol=1e-12, atol=1e-12)


def test_unknown_pairs_give_none() -> None:
    q = full(4, 3, seed=0)
    mixture = MixtureSameFamily(Categorical(logits=torch.zeros(2).double()), diagonal(2, 3, seed=1))
    laplace = Independent(Laplace(torch.zeros(3).double(), torch.ones(3).double()), 1)
    stacked = Independent(Normal(torch.zeros(4, 3).double(), torch.ones(4, 3).double()), 2)
    assert closed_form_kl(q, mixture) is None
    assert closed_form_kl(diagonal(4, 3, seed=0), mixture) is None
    assert closed_form_kl(q, laplace) is None
    assert closed_form_kl(q, stacked) is None
    assert closed_form_kl(diagonal(3, seed=0), q) is None
