"""Data as pictures: which data are images, and arrays of images as PNG within the page."""

from base64 import b64encode
from dataclasses import dataclass
from io import BytesIO
from math import isqrt, prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from jensen.data import Schema
from jensen.report.markup import Markup, tag

Floats = NDArray[np.floating[Any]]

_SMALLEST_SIDE = 4


@dataclass(frozen=True)
class Form:
    """How a datum is shown as an image.

    Attributes:
        height: Rows of pixels.
        width: Columns of pixels.
        channels: 1 for grey, 3 for colour.
        low: The value that is shown black.
        high: The value that is shown white.
        guessed: Whether the data are vectors whose length is a square number, so that this is a guess.
    """

    height: int
    width: int
    channels: int
    low: float
    high: float
    guessed: bool = False

    @property
    def columns(self) -> int:
        """How many images fit beside each other."""
        return max(4, min(12, 860 // (max(self.width, 56) + 2)))

    def pixels(self, values: Floats) -> Floats:
        """Data (..., *event) that were flattened behind their leading axes, as (..., height, width, channels).

        Args:
            values: (..., cells).

        Returns:
            Values from 0 to 1.
        """
        shape = (*values.shape[:-1], self.channels, self.height, self.width)
        scaled = (np.nan_to_num(values) - self.low) / (self.high - self.low)
        return np.moveaxis(np.clip(scaled, 0, 1).reshape(shape), -3, -1)


def form_of(schema: Schema, data: Floats) -> Form | None:
    """How data are shown as images.

    Args:
        schema: What one datum looks like.
        data: Some of them, (n, cells), which set the range of data that have none of their own.

    Returns:
        The form, or None where they are no images.
    """
    event = schema.event_shape
    guessed = False
    if len(event) == 3 and event[0] in (1, 3):
        channels, height, width = event
    elif len(event) == 2:
        channels, height, width = 1, *event
    elif _square(schema):
        side = isqrt(prod(event))
        channels, height, width, guessed = 1, side, side, True
    else:
        return None
    if min(height, width) < _SMALLEST_SIDE:
        return None
    low, high = {"binary": (0.0, 1.0), "uint8": (0.0, 255.0)}.get(schema.kind, (data.min(), data.max()))
    return Form(height, width, channels, float(low), float(high) if high > low else float(low) + 1, guessed)


def _square(schema: Schema) -> bool:
    """Whether a vector may well be an image: cells without names that hold bits or intensities, in a square."""
    cells = prod(schema.event_shape)
    return (
        len(schema.event_shape) == 1
        and schema.columns is None
        and schema.kind in ("binary", "uint8")
        and cells >= _SMALLEST_SIDE**2
        and isqrt(cells) ** 2 == cells
    )


def tiles(form: Form, values: Floats, width: int, label: str) -> Markup:
    """Images in rows and columns.

    Args:
        form: How a datum is shown.
        values: (rows, columns, cells).
        width: How wide the whole may become, in pixels of the page.
        label: What it shows, for those who can't see it.

    Returns:
        An ``img`` element that holds its PNG; the gaps let the page's background through.
    """
    rows, columns = values.shape[:2]
    pixels = form.pixels(values)
    gap = max(1, form.width // 16)
    canvas = np.zeros((rows * (form.height + gap) - gap, columns * (form.width + gap) - gap, 4), np.uint8)
    for row in range(rows):
        for column in range(columns):
            top, left = row * (form.height + gap), column * (form.width + gap)
            place = canvas[top : top + form.height, left : left + form.width]
            place[..., :3] = np.rint(255 * pixels[row, column])
            place[..., 3] = 255
    # Whole multiples keep all pixels of one size.
    times = max(1, width // canvas.shape[1])
    return tag(
        "img",
        src=_png(canvas),
        alt=label,
        class_="tiles" if canvas.shape[1] <= width else None,
        width=min(width, times * canvas.shape[1]),
    )


def _png(canvas: NDArray[np.uint8]) -> str:
    from PIL import Image

    buffer = BytesIO()
    Image.fromarray(canvas).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{b64encode(buffer.getvalue()).decode()}"
