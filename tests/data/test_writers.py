import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jensen.data import from_array, read, write
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
