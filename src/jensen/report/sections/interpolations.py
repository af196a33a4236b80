"""Walks in the latent space from one datum to another."""

import numpy as np

from jensen.report.charts import with_legend
from jensen.report.columns import lines, most_moving, standardised
from jensen.report.markup import Markup, figure, join, tag
from jensen.report.material import Material
from jensen.report.pictures import Floats, Form
from jensen.report.sections.section import Section, labelled_rows
from jensen.report.wording import label

_PAIRS = 6
_TITLE = "From one datum to another"


def interpolations(material: Material) -> Section:
    """The section."""
    pairs = _pairs(material)
    if material.discrete or not pairs:
        why = (
            "The latent is a class, and between two classes there is nothing."
            if material.discrete
            else "There are too few data for a walk between two of them."
        )
        return Section("interpolations", _TITLE, tag("p", why))
    intro = tag(
        "p",
        "A straight line in latent space between the posterior means of two data, decoded step by step. If what "
        "lies between two data looks like data, the latents have caught how they vary.",
    )
    draw = _lines if material.form is None else _images
    return Section("interpolations", _TITLE, join(intro, draw(material, pairs)))


def _pairs(material: Material) -> list[tuple[int, int]]:
    """Pairs of data that aren't used twice, of two labels where there are labels."""
    y = material.dataset.y
    left = list(range(len(material.data)))
    pairs: list[tuple[int, int]] = []
    while len(left) > 1 and len(pairs) < _PAIRS:
        first = left.pop(0)
        others = [i for i in left if y is None or y[i] != y[first]] or left
        left.remove(others[0])
        pairs.append((first, others[0]))
    return pairs


def _between(material: Material, pairs: list[tuple[int, int]], steps: int) -> Floats:
    """Expected data along the lines, (pairs, steps, cells)."""
    t = np.linspace(0, 1, steps)[None, :, None]
    first, last = (material.means[[pair[i] for pair in pairs]][:, None] for i in (0, 1))
    return material.decode((1 - t) * first + t * last)


def _images(material: Material, pairs: list[tuple[int, int]]) -> Markup:
    assert isinstance(material.form, Form)
    steps = material.form.columns - 2
    between = _between(material, pairs, steps)
    rows: list[tuple[object, Floats]] = [
        (_label(material, first, last), np.concatenate([material.data[[first]], path, material.data[[last]]]))
        for (first, last), path in zip(pairs, between, strict=True)
    ]
    return figure(
        labelled_rows(material.form, rows),
        f"One walk a line. The first and the last picture are data, the {steps} between them are decoded.",
    )


def _lines(material: Material, pairs: list[tuple[int, int]]) -> Markup:
    pairs = pairs[:4]
    between = standardised(_between(material, pairs, 21), material.data)
    chosen, entries = most_moving(between, material.names)
    ends = standardised(np.stack([material.data[list(pair)] for pair in pairs]), material.data)
    titles = [_label(material, *pair) or f"pair {i + 1}" for i, pair in enumerate(pairs)]
    drawn = lines(
        titles,
        np.linspace(0, 1, 21),
        between[..., chosen],
        [colour for colour, _ in entries],
        "from the first datum (0) to the second (1)",
        (0, 0.5, 1),
        ends[..., chosen],
    )
    which = (
        "every column" if len(chosen) == len(material.names) else f"the {len(chosen)} columns that move most"
    )
    return figure(
        with_legend(entries, drawn),
        f"The expected value of {which} along four walks at most, in standard deviations of the data from their "
        "mean. Dots are the data at both ends.",
    )


def _label(material: Material, first: int, last: int) -> str:
    y = material.dataset.y
    return "" if y is None else f"{label(y[first].item(), 10)} → {label(y[last].item(), 10)}"
