"""New data that the model draws."""

import numpy as np
import torch

from jensen.report.charts import BLUE, ORANGE, with_legend
from jensen.report.columns import FEW, column_means, heat_maps, histograms, standardised
from jensen.report.markup import Markup, figure, join, tag
from jensen.report.material import Material
from jensen.report.pictures import Floats, Form, tiles
from jensen.report.sections.section import Section
from jensen.seeding import seeded

_DRAWS = 1000
_ROWS = 24


def samples(material: Material) -> Section:
    """The section."""
    n = 48 if material.form is not None else _DRAWS
    means, draws = _drawn(material, n)
    intro = tag("p", "Latents are drawn from the prior and decoded: data that the model makes up.")
    form = material.form
    if form is not None:
        picture = _images(form, means, draws)
    elif len(material.names) <= FEW:
        picture = figure(
            with_legend(
                [(BLUE, "data"), (ORANGE, f"{len(draws):,} draws of the model")],
                histograms(material.names, material.data, draws, "histograms of data and draws"),
            ),
            "How each column is spread in the data and in draws of the model; the better the model, the closer "
            "the two. Values far out are counted in the first and the last bin.",
        )
    else:
        picture = _wide(material, draws)
    return Section("samples", "What the model makes up", join(intro, picture))


def _drawn(material: Material, n: int) -> tuple[Floats, Floats]:
    """Expected data of draws from the prior, and draws of data given the same latents."""
    model = material.run.model
    with seeded(material.seed), torch.inference_mode():
        z = model.prior().sample(torch.Size((n,)))
        given = model.decode(z)
        means, draws = given.mean, given.sample()
    return tuple(part.reshape(n, -1).double().cpu().numpy() for part in (means, draws))  # pyright: ignore


def _images(form: Form, means: Floats, draws: Floats) -> Markup:
    columns = 6 if form.width <= 64 else 4
    shown = len(means) // columns * columns
    both = [
        tag(
            "div",
            tag("h3", name),
            tiles(form, values[:shown].reshape(-1, columns, values.shape[1]), 440, name),
        )
        for name, values in (("expected data", means), ("draws", draws))
    ]
    return figure(
        tag("div", *both, class_="pair"),
        "Left the expected datum of each latent, right a datum drawn given the same latent, with the noise that "
        "the likelihood puts on each cell by itself. The noise is part of the model: the NLL is about the right side.",
    )


def _wide(material: Material, draws: Floats) -> Markup:
    spread = figure(
        column_means(material.data, draws, "mean and standard deviation of columns"),
        f"One dot a column: its mean and standard deviation in the data and in {len(draws):,} draws of the model. "
        "On the line both agree.",
    )
    binary = material.run.schema.kind == "binary"
    order = np.arange(min(_ROWS, len(material.data)))
    blocks = [material.data[order], draws[:_ROWS]]
    if not binary:
        blocks = [standardised(block, material.data) for block in blocks]
    limits = (0.0, 1.0) if binary else (-3.0, 3.0)
    colours = figure(
        heat_maps(
            ["data", "draws"], blocks, limits, material.run.schema.columns, "data and draws as colours"
        ),
        "One line a datum, one column a cell: above data, below draws of the model.",
    )
    return join(spread, colours)
