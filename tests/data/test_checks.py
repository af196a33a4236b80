import numpy as np
import pytest

from jensen.data import Dataset, Schema, check_matches, from_array
from jensen.errors import DataError, ShapeError, SupportError

PIXELS = from_array(np.array([[0, 200], [3, 255]], dtype=np.uint8), name="pixels")
BITS = from_array([[0, 1], [1, 1]])
COUNTS = from_array([[0, 7], [300, 1]])
REALS = from_array([[0.5, -7.0]])


def schema(kind, shape=(2,), columns=None):
    return Schema(event_shape=shape, kind=kind, columns=columns)


@pytest.mark.parametrize(
    ("kind", "dataset"),
    [(kind, BITS) for kind in ("binary", "uint8", "counts", "real")]
    + [(kind, PIXELS) for kind in ("uint8", "counts", "real")]
    + [("counts", COUNTS), ("real", COUNTS), ("real", REALS), ("uint8", from_array([[3, 255]]))],
)
def test_data_within_the_support_pass_in_the_schemas_form(kind, dataset):
    got = check_matches(schema(kind), dataset)
    assert got.schema == schema(kind)
    assert got.x.dtype == (np.uint8 if kind in ("binary", "uint8") else np.float32)
    assert np.array_equal(got.x, dataset.x)


@pytest.mark.parametrize(
    ("kind", "dataset", "message"),
    [
        ("binary", PIXELS, "pixels holds intensities 0..255, such as 200.*binary.*mnist-dynamic.*threshold"),
        ("binary", COUNTS, "holds counts data, such as 7;"),
        ("binary", REALS, "holds real data, such as 0.5"),
        ("uint8", COUNTS, "such as 300.*uint8 data"),
        ("uint8", REALS, "such as 0.5.*Scale and round"),
        ("counts", REALS, "such as 0.5.*Round them"),
    ],
)
def test_values_outside_the_support_are_refused(kind, dataset, message):
    with pytest.raises(SupportError, match=message):
        check_matches(schema(kind), dataset)


def test_dynamic_data_stay_dynamic_for_a_binary_model_only():
    dynamic = Dataset(x=PIXELS.x, schema=schema("binary"), dynamic=True)
    assert check_matches(schema("binary"), dynamic).dynamic
    assert not check_matches(schema("uint8"), dynamic).dynamic


def test_shapes_are_flattened_and_unflattened():
    images = from_array(np.random.default_rng(0).normal(size=(3, 4, 5)))
    flat = check_matches(schema("real", (20,)), images)
    assert flat.x.shape == (3, 20)
    assert np.array_equal(check_matches(schema("real", (4, 5)), flat).x, images.x)
    assert check_matches(schema("real", (1, 4, 5)), images).x.shape == (3, 1, 4, 5)


@pytest.mark.parametrize(
    ("shape", "wanted", "message"),
    [
        ((3,), (4,), "has 3 columns; the model was fitted on 4"),
        ((4, 5), (5, 4), r"shape \(4, 5\); the model was fitted on shape \(5, 4\)"),
        ((8, 8, 3), (3, 8, 8), r"shape \(8, 8, 3\)"),
        ((4, 5), (21,), r"shape \(4, 5\); the model was fitted on shape \(21,\)"),
    ],
)
def test_other_shapes_are_refused(shape, wanted, message):
    with pytest.raises(ShapeError, match=message):
        check_matches(schema("real", wanted), from_array(np.full((2, *shape), 0.5)))


def test_columns_are_sorted_by_name_or_refused():
    fitted = schema("real", (2,), ("a", "b"))
    assert check_matches(fitted, from_array([[1.5, 2.5]], columns=["b", "a"])).x.tolist() == [[2.5, 1.5]]
    assert check_matches(fitted, from_array([[1.5, 2.5]])).x.tolist() == [[1.5, 2.5]]
    with pytest.raises(DataError, match="lacks the columns 'a' and has the unknown columns 'c'"):
        check_matches(fitted, from_array([[1.5, 2.5]], columns=["b", "c"]))
    with pytest.raises(DataError, match="array has the unknown columns 'c'"):
        check_matches(fitted, from_array([[1.5, 2.5, 3.5]], columns=["b", "a", "c"]))
