"""What a section is, and what several of them say alike."""

from dataclasses import dataclass

from jensen.report.markup import Markup, tag
from jensen.report.pictures import Floats, Form, tiles


@dataclass(frozen=True)
class Section:
    """A part of the report.

    Attributes:
        identifier: By which links within the page find it.
        title: Its heading.
        body: What it holds.
    """

    identifier: str
    title: str
    body: Markup


def labelled_rows(form: Form, rows: list[tuple[object, Floats]], width: int = 740) -> Markup:
    """Rows of images, each with a label before it.

    Args:
        form: How a datum is shown.
        rows: Labels and data (columns, cells).
        width: How wide the images may become together, in pixels.

    Returns:
        The rows.
    """
    cells = [
        part
        for label, values in rows
        for part in (
            tag("div", label, class_="label"),
            tiles(form, values[None], width, f"{len(values)} images in a row"),
        )
    ]
    return tag("div", *cells, class_="rows")


def guess_note(form: Form | None) -> Markup | None:
    """Says that vectors are shown as images by guess."""
    if form is None or not form.guessed:
        return None
    cells = form.height * form.width
    return tag(
        "p",
        f"The data are vectors of {cells} cells without names. {cells} is a square number, so they are shown as "
        f"{form.height}×{form.width} pictures, row by row; if the cells are no pixels, neighbours mean nothing.",
        class_="meta",
    )
