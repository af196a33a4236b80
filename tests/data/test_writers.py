import os
import weakref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jensen.data import from_array, read, write, write_blocks
from jensen.errors import DataError

DTYPES = st.sampled_from([np.bool_, np.uint8, np.int16, np.float32])
TABLES = DTYPES.flatmap(
    lambda dtype: hnp.arrays(
        dtype,
        st.tuples(st.integers(1, 5), st.integers(1, 4)),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32) if dtype == np.float32 else None,
    )
)


@pytest.mark.parametrize("ending", ["npy", "npz", "csv"])
@given(x=TABLES)
def test_what_is_written_reads_back(tmp_path_factory, ending, x):
    path = tmp_path_factory.mktemp("round") / f"x.{ending}"
    write(path, x)
    expected, got = from_array(x), read(path)
    assert np.array_equal(got.x, expected.x)
    # A .csv has no dtype, so intensities come back as counts.
    if not (ending == "csv" and expected.schema.kind == "uint8"):
        assert got.schema == expected.schema
    assert [other.name for other in path.parent.iterdir()] == [path.name]


@pytest.mark.parametrize("ending", ["npz", "csv"])
def test_names_of_columns_read_back(tmp_path, ending):
    path = tmp_path / "new" / f"x.{ending}"
    write(path, [[0.5, 1.0]], columns=["a", "b, or c"])
    assert read(path).schema.columns == ("a", "b, or c")


def test_vector_is_one_column(tmp_path):
    write(tmp_path / "x.csv", np.array([0.5, 1.5]))
    assert read(tmp_path / "x.csv").x.tolist() == [[0.5], [1.5]]


@pytest.mark.parametrize(
    ("name", "x", "columns", "message"),
    [
        ("x.txt", [[1.0]], None, r"ending is '\.txt'. Use one of \.npy, \.npz, \.csv"),
        ("x.csv", np.zeros((2, 2, 2)), None, r"shape \(2, 2, 2\) is no table. Flatten"),
        ("x.npy", np.array([[{}]]), None, "cells are of type object"),
        ("x.csv", [[1.0]], ["a", "b"], "2 column names"),
        ("folder.npy", [[1.0]], None, "can't write .*Choose another place"),
    ],
)
def test_what_cannot_be_written(tmp_path, name, x, columns, message):
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(DataError, match=message):
        write(tmp_path / name, x, columns)
    assert [path.name for path in tmp_path.iterdir()] == ["folder.npy"]


def test_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "x.npy"
    write(path, [[1.5]])

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DataError, match="No space left"):
        write(path, [[2.5]])
    assert read(path).x.tolist() == [[1.5]]
    assert [other.name for other in tmp_path.iterdir()] == ["x.npy"]


@pytest.mark.parametrize("ending", ["npy", "npz", "csv"])
@pytest.mark.parametrize("dtype", ["float32", "uint8", "float64"])
def test_blocks_are_written_as_the_whole_is(tmp_path, ending, dtype):
    x = (np.random.default_rng(0).normal(size=(20, 3)) * 9).astype(dtype)
    columns = None if ending == "npy" else ["a", "b", "c"]
    write(tmp_path / f"whole.{ending}", x, columns)
    shape = write_blocks(tmp_path / f"blocks.{ending}", np.split(x, (1, 7, 7)), 20, columns)
    assert shape == (20, 3)
    if ending == "npz":
        mine, yours = (read(tmp_path / f"{name}.npz") for name in ("blocks", "whole"))
        assert np.array_equal(mine.x, yours.x)
        assert mine.schema == yours.schema
    else:
        mine, yours = ((tmp_path / f"{name}.{ending}").read_bytes() for name in ("blocks", "whole"))
        assert mine == yours


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "no blocks"),
        ([np.ones((2, 3))], "the blocks have 2 rows, wanted are 4"),
        ([np.ones((2, 3)), np.ones((3, 3))], "doesn't fit into an array of shape"),
        ([np.ones((2, 3)), np.ones((2, 4))], "doesn't fit into an array of shape"),
        ([np.ones((2, 3)), np.ones((2, 3), "float32")], "type float32 doesn't fit"),
        ([np.array([[None]])], "cells are of type object"),
    ],
)
def test_blocks_that_do_not_fit_leave_nothing(tmp_path, blocks, message):
    for ending in ("npy", "npz", "csv"):
        with pytest.raises(DataError, match=message):
            write_blocks(tmp_path / f"x.{ending}", iter(blocks), 4)
    assert not list(tmp_path.iterdir())


def test_blocks_are_asked_for_one_by_one(tmp_path):
    alive = []

    def blocks():
        for number in range(5):
            block = np.full((2, 2), number)
            alive.append(weakref.ref(block))
            yield block
            del block
            # The first one is kept for its form; of the others none.
            assert sum(ref() is not None for ref in alive[1:]) <= 1

    write_blocks(tmp_path / "x.npy", blocks(), 10)
    assert np.load(tmp_path / "x.npy")[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
