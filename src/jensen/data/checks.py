"""Holds data against the schema of the data that a model was fitted on."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jensen.data.arrays import chunks, dtype_of
from jensen.data.dataset import Dataset, Kind, Schema
from jensen.errors import ShapeError, SupportError

_WANTED = {
    "binary": "0 and 1",
    "uint8": "intensities 0..255",
    "counts": "whole numbers 0, 1, 2, ...",
    "real": "real numbers",
}
_REMEDIES = {
    "binary": "Give binary data, such as mnist-dynamic in place of mnist, or threshold them, as in x > 127",
    "uint8": "Scale and round them to 0..255, or fit a model with a likelihood for real numbers",
    "counts": "Round them, or fit a model with a likelihood for real numbers",
}


def check_matches(schema: Schema, dataset: Dataset) -> Dataset:
    """Holds data against the schema of a fitted model, and brings them into its form where nothing is lost.

    Columns in another order are sorted by name; a flat event is reshaped, as (n, 784) to (n, 28, 28), and
    back; binary data serve for any model, and all numbers for a model of real numbers. Data with ``dynamic``
    set stay so for a binary model; whether to binarise them is the caller's choice.

    Args:
        schema: What the model was fitted on.
        dataset: The data (n, *event) to use it on.

    Returns:
        The data in the form of the schema, with the schema's dtype.

    Raises:
        ShapeError: If columns are missing, unknown or of another number, or the event has another shape.
        SupportError: If cells have values that the model's likelihood gives no density.

    Example:
        >>> from jensen.data import from_array
        >>> fitted = Schema(event_shape=(2,), kind="real", columns=("height", "weight"))
        >>> check_matches(fitted, from_array([[60.5, 1.7]], columns=["weight", "height"])).x
        array([[ 1.7, 60.5]], dtype=float32)
    """
    dataset = _match_columns(schema, dataset)
    dataset = _match_shape(schema, dataset)
    return _match_kind(schema, dataset)


def _quoted(names: set[str], order: tuple[str, ...]) -> str:
    """Names in their order, at most ten of them."""
    shown = [name for name in order if name in names]
    return ", ".join(f"'{name}'" for name in shown[:10]) + (", ..." if len(shown) > 10 else "")


def _match_columns(schema: Schema, dataset: Dataset) -> Dataset:
    """Sorts columns by name; arrays without names are taken by their order."""
    wanted, got = schema.columns, dataset.schema.columns
    if wanted is None or got is None or wanted == got:
        return dataset
    missing, extra = set(wanted) - set(got), set(got) - set(wanted)
    if missing or extra:
        parts = [f"lacks the columns {_quoted(missing, wanted)}"] if missing else []
        parts += [f"has the unknown columns {_quoted(extra, got)}"] if extra else []
        raise ShapeError(
            f"{dataset.name} {' and '.join(parts)}; the model was fitted on {len(wanted)} columns, "
            f"{_quoted(set(wanted), wanted)}. Give exactly these, in any order."
        )
    order = [got.index(name) for name in wanted]
    return replace(dataset, x=dataset.x[:, order], schema=replace(dataset.schema, columns=wanted))


def _only_flattened(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Whether two shapes differ in that one is flat, or in axes of length one."""
    flat = len(one) == 1 or len(other) == 1
    squeezed = [n for n in one if n != 1] == [n for n in other if n != 1]
    return math.prod(one) == math.prod(other) and (flat or squeezed)


def _match_shape(schema: Schema, dataset: Dataset) -> Dataset:
    """Reshapes events where that can't mix up cells."""
    wanted, got = schema.event_shape, dataset.x.shape[1:]
    if wanted == got:
        return dataset
    if not _only_flattened(wanted, got):
        if len(wanted) == len(got) == 1:
            message = f"{dataset.name} has {got[0]} columns; the model was fitted on {wanted[0]}."
        else:
            message = f"{dataset.name} has data of shape {got}; the model was fitted on shape {wanted}."
        raise ShapeError(f"{message} Give data of the same form, or fit a model on these.")
    return replace(dataset, x=dataset.x.reshape(len(dataset), *wanted))


def _first_outside(kind: Kind, x: NDArray[Any]) -> str | None:
    """The first value that cells of a kind can't have; None if there is none."""
    if kind == "real":
        return None
    top = {"binary": 1.0, "uint8": 255.0, "counts": np.inf}[kind]
    for _, block in chunks(x):
        outside = (block < 0) | (block > top)
        if block.dtype.kind == "f":
            outside |= (block != np.floor(block)) & ~np.isnan(block)
        if outside.any():
            return f"{block[outside][0]:g}"
    return None


def _match_kind(schema: Schema, dataset: Dataset) -> Dataset:
    """Checks the values and brings them to the schema's dtype."""
    kept = dataset.dynamic and schema.kind == "binary"
    value = None if kept else _first_outside(schema.kind, dataset.x)
    if value is not None:
        got = "intensities 0..255" if dataset.x.dtype == np.uint8 else f"{dataset.schema.kind} data"
        raise SupportError(
            f"{dataset.name} holds {got}, such as {value}; the model was fitted on {schema.kind} data "
            f"({_WANTED[schema.kind]}). {_REMEDIES[schema.kind]}."
        )
    gaps = dataset.x.dtype.kind == "f" and bool(np.isnan(dataset.x).any())
    # What was read for an exact model keeps its precision and its missing cells.
    keep = gaps or dataset.x.dtype == np.float64
    x = dataset.x if keep else dataset.x.astype(dtype_of(schema.kind), copy=False)
    return replace(dataset, x=x, schema=schema, dynamic=kept)
