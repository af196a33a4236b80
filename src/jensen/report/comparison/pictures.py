"""What the models make up, bring back, and say with each latent, beside each other."""

from math import prod
from typing import TYPE_CHECKING

import numpy as np
import torch

from jensen.data import take
from jensen.evaluation import reconstructions as bring_back
from jensen.report.charts import BLUE, MUTED, ORANGE, chart, panels, plain, whole_ticks, with_legend
from jensen.report.columns import FEW, column_means, histograms
from jensen.report.comparison.material import Material
from jensen.report.markup import Markup, figure, join, tag
from jensen.report.pictures import Floats, Form, form_of
from jensen.report.sections.section import Section, labelled_rows
from jensen.report.wording import shorten
from jensen.runs import Row, Run
from jensen.seeding import seeded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_IMAGES = 12
_DRAWS = 1000


def samples(material: Material) -> Section | None:
    """Draws of each model."""
    shown = [(row, material.runs[row.label]) for row in material.good]
    if not shown:
        return None
    data = _examples(shown[0][1], _DRAWS)
    form = None if data is None else form_of(shown[0][1].schema, data)
    intro = tag(
        "p",
        "Latents are drawn from each model's prior, with the same seed, and data given these: what the models make up. "
        "Each model is shown by the fit of its first seed.",
    )
    if form is not None:
        body = _images(form, [(row, *_drawn(run, 2 * _IMAGES)) for row, run in shown])
    elif data is not None:
        body = join(*(_columns(row, run, data) for row, run in shown))
    else:
        return None
    return Section("samples", "What the models make up", join(intro, body))


def reconstructions(material: Material) -> Section | None:
    """The same data as each model with latents that are numbers brings them back."""
    shown = [(row, material.runs[row.label]) for row in material.good]
    shown = [(row, run) for row, run in shown if hasattr(run.model, "decode")]
    data = _examples(shown[0][1], 2 * _IMAGES) if shown else None
    form = None if data is None else form_of(shown[0][1].schema, data)
    if form is None or data is None:
        return None
    rows: list[tuple[object, Floats]] = [("data", data)]
    for row, run in shown:
        rows.append((_name(row), _flat(bring_back(run.model, _prepared(run, len(data))))))
    return Section(
        "reconstructions",
        "What comes back",
        figure(
            labelled_rows(form, [(name, values[:_IMAGES]) for name, values in rows], width=700),
            "The same data, encoded and decoded from the posterior mean by each model.",
        ),
    )


def latents(material: Material) -> Section | None:
    """The KL of each latent of each model."""
    found: list[tuple[Row, list[Floats]]] = []
    for row in material.good:
        each = [o.numbers.get("kl_per_dimension") for o in material.outcomes(row.label)]
        kls = [np.sort(np.array(values, float))[::-1] for values in each if values is not None]
        if kls:
            found.append((row, kls))
    if not found:
        return None
    per_row = min(3, len(found))
    rows = -(-len(found) // per_row)

    def paint(drawn: "Figure") -> None:
        for axes, (row, kls) in zip(panels(drawn, len(found), per_row, sharey=True), found, strict=True):
            places = np.arange(1, len(kls[0]) + 1)
            axes.bar(places, np.mean(kls, axis=0), width=0.8, color=material.colours[row.label], alpha=0.6)
            for values in kls if len(kls) > 1 else []:
                axes.plot(places, values, ".", color=MUTED, markersize=4)
            axes.set_title(plain(shorten(row.label, 30)), fontsize=12)
            axes.set_xlabel("latents, those that say most first")
            whole_ticks(axes)
        drawn.axes[0].set_ylabel("KL, nats")

    return Section(
        "latents",
        "How much each latent says",
        figure(
            chart(paint, "KL of each latent", width=min(900, 330 * per_row), height=40 + 210 * rows),
            "The KL of each latent's posterior from its prior on the test data, in falling order: bars are means over "
            "seeds, dots the seeds. Latents near zero say nothing and aren't used.",
        ),
    )


def _name(row: Row) -> Markup:
    return tag("b", row.label)


def _images(form: Form, drawn: list[tuple[Row, Floats | None, Floats]]) -> Markup:
    means: list[tuple[object, Floats]] = [
        (_name(row), values[:_IMAGES]) for row, values, _ in drawn if values is not None
    ]
    noisy: list[tuple[object, Floats]] = [(_name(row), values[:_IMAGES]) for row, _, values in drawn]
    expected = figure(
        join(tag("h3", "Expected data"), labelled_rows(form, means, width=700)),
        "The mean of the likelihood given each latent.",
    )
    return join(
        *([expected] if means else []),
        figure(
            join(tag("h3", "Draws"), labelled_rows(form, noisy, width=700)),
            "Data drawn given these latents, with the noise that the likelihood puts on each cell; the NLL is about "
            "these.",
        ),
    )


def _columns(row: Row, run: Run, data: Floats) -> Markup:
    _, draws = _drawn(run, _DRAWS)
    cells = prod(run.schema.event_shape)
    names = run.schema.columns or tuple(f"cell {i}" for i in range(cells))
    if cells > FEW:
        picture = column_means(data, draws, f"columns of {row.label}")
        text = "One dot a column, in the data and in draws; on the line both agree."
    else:
        entries = [(BLUE, "data"), (ORANGE, f"{len(draws):,} draws of {row.label}")]
        picture = with_legend(entries, histograms(names, data, draws, f"columns of {row.label}"))
        text = "How each column is spread in the data and in draws; the better the model, the closer the two."
    return join(tag("h3", row.label), figure(picture, text))


def _drawn(run: Run, n: int) -> tuple[Floats | None, Floats]:
    """Expected data of draws from the prior, if latents are numbers, and draws given the same latents."""
    with seeded(0), torch.inference_mode():
        if not hasattr(run.model, "decode"):
            return None, _flat(run.model.sample(n))
        given = run.model.decode(run.model.prior().sample(torch.Size((n,))))
        return _flat(given.mean), _flat(given.sample())


def _prepared(run: Run, n: int) -> torch.Tensor:
    if run.examples is None:
        return torch.empty(0)
    return run.prepare(take(run.examples, slice(n)))


def _examples(run: Run, n: int) -> Floats | None:
    return None if run.examples is None else _flat(_prepared(run, n))


def _flat(values: torch.Tensor) -> Floats:
    return values.reshape(len(values), -1).double().cpu().numpy()
