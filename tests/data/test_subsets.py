import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from jensen.data import binarise, from_array, split, take
from jensen.data.subsets import permutation
from jensen.errors import DataError

DATA = from_array(np.arange(10)[:, None] + 0.5, y=np.arange(10))


def test_permutation_is_the_same_forever():
    assert permutation(8, seed=0).tolist() == [3, 2, 1, 6, 0, 7, 4, 5]


@given(st.integers(2, 50), st.floats(0.05, 0.95), st.integers(0, 3))
def test_split_parts_are_disjoint_and_complete(n, fraction, seed):
    data = from_array(np.arange(n)[:, None] + 0.5, y=np.arange(n))
    if not 0 < round(n * fraction) < n:
        with pytest.raises(DataError, match="Both need at least one"):
            split(data, fraction, seed)
        return
    train, valid = split(data, fraction, seed)
    again, _ = split(data, fraction, seed)
    assert len(valid) == round(n * fraction)
    assert train.y is not None
    assert valid.y is not None
    assert sorted([*train.y.tolist(), *valid.y.tolist()]) == list(range(n))
    assert np.array_equal(train.x[:, 0], train.y + np.float32(0.5))
    assert np.array_equal(again.x, train.x)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.1, 5.0, float("nan")])
def test_split_needs_a_fraction(fraction):
    with pytest.raises(DataError, match="between 0 and 1"):
        split(DATA, fraction)


@pytest.mark.parametrize(
    ("indices", "labels"),
    [(slice(2, 4), [2, 3]), ([3, -1], [3, 9]), (np.arange(10) > 7, [8, 9])],
)
def test_take(indices, labels):
    taken = take(DATA, indices)
    assert taken.y is not None
    assert taken.y.tolist() == labels
    assert taken.schema == DATA.schema


@pytest.mark.parametrize(
    ("indices", "message"),
    [
        ([10], "from 10 to 10 for 10 data"),
        ([-11], "from -11 to -11"),
        ([], "no datum of array is left"),
        (slice(5, 5), "no datum of array is left"),
        ([True, False], "2 booleans for 10 data"),
        (np.array([1.5]), "indices of type float64"),
    ],
)
def test_take_refuses(indices, message):
    with pytest.raises(DataError, match=message):
        take(DATA, indices)


def test_binarise_draws_with_the_intensity_as_probability():
    n = 20_000
    x = torch.tensor([0, 51, 255], dtype=torch.uint8).repeat(n, 1)
    bits = binarise(x, torch.Generator().manual_seed(0))
    assert bits.dtype == torch.uint8
    assert torch.equal(bits, binarise(x, torch.Generator().manual_seed(0)))
    low, middle, high = bits.double().mean(0).tolist()
    assert (low, high) == (0.0, 1.0)
    # Five standard errors of a Bernoulli mean with p = 51 / 255.
    assert abs(middle - 0.2) < 5 * (0.2 * 0.8 / n) ** 0.5
    with pytest.raises(DataError, match=r"cells of torch.float32 to binarise"):
        binarise(x.float())
