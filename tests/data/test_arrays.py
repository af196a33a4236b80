import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from jensen.data import arrays as arrays_module
from jensen.data import constant_columns, from_array
from jensen.errors import DataError


@pytest.mark.parametrize(
    ("x", "kind", "dtype"),
    [
        ([[0, 1], [1, 1]], "binary", np.uint8),
        ([[0.0, 1.0], [1.0, 1.0]], "binary", np.uint8),
        (np.array([[True, False]]), "binary", np.uint8),
        (np.array([[0, 7]], dtype=np.uint8), "uint8", np.uint8),
        ([[0, 7]], "counts", np.float32),
        ([[0.0, 300.0]], "counts", np.float32),
        ([[-1, 7]], "real", np.float32),
        ([[0.5, 7.0]], "real", np.float32),
        ([[0, 2**24 + 2]], "real", np.float32),
    ],
)
def test_kind_is_found_from_the_cells(x, kind, dtype):
    dataset = from_array(x)
    assert dataset.schema.kind == kind
    assert dataset.x.dtype == dtype
    assert np.array_equal(dataset.x, np.asarray(x))


def test_float32_holds_what_rounds_to_its_largest_number():
    largest = float(np.finfo(np.float32).max)
    limit = 2.0**128 - 2.0**103
    assert from_array([[0.5, np.nextafter(limit, 0)]]).x[0, 1] == largest
    with pytest.raises(DataError, match="float32 can't hold"):
        from_array([[0.5, -limit]])


def test_shape_labels_and_names_are_kept():
    dataset = from_array(np.zeros((3, 2, 4)), y=[[1], [2], [0]], name="toy", source="here")
    assert dataset.schema.event_shape == (2, 4)
    assert len(dataset) == 3
    assert dataset.y is not None
    assert dataset.y.tolist() == [1, 2, 0]
    assert (dataset.name, dataset.source, dataset.dynamic) == ("toy", "here", False)
    words = from_array([[1.5]], y=np.array(["a"], dtype=object))
    assert words.y is not None
    assert words.y.dtype.kind == "U"


@pytest.mark.parametrize(
    ("x", "message"),
    [
        ([], r"shape \(0,\).*labels in place of data"),
        ([1, 2, 3], r"shape \(3,\).*labels in place of data.*reshape\(-1, 1\)"),
        (np.zeros((0, 3)), r"empty: its shape is \(0, 3\)"),
        (np.zeros((3, 0)), r"empty: its shape is \(3, 0\)"),
        ([[1.0], [2.0, 3.0]], "same number of cells"),
        ([["a", "b"]], "not numbers.*Encode text"),
        (np.array([[1, None]]), "type object, not numbers"),
        ([[1j, 2.0]], "type complex128"),
        ([[1.0, np.nan], [np.inf, 2.0]], r"2 of 4 cells.*row 0, column 1 \(.*Fill"),
        (np.full((1, 2, 2), np.nan), r"4 of 4 cells.*row 0, cell \(0, 0\)"),
        ([[1e300, 2.0]], "1e\\+300, which float32 can't hold.*Rescale"),
        (np.ma.masked_array([[1.0, 2.0]], [[True, False]]), "masked cells.*filled"),
    ],
)
def test_data_that_cannot_be_used_are_refused(x, message):
    with pytest.raises(DataError, match=message):
        from_array(x)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"y": [1, 2, 3]}, r"labels of shape \(3,\) for 2 data"),
        ({"y": [[1, 2], [3, 4]]}, r"labels of shape \(2, 2\) for 2 data"),
        ({"y": [["a", "b"], ["c", "d"]], "several": True}, r"labels of shape \(2, 2\)"),
        ({"y": [[1.0, 2.0], [np.nan, np.nan]], "several": True}, "1 labels that are NaN.*the first at row 1"),
        ({"y": [1.0, np.nan]}, "1 labels that are NaN or infinite, the first at row 1"),
        ({"y": [None, {}]}, "labels of type object"),
        ({"columns": ["a"]}, r"shape \(2, 2\) but 1 column names"),
        ({"columns": ["a", "a"]}, "'a' more than once"),
    ],
)
def test_labels_and_names_must_fit(options, message):
    with pytest.raises(DataError, match=message):
        from_array([[0.5, 1.0], [2.0, 3.0]], **options)


def test_not_finite_cells_are_counted_and_found_in_a_later_chunk(monkeypatch):
    monkeypatch.setattr(arrays_module, "_CHUNK_CELLS", 4)
    x = np.zeros((9, 2))
    x[7, 1] = x[8, 0] = np.nan
    with pytest.raises(DataError, match=r"2 of 18 cells.*row 7, column 1 \('b'\)"):
        from_array(x, columns=["a", "b"])


@given(
    hnp.arrays(
        np.float64, st.tuples(st.integers(1, 9), st.integers(1, 3)), elements=st.floats(-3, 3, width=16)
    )
)
def test_chunks_do_not_change_what_is_found(x):
    whole = from_array(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrays_module, "_CHUNK_CELLS", 2)
        assert from_array(x).schema == whole.schema
        expected = [i for i in range(x.shape[1]) if len(set(whole.x[:, i].tolist())) == 1]
        assert constant_columns(whole) == expected
