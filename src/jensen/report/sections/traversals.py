"""What each latent does by itself."""

import numpy as np

from jensen.report.charts import with_legend
from jensen.report.columns import lines, most_moving, standardised
from jensen.report.markup import Markup, figure, join, tag
from jensen.report.material import Material
from jensen.report.pictures import Floats, Form, tiles
from jensen.report.sections.section import Section, labelled_rows
from jensen.report.wording import count, number

_MOST = 16
_REACH = 3.0


def traversals(material: Material) -> Section:
    """The section."""
    if material.discrete:
        body = _classes(material)
    else:
        dims = [d for d in material.order if material.active[d]][:_MOST]
        body = _active(material, dims) if dims else tag("p", _collapsed(material))
    return Section("traversals", "What each latent does", body)


def _collapsed(material: Material) -> str:
    latents = count(len(material.active), "latent")
    return (
        f"No latent is active on these data: the posterior means of all {latents} hardly move from datum to datum, "
        "so there is nothing to traverse. The posterior may have collapsed onto the prior, or the data may be too few."
    )


def _active(material: Material, dims: list[int]) -> Markup:
    """One latent moved at a time."""
    centre = int(((material.means - material.means.mean(0)) ** 2).sum(1).argmin())
    # An odd number, so that the middle is the prior's mean.
    steps = 31 if material.form is None else min(9, material.form.columns - 1 + material.form.columns % 2)
    at = np.linspace(-_REACH, _REACH, steps)
    z = np.repeat(np.repeat(material.means[[centre]], len(dims), 0)[:, None], steps, 1)
    for row, d in enumerate(dims):
        z[row, :, d] = material.prior_mean[d] + at * material.prior_scale[d]
    values = material.decode(z)
    active = int(material.active.sum())
    which = f"each of the {active} active latents" if active > 1 else "the active latent"
    if active > len(dims):
        which = f"each of the {len(dims)} that say most of {active} active latents"
    others = " while the others stay" if material.means.shape[1] > 1 else ""
    order = "; those that say most come first" if len(dims) > 1 else ""
    intro = tag(
        "p",
        f"Starting from the latents of a typical datum, {which} is moved from −3 to 3 standard deviations of the "
        f"prior{others}{order}.",
    )
    if material.form is None:
        return join(intro, _lines(material, dims, at, values))
    pictures = _rows(material, material.form, dims, values)
    if material.means.shape[1] == 2:
        pictures = join(pictures, _sheet(material, material.form))
    return join(intro, pictures)


def _label(material: Material, d: int) -> str:
    amount = material.shown_kl[d]
    return f"{number(amount, 2)} nats" if material.kl is not None else f"variance {number(amount, 2)}"


def _rows(material: Material, form: Form, dims: list[int], values: Floats) -> Markup:
    rows: list[tuple[object, Floats]] = [
        (join(tag("b", f"latent {d}"), tag("br"), _label(material, d)), values[row])
        for row, d in enumerate(dims)
    ]
    amount = "KL of the latent" if material.kl is not None else "variance of its posterior mean"
    return figure(
        labelled_rows(form, rows, 660),
        f"One latent a line, with the {amount}: from −3 standard deviations of the prior at the left to 3 at the "
        "right.",
    )


def _lines(material: Material, dims: list[int], at: Floats, values: Floats) -> Markup:
    moved = standardised(values, material.data)
    chosen, entries = most_moving(moved, material.names)
    titles = [f"latent {d}, {_label(material, d)}" for d in dims]
    colours = [colour for colour, _ in entries]
    drawn = lines(titles, at, moved[..., chosen], colours, "standard deviations of the prior", range(-3, 4))
    which = (
        "Every column" if len(chosen) == len(material.names) else f"The {len(chosen)} columns that move most"
    )
    return figure(
        with_legend(entries, drawn),
        f"{which}: their expected value, in standard deviations of the data from their mean, as one latent moves. "
        "A flat line is a column that the latent says nothing of.",
    )


def _sheet(material: Material, form: Form) -> Markup:
    """The plane of two latents, decoded on a grid."""
    side = max(5, min(15, 900 // (2 * form.width)))
    at = np.linspace(-2.5, 2.5, side)
    z = np.stack(np.meshgrid(at, -at), -1) * material.prior_scale + material.prior_mean
    return figure(
        tiles(form, material.decode(z), 720, "the plane of the two latents, decoded on a grid"),
        "The whole plane: latent 0 grows to the right, latent 1 upwards, both from −2.5 to 2.5 standard deviations "
        "of the prior. Compare it with the map above.",
    )


def _classes(material: Material) -> Markup:
    """What each class stands for."""
    k = material.means.shape[1]
    values = material.decode(np.eye(k))
    share = material.means.mean(0)
    order = [int(i) for i in np.argsort(-share, kind="stable")[: 2 * _MOST]]
    intro = tag("p", f"The latent is one of {k} classes. This is the expected datum of each.")
    if material.form is None:
        places = range(len(order))
        rows = standardised(values, material.data)[order]
        chosen, entries = most_moving(rows[None], material.names)
        drawn = lines(
            ["expected data"],
            np.array(places, dtype=float),
            rows[None][..., chosen],
            [colour for colour, _ in entries],
            "class, the largest first",
            places,
        )
        caption = (
            "Expected value of columns by class, largest class first, in standard deviations of the data."
        )
        return join(intro, figure(with_legend(entries, drawn), caption))
    pictures: list[tuple[object, Floats]] = [
        (join(tag("b", f"class {i}"), tag("br"), f"{number(100 * share[i], 0)} % of the data"), values[[i]])
        for i in order
    ]
    return join(intro, figure(labelled_rows(material.form, pictures, 80), "Classes, the largest first."))
