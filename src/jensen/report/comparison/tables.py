"""What a comparison found, in words and tables."""

import shlex
from typing import TYPE_CHECKING

from jensen.report.charts import INK, chart, plain
from jensen.report.comparison.material import Material
from jensen.report.markup import Markup, figure, html, join, table, tag
from jensen.report.sections.repeat import data_argument
from jensen.report.sections.section import Section
from jensen.report.wording import LIKELIHOODS, count, decimals, duration, exact, number, shorten
from jensen.runs import Difference, Row
from jensen.runs.comparing.tables import INCOMPARABLE

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def title(material: Material) -> str:
    """What the page is called."""
    labels = list(material.comparison.planned_epochs)
    named = ", ".join(labels) if len(labels) <= 4 else count(len(labels), "model")
    return f"{named} on {material.comparison.data['name']}"


def summary(material: Material) -> Markup:
    """Title, what was compared and who came out best, warnings."""
    comparison = material.comparison
    data = comparison.data
    what = (
        f"{count(len(comparison.planned_epochs), 'model')}, {count(len(comparison.seeds), 'seed')} each, were fitted "
        f"to {count(data['n'], 'datum', 'data')} of {data['name']} and judged on the same "
        f"{count(data['n_test'], 'datum', 'data')} of {data['test']}, which no fit has seen. "
    )
    return tag(
        "header",
        tag("p", "jensen comparison", class_="eyebrow"),
        tag("h1", title(material)),
        tag(
            "p",
            "written ",
            tag("time", f"{material.written:%Y-%m-%d %H:%M} UTC", datetime=material.written.isoformat()),
            class_="meta",
        ),
        tag("p", what, *(join(_winner(material, group), " ") for group in material.groups()), class_="lead"),
        *(tag("p", warning, class_="note") for warning in _warnings(material)),
        tag("p", tag("b", "Budget: "), comparison.budget_in_words(), "."),
    )


def _winner(material: Material, group: list[Row]) -> Markup:
    """Who has the smallest NLL of those that compare, and whether by more than chance."""
    best = group[0]
    among = ""
    if len(material.groups()) > 1:
        among = (
            "Among densities of real numbers, " if best.density else "Among probabilities of whole numbers, "
        )
    value = join(tag("b", f"{number(best.nll, _places(best))}{_error(best)} nats a datum"))
    if len(group) == 1:
        alone = f"{among}{best.label} stands alone: its" if among else f"{best.label} has a"
        return join(alone, " negative log-likelihood", " is " if among else " of ", value, ".")
    start = f"{among}{best.label} has the smallest negative log-likelihood: "
    behind = [row.behind for row in group if row.behind is not None]
    clear = [d for d in behind if d.significant]
    if len(clear) == len(behind):
        end = (
            "significantly less than every other"
            if len(behind) > 1
            else f"significantly less than {clear[0].worse}"
        )
    elif not clear:
        tied = "no other" if len(behind) > 1 else behind[0].worse
        end = (
            f"but {tied} is significantly worse"
            if len(behind) > 1
            else f"but that of {tied} does not differ significantly"
        )
    else:
        rest = ", ".join(d.worse for d in behind if not d.significant)
        end = f"significantly less than {', '.join(d.worse for d in clear)}, but not than {rest}"
    return join(start, value, f", {end}.")


def _warnings(material: Material) -> list[str]:
    """What a reader must not miss."""
    comparison = material.comparison
    found = [] if comparison.comparable else [INCOMPARABLE]
    failed = [o for o in comparison.outcomes if o.error is not None]
    if failed:
        first = failed[0]
        found.append(
            f"{count(len(failed), 'fit')} of {len(comparison.outcomes)} failed and "
            f"{'is' if len(failed) == 1 else 'are'} left out: {first.label} with seed {first.seed}: {first.error}"
        )
    if len(comparison.seeds) < 2:
        found.append(
            "Each model was fitted once, so how much another seed would change is unknown: differences are those of "
            "these fits, not of the models."
        )
    return found


def _places(row: Row) -> int:
    errors = [e for e in (row.nll_seed_error, row.nll_data_error) if e]
    return decimals(row.nll or 0.0, min(errors) if errors else None)


def _error(row: Row) -> str:
    error = row.nll_data_error
    return "" if error is None else f" ± {number(error, _places(row))}"


def models(material: Material) -> Section:
    """The table of the models, and their NLLs as a picture."""
    head = (
        "model",
        "NLL",
        "behind the best",
        "ELBO",
        "gap",
        "bits per dim",
        "active",
        "epochs",
        "time",
        "weights",
    )
    blocks: list[Markup] = []
    for group in material.groups():
        if len(material.groups()) > 1:
            name = "Densities of real numbers" if group[0].density else "Probabilities of whole numbers"
            blocks.append(tag("h3", name))
        blocks.append(table(head, [_cells(material, row) for row in group], class_="numbers"))
        blocks.append(_dots(material, group))
    return Section(
        "models",
        "How good the models are",
        join(
            tag(
                "p",
                "Means over seeds, in nats a datum where nothing else is said. The first error is the standard error "
                "over seeds, the second over the test data: other seeds, and other data of the same kind, would change "
                "the number by about as much. Between models that are judged on the same data, as here, most of the "
                "second cancels.",
            ),
            *blocks,
        ),
    )


def _cells(material: Material, row: Row) -> tuple[object, ...]:
    places = _places(row)
    seeds = (
        "–" if row.nll_seed_error is None else number(row.nll_seed_error, decimals(0.0, row.nll_seed_error))
    )
    data = (
        "–" if row.nll_data_error is None else number(row.nll_data_error, decimals(0.0, row.nll_data_error))
    )
    label = join(
        tag("span", class_="key", style=f"background: {material.colours[row.label]}"),
        tag("b", row.label) if row.best else row.label,
        tag("div", LIKELIHOODS.get(row.likelihood, row.likelihood), class_="meta"),
    )
    return (
        label,
        join(
            exact(row.nll, places),
            tag("div", f"± {seeds} seeds", class_="meta"),
            tag("div", f"± {data} data", class_="meta"),
        ),
        ("best" if row.best else "–") if row.behind is None else _behind(row.behind),
        exact(row.elbo, places),
        exact(row.gap, 2),
        exact(row.bits_per_dim, 3),
        "–" if row.active_units is None else f"{round(row.active_units, 1):g}",
        f"{row.epochs:.0f}",
        duration(row.seconds or 0.0),
        exact(row.parameters),
    )


def _behind(d: Difference) -> Markup:
    places = decimals(d.nats, d.standard_error)
    text = f"{number(d.nats, places)} ± {number(d.standard_error, places)}"
    word = "significant" if d.significant else "not significant"
    return join(tag("b", text) if d.significant else text, tag("div", word, class_="meta"))


def _dots(material: Material, group: list[Row]) -> Markup:
    """The NLL of every fit, and the mean of each model with its error over seeds."""

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        for i, row in enumerate(group):
            colour = material.colours[row.label]
            each = [float(o.numbers["nll"]) for o in material.outcomes(row.label)]
            axes.scatter(each, [i] * len(each), s=34, color=colour, alpha=0.55, linewidths=0)
            axes.errorbar(
                [row.nll or 0.0],
                [i],
                xerr=[row.nll_seed_error or 0.0],
                fmt="|",
                color=INK,
                markersize=16,
                capsize=4,
            )
        axes.set_yticks(range(len(group)), [plain(shorten(row.label, 24)) for row in group])
        axes.set_ylim(len(group) - 0.5, -0.5)
        axes.grid(visible=True, axis="x")
        axes.grid(visible=False, axis="y")
        axes.set_xlabel("NLL on the test data, nats a datum; left is better")

    return figure(
        chart(paint, "NLL of every fit", width=700, height=80 + 34 * len(group)),
        "One dot a fit; the line is the mean over seeds, with its standard error over seeds.",
    )


def differences(material: Material) -> Section | None:
    """All pairs that compare."""
    found = material.comparison.differences
    if not found:
        return None
    rows: list[tuple[object, ...]] = []
    for d in sorted(found, key=lambda d: d.p_value):
        places = decimals(d.nats, d.standard_error)
        rows.append(
            (
                join(tag("b", d.better), " before ", d.worse),
                f"{number(d.nats, places)} ± {number(d.standard_error, places)}",
                exact(d.data_error, decimals(0.0, d.data_error)),
                exact(d.seed_error, None if d.seed_error is None else decimals(0.0, d.seed_error)),
                "below 0.0001" if d.p_value < 1e-4 else exact(d.p_value, 4),
                tag("b", "significant") if d.significant else "not significant",
            )
        )
    text = (
        "Two models that describe the same data are compared datum by datum, so that what makes a datum hard for both "
        "cancels; the spread over seeds is added. The p-value is the chance of as large a difference between equal "
        "models, adjusted for the number of pairs in this table (Holm); below 0.05 it counts as significant."
    )
    head = ("models", "difference, nats a datum", "error over data", "over seeds", "p-value", "")
    return Section(
        "differences", "Which differences are more than chance", join(tag("p", text), table(head, rows))
    )


def fits(material: Material) -> Section:
    """Every fit."""
    rows: list[tuple[object, ...]] = []
    for o in material.comparison.outcomes:
        error = None if o.error is None else tag("div", shorten(o.error, 160), class_="meta")
        rows.append(
            (
                o.label,
                str(o.seed),
                join(o.status, error),
                exact(o.numbers.get("nll"), 2),
                exact(o.numbers.get("elbo"), 2),
                number(o.epochs) if o.error is None else "–",
                duration(o.seconds) if o.error is None else "–",
                tag("code", o.folder.name),
            )
        )
    head = ("model", "seed", "how it ended", "NLL", "ELBO", "epochs", "time", "Run")
    return Section("fits", "Every fit", table(head, rows))


def repeat(material: Material) -> Section:
    """The command line."""
    comparison = material.comparison
    first = next(iter(material.runs.values()), None)
    data = None if first is None else data_argument(first)
    by_label = {row.label: row for row in comparison.rows}
    labels = [label if row.recipe == label else f"{label}={row.recipe}" for label, row in by_label.items()]
    labels.sort(key=lambda name: list(comparison.planned_epochs).index(name.partition("=")[0]))
    (key, value), *_ = comparison.budget.items()
    words = ["jensen", "compare", data or "DATA", "--models", ",".join(labels)]
    words += ["--seeds", str(len(comparison.seeds)), f"--{key}", f"{value:g}"]
    words += ["--samples", str(comparison.samples), "--seed", str(comparison.seed)]
    for row in comparison.rows:
        for option, chosen in row.options.items():
            text = ",".join(map(str, chosen)) if isinstance(chosen, list | tuple) else str(chosen)
            words += ["--set", f"{row.label}.{option}={text}"]
    notes = [
        "Run again in the same folder it goes on where it was and repeats nothing that is done. Validation and test "
        "data that were given or held out in another way than by default have to be given again.",
    ]
    if data is None:
        notes.append("The data were handed over in memory: DATA stands for a file that holds them.")
    if list(comparison.seeds) != list(range(comparison.seed, comparison.seed + len(comparison.seeds))):
        notes.append(
            f"The seeds were {', '.join(map(str, comparison.seeds))}, which only Python can ask for."
        )
    return Section(
        "repeat",
        "How to repeat this",
        join(tag("pre", tag("code", shlex.join(words))), *(tag("p", note) for note in notes)),
    )


def footnotes(material: Material) -> Section:
    """What the numbers are, and are not."""
    comparison = material.comparison
    items = [
        (
            "NLL. ",
            f"log p(x) is estimated with {comparison.samples:,} draws of each model's posterior for each datum, the "
            "same number for all. The estimate of the NLL lies above the true one in expectation, by less the better "
            "the posterior: a model whose posterior is poor is judged a little too harshly.",
        ),
        (
            "Errors. ",
            "That over seeds says how much another start and shuffle of the fit would change; with few seeds it is "
            "itself uncertain, which Student's distribution accounts for. That over data says how much other test data "
            "would change; all models are judged on the same.",
        ),
        (
            "Budget. ",
            "The same number of epochs is not the same time: a model that draws several samples a datum, or has a "
            "larger network, takes longer for each. The table says how long. No option was tuned here.",
        ),
    ]
    return Section(
        "footnotes",
        "What these numbers are, and are not",
        tag("ol", *(tag("li", tag("b", name), html(text)) for name, text in items), class_="footnotes"),
    )
