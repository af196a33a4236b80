"""What a data set is: an array of data, optional labels, and a schema that says what one datum looks like."""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["binary", "uint8", "counts", "real"]
"""What a cell holds: {0, 1}; intensities 0..255; counts 0, 1, 2, ...; real numbers."""


@dataclass(frozen=True)
class Schema:
    """What one datum looks like; kept in a Run and held against the data of every later command.

    Attributes:
        event_shape: Shape of one datum, such as (784,), (28, 28) or (3, 32, 32), channels first.
        kind: What a cell holds.
        columns: Names of the columns of a table; None where they have none.

    Example:
        >>> Schema(event_shape=(2,), kind="real", columns=("height", "weight")).columns
        ('height', 'weight')
    """

    event_shape: tuple[int, ...]
    kind: Kind
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Dataset:
    """Data with a description; ``jensen.data.from_array`` makes one from an array and checks it.

    Attributes:
        x: The data, (n, *event): uint8 for the kinds binary and uint8, float32 for counts and real.
        schema: What one datum looks like.
        y: Labels (n,), where there are any: whole numbers, numbers or strings; numbers (n, d) if a datum has several.
        name: How reports call it.
        source: Where it comes from: title, address, licence, or the path.
        dynamic: True for intensities 0..255 that stand for probabilities of a binary cell: training binarises
            them afresh in each epoch, evaluation once. ``schema.kind`` is then "binary" while ``x`` is uint8.
        target: The column of a table that holds the labels, by name or place as it was asked for; None if none was.
    """

    x: NDArray[np.generic]
    schema: Schema
    y: NDArray[np.generic] | None = None
    name: str = "array"
    source: str = ""
    dynamic: bool = field(default=False)
    target: str | int | None = None

    def __len__(self) -> int:
        """Number of data."""
        return len(self.x)
