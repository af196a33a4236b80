"""Data beside what comes back of them."""

import numpy as np

from jensen.report.columns import FEW, heat_maps, scatters, standardised
from jensen.report.markup import Markup, figure, join, tag
from jensen.report.material import Material
from jensen.report.pictures import Floats, Form
from jensen.report.sections.section import Section, guess_note, labelled_rows
from jensen.report.wording import count, number

_ROWS = 24


def reconstructions(material: Material) -> Section:
    """The section."""
    back = material.decode(material.means)
    intro = tag(
        "p",
        f"Each datum is encoded to its posterior mean and decoded again. The data are {material.origin}.",
        _variance_kept(material.data, back),
    )
    form = material.form
    if form is not None:
        picture = join(guess_note(form), _images(form, material.data, back))
    elif len(material.names) <= FEW and material.run.schema.kind != "binary":
        picture = figure(
            scatters(material.names, material.data, back, "original values against reconstructions"),
            "One chart a column, one dot a datum: the datum's value to the right, what comes back upwards. On the "
            "line both are equal; a flat cloud means that the latents say nothing of that column.",
        )
    else:
        picture = _colours(material, back)
    return Section("reconstructions", "What comes back", join(intro, picture))


def _variance_kept(data: Floats, back: Floats) -> str | None:
    total = float(((data - data.mean(0)) ** 2).mean())
    if len(data) < 2 or total <= 0:
        return None
    lost = float(((data - back) ** 2).mean()) / total
    if lost >= 1:
        return " What comes back is no nearer to them than their mean is."
    return f" What comes back explains {number(100 * (1 - lost), 0)}\N{NO-BREAK SPACE}% of their variance."


def _images(form: Form, data: Floats, back: Floats) -> Markup:
    per_row = form.columns
    rows: list[tuple[object, Floats]] = []
    for start in range(0, min(len(data), 3 * per_row), per_row):
        some = slice(start, start + per_row)
        rows += [("datum", data[some]), ("comes back", back[some])]
    blocks = [labelled_rows(form, rows[i : i + 2]) for i in range(0, len(rows), 2)]
    spaced = tag("div", *(tag("div", block, style="margin-bottom: 18px") for block in blocks))
    return figure(
        spaced,
        "Data above, the expected datum given their posterior mean below. What is blurred or missing did not pass "
        "through the latents.",
    )


def _colours(material: Material, back: Floats) -> Markup:
    data = material.data
    shown = min(_ROWS, len(data))
    order = np.arange(shown)
    if material.run.schema.kind == "binary":
        blocks, limits = [data[order], back[order]], (0.0, 1.0)
        scale = "White is 0, dark blue is 1; what comes back is the probability of a 1."
    else:
        blocks = [standardised(data[order], data), standardised(back[order], data)]
        limits = (-3.0, 3.0)
        scale = "Colours are standard deviations of a column from its mean."
    titles = [count(shown, "datum", "data"), "what comes back"]
    return figure(
        heat_maps(titles, blocks, limits, material.run.schema.columns, "data and reconstructions as colours"),
        f"One line a datum, one column a cell, in the same order above and below. {scale}",
    )
