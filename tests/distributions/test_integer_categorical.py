import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Categorical, Independent

from contracts.conformance import assert_moments
from jensen.distributions import IntegerCategorical
from jensen.seeding import seeded


@settings(deadline=None)
@given(st.lists(st.floats(-30, 30), min_size=1, max_size=300))
def test_moments_are_sums_over_the_integers(logits: list[float]) -> None:
    cell = IntegerCategorical(logits=torch.tensor(logits, dtype=torch.float64))
    integers = torch.arange(len(logits), dtype=torch.float64)
    masses = cell.log_prob(integers).exp()
    assert float((masses.sum() - 1).abs()) < 1e-13
    mean = (masses * integers).sum()
    torch.testing.assert_close(cell.mean, mean, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(cell.variance, (masses * (integers - mean) ** 2).sum(), rtol=1e-9, atol=1e-12)


def test_variance_of_an_almost_certain_integer_is_exact_in_single_precision() -> None:
    """The difference of the mean square and the square of the mean, of up to 65,025, would have no digits left."""
    integers = torch.arange(256.0)
    logits = -0.5 * ((integers - integers[:, None]) / 0.3).square()
    got = IntegerCategorical(logits=logits).variance
    wanted = IntegerCategorical(logits=logits.double()).variance
    torch.testing.assert_close(got.double(), wanted, rtol=1e-5, atol=0)


def test_densities_are_those_of_the_categorical() -> None:
    logits = torch.randn(5, 7, generator=torch.Generator().manual_seed(0))
    value = torch.tensor([0.0, 1.0, 6.0, 3.0, 3.0])
    assert torch.equal(
        IntegerCategorical(logits=logits).log_prob(value), Categorical(logits=logits).log_prob(value)
    )


def test_draws_are_numbers_with_the_moments() -> None:
    cells = IntegerCategorical(logits=torch.tensor([[0.0, 1.0, -1.0, 0.5], [3.0, 0.0, 0.0, 3.0]]))
    with seeded(0):
        draws = cells.sample((20_000,))
    assert draws.dtype == torch.float32
    assert draws.shape == (20_000, 2)
    assert_moments(draws, cells.mean, cells.variance)


def test_expanding_keeps_the_distribution_and_its_moments() -> None:
    small = IntegerCategorical(logits=torch.randn(2, 5, generator=torch.Generator().manual_seed(0)))
    large = small.expand((3, 2))
    assert isinstance(large, IntegerCategorical)
    assert large.batch_shape == (3, 2)
    assert torch.equal(large.mean[1], small.mean)
    assert Independent(small, 1).expand((4,)).mean.shape == (4, 2)
