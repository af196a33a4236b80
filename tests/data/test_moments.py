import numpy as np
import pytest

from jensen.data import Moments, Statistics

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("cuts", [(), (1,), (7, 8), (20, 33)])
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_blocks_give_the_moments_of_the_whole(cuts: tuple[int, ...], offset: float) -> None:
    x = offset + RNG.normal(size=(50, 2, 3)) * [1.0, 1e-3, 10.0]
    first, *rest = (Moments.of(block) for block in np.split(x, cuts))
    for block in rest:
        first = first.merged(block)
    assert first.count == 50
    # Each of a few roundings is off by at most 2^-53 of the offset, once more for a spread of 1e-3.
    np.testing.assert_allclose(first.mean, x.mean(0), rtol=1e-14)
    np.testing.assert_allclose(first.variance(), x.var(0), rtol=1e-12 if offset == 0 else 1e-5)
    np.testing.assert_allclose(first.variance(1), x.var(0, ddof=1), rtol=1e-12 if offset == 0 else 1e-5)


def test_a_constant_cell_has_no_spread_at_all() -> None:
    blocks = [np.full((n, 1), 0.1) for n in (3, 1, 20)]
    whole = Moments.of(blocks[0]).merged(Moments.of(blocks[1])).merged(Moments.of(blocks[2]))
    assert whole.variance()[0] < 1e-30


def test_one_datum_has_no_variance_of_a_sample() -> None:
    assert np.isnan(Moments.of(np.array([[3.0]])).variance(correction=1)).all()


def test_bytes_do_not_overflow() -> None:
    assert Moments.of(np.array([[0], [255]], dtype=np.uint8)).variance().tolist() == [127.5**2]


def test_statistics_of_counts_have_logarithms() -> None:
    x = RNG.poisson(3.0, (30, 4))
    both = Statistics.of(x[:11], log=True).merged(Statistics.of(x[11:], log=True))
    assert both.log1p is not None
    np.testing.assert_allclose(both.log1p.mean, np.log1p(x).mean(0), rtol=1e-13)
    np.testing.assert_allclose(both.log1p.variance(), np.log1p(x).var(0), rtol=1e-12)
    np.testing.assert_allclose(both.plain.mean, x.mean(0), rtol=1e-13)
    assert Statistics.of(x, log=False).log1p is None
