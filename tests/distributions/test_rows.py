import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Distribution,
    Independent,
    Laplace,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
)

from contracts.conformance import assert_moments
from jensen.distributions import sample_common, select
from jensen.errors import BoundError
from jensen.seeding import seeded


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def posteriors(n: int, d: int) -> dict[str, Distribution]:
    scale = torch.diag_embed((0.3 * numbers(n, d, seed=1)).exp()) + numbers(n, d, d, seed=2).tril(-1)
    return {
        "normal": Independent(Normal(numbers(n, d), (0.3 * numbers(n, d, seed=1)).exp()), 1),
        "full-normal": MultivariateNormal(numbers(n, d), scale_tril=scale),
        "class": OneHotCategorical(logits=numbers(n, d)),
    }


@pytest.mark.parametrize("name", posteriors(2, 2))
@pytest.mark.parametrize("d", [2, 5])
@pytest.mark.parametrize("rows", [slice(0, 2), slice(3, 5), slice(1, None)])
def test_selected_rows_are_those_of_the_batch(name: str, d: int, rows: slice) -> None:
    whole = posteriors(5, d)[name]
    z = whole.sample((3,))
    part = select(whole, rows)
    assert part.batch_shape == (len(range(5)[rows]),)
    assert part.event_shape == whole.event_shape
    torch.testing.assert_close(part.log_prob(z[:, rows]), whole.log_prob(z)[:, rows], rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(part.mean, whole.mean[rows])
    assert part.sample((2,)).shape == (2, *part.batch_shape, d)
    assert whole.batch_shape == (5,)


@pytest.mark.parametrize("name", posteriors(2, 2))
def test_common_noise_gives_each_datum_its_own_distribution(name: str) -> None:
    distribution = posteriors(4, 3)[name]
    with seeded(0):
        draws = sample_common(distribution, 20_000)
    assert draws.shape == (20_000, 4, 3)
    assert_moments(draws, distribution.mean, distribution.variance)


@pytest.mark.parametrize("name", posteriors(2, 2))
def test_common_noise_does_not_depend_on_the_neighbours(name: str) -> None:
    distribution = posteriors(4, 3)[name]

    def draw(one: Distribution) -> Tensor:
        with seeded(0):
            return sample_common(one, 7)

    whole = draw(distribution)
    for i in range(4):
        torch.testing.assert_close(draw(select(distribution, slice(i, i + 1)))[:, 0], whole[:, i])


def test_equal_data_get_equal_draws() -> None:
    distribution = Independent(Normal(torch.zeros(4, 3), torch.ones(4, 3)), 1)
    draws = sample_common(distribution, 5)
    assert torch.equal(draws, draws[:, :1].expand(5, 4, 3))
    assert len(draws.unique()) == 15


def test_common_noise_of_other_families_is_refused() -> None:
    with pytest.raises(BoundError, match="common noise isn't known for Laplace"):
        sample_common(Laplace(torch.zeros(3), torch.ones(3)), 5)
