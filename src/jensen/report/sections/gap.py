"""How far the bounds lie below log p(x), and why: for a reader who doesn't know the terms."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen.report.charts import BLUE, GREEN, INK, MUTED, ORANGE, chart, panels, with_legend
from jensen.report.markup import Markup, figure, join, table, tag
from jensen.report.material import Material
from jensen.report.sections.section import Section
from jensen.report.wording import count, decimals, exact, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_FAMILIES = {
    "normal": "normals with independent latents",
    "full_normal": "normals with latents that may depend on each other",
    "flow": "flows, which can bend",
    "categorical": "tables of probabilities",
}


def gap(material: Material) -> Section:
    """The section; where nobody measured the gap it says how to."""
    numbers = measured(material)
    if numbers is None:
        body = join(
            tag(
                "p",
                "The numbers of this report are bounds: log p(x) itself lies above them, and how far wasn't measured "
                "for this Run. This measures it and draws it here:",
            ),
            tag("pre", tag("code", "jensen evaluate RUN DATA --gap")),
        )
    else:
        body = join(
            _introduction(numbers), _curve(numbers), _suggestion(numbers), _split(numbers), _table(numbers)
        )
    return Section("gap", "How far the bounds are from the truth", body)


def measured(material: Material) -> Mapping[str, Any] | None:
    """The numbers of the report if the gap is among them, else the newest that have it."""
    for numbers in (material.numbers, *reversed(material.run.evaluations)):
        if "gap_simulated_width" in numbers:
            return numbers
    return None


def _said(numbers: Mapping[str, Any], key: str) -> str:
    """A number with its error, in nats."""
    value, error = numbers[key], numbers.get(f"{key}_standard_error")
    places = 2 if error is None else min(3, max(2, decimals(value, error)))
    return number(value, places) + ("" if error is None else f" ± {number(error, places)}")


def _introduction(numbers: Mapping[str, Any]) -> Markup:
    n = count(numbers["gap_n"], "datum", "data")
    return join(
        tag(
            "p",
            "How probable the model holds a datum, log p(x), can't be computed: it is an integral over everything "
            "that the latents could have been. What can be computed lies below it. The ELBO is the crudest such bound; "
            "averaging more draws K brings the bound closer, slowly; annealing, which leads a few draws step by step "
            "towards the true posterior, comes closest.",
        ),
        tag(
            "p",
            f"How close, one can tell for data that the model has made up itself. There the latents are known, and "
            f"with them log p(x) is bounded from above too. For {n} of these it lies between ",
            tag("b", number(numbers["gap_simulated_lower"], 2)),
            " and ",
            tag("b", number(numbers["gap_simulated_upper"], 2)),
            f" nats on average; the bracket is {_said(numbers, 'gap_simulated_width')} nats wide (± over data). "
            "Sampling can turn a bracket around by about its error.",
        )
        if not numbers["gap_exact"]
        else tag("p", f"This model's latents can be listed, so that log p(x) of the {n} is known exactly."),
    )


def _curve(numbers: Mapping[str, Any]) -> Markup:
    """The bound against K, on simulated data with the bracket, on real data with the annealed bound."""
    draws = np.array(numbers["gap_curve_samples"], float)

    def paint(drawn: "Figure") -> None:
        left, right = panels(drawn, 2, 2)
        for axes, kind in ((left, "simulated"), (right, "data")):
            values = np.array(numbers[f"gap_curve_{kind}"], float)
            errors = np.array(numbers[f"gap_curve_{kind}_standard_error"], float)
            axes.fill_between(draws, values - errors, values + errors, color=BLUE, alpha=0.2, linewidth=0)
            axes.plot(draws, values, color=BLUE, marker="o", markersize=4)
            axes.set(xscale="log", xlabel="draws K", ylabel="nats per datum")
            axes.margins(y=0.12)
        low, high = sorted((numbers["gap_simulated_lower"], numbers["gap_simulated_upper"]))
        left.axhspan(low, high, color=GREEN, alpha=0.35, linewidth=0)
        left.axhline(low, color=GREEN, linewidth=1)
        left.axhline(high, color=GREEN, linewidth=1)
        left.set_title("data that the model made up")
        right.axhline(numbers["gap_data_ais"], color=ORANGE, linewidth=1.4)
        right.set_title("real data")
        for axes, kind in ((left, "simulated"), (right, "data")):
            axes.annotate(
                "ELBO",
                (draws[0], numbers[f"gap_curve_{kind}"][0]),
                (8, -3),
                textcoords="offset points",
                color=INK,
                fontsize=11,
            )

    entries = [
        (BLUE, "bound from K draws of the encoder's posterior"),
        (GREEN, "bracket: log p(x) lies in it"),
        (ORANGE, "bound by annealing"),
    ]
    return figure(
        with_legend(entries, chart(paint, "bounds on log p(x) against the number of draws", height=330)),
        f"Means over {count(numbers['gap_n'], 'datum', 'data')} each, higher is closer to the truth; shaded is one "
        f"standard error of sampling. Left, log p(x) is known to lie in the green band, however thin. Right, it lies "
        f"somewhere above all that is drawn. {number(numbers['gap_chains'])} chains of {number(numbers['gap_steps'])} "
        "steps for each datum.",
    )


def _suggestion(numbers: Mapping[str, Any]) -> Markup:
    best = numbers["gap_curve_samples"][-1]
    short = numbers["gap_simulated_upper"] - numbers["gap_curve_simulated"][-1]
    return tag(
        "p",
        f"On real data the ELBO is {_said(numbers, 'gap_data_elbo')}, the bound with {number(best)} draws "
        f"{_said(numbers, 'gap_data_iwae')}, and annealing finds {_said(numbers, 'gap_data_ais')} nats. How far the "
        "truth lies above the last can't be known from real data. What simulated data suggest, if real data are like "
        f"them: annealing falls short by no more than about {number(max(0.0, numbers['gap_simulated_width']), 2)} "
        f"nats, the bound with {number(best)} draws by about {number(max(0.0, short), 2)}. This is a hint, not a "
        "bound: data unlike the model's own can be harder.",
    )


def _approximations(numbers: Mapping[str, Any]) -> list[str]:
    start, end = "gap_approximation_", "_standard_error"
    return [key.removeprefix(start) for key in numbers if key.startswith(start) and not key.endswith(end)]


def _split(numbers: Mapping[str, Any]) -> Markup:
    """A bar each: the gap as it is, and what would be left."""
    families = _approximations(numbers)
    own = families[0]
    rows: list[tuple[str, list[tuple[float, str]]]] = []
    left = numbers[f"gap_approximation_{own}"]
    if "gap_amortisation" in numbers:
        rows.append(("the encoder", [(left, BLUE), (numbers["gap_amortisation"], ORANGE)]))
    else:
        rows.append(("the encoder", [(numbers["gap_total"], MUTED)]))
    rows += [(f"best of {_short(name)}", [(numbers[f"gap_approximation_{name}"], BLUE)]) for name in families]

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        for place, (_, bars) in enumerate(rows):
            at = 0.0
            for width, colour in bars:
                shown = max(0.0, width)
                axes.barh(place, shown, left=at, height=0.6, color=colour)
                at += shown
            total = sum(width for width, _ in bars)
            axes.annotate(
                number(total, 2),
                (at, place),
                (6, 0),
                textcoords="offset points",
                va="center",
                color=INK,
                fontsize=11,
            )
        axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=12)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.margins(x=0.1)
        axes.set_xlabel("nats per datum that are missing to log p(x), by annealing")

    entries = [(ORANGE, "amortisation: one encoder for all data")] if "gap_amortisation" in numbers else []
    entries += [(BLUE, "approximation: the shape of the posterior")]
    return join(
        tag("h3", "Why the ELBO falls short"),
        tag(
            "p",
            "The ELBO would equal log p(x) if the posterior that the encoder gives were the true one. Two things keep "
            "it from that. The encoder has to serve all data with one network: giving each datum a posterior of its "
            "own, fitted to it alone, shows what this costs (amortisation). And posteriors come from a family of "
            "shapes, of which even the best may not match the true posterior (approximation).",
        ),
        figure(
            with_legend(entries, chart(paint, "the gap and its parts", height=90 + 46 * len(rows))),
            "Real data. Each bar is what is left of the gap: with the encoder's posteriors, and with the best that was "
            "found for each datum in a family of shapes. A large orange part calls for a larger encoder or longer "
            "training, a large blue part for a richer posterior. As log p(x) is itself bounded from below here, blue "
            "is rather too small.",
        ),
    )


def _short(family: str) -> str:
    return {"normal": "independent normals", "full_normal": "normals", "categorical": "tables"}.get(
        family, f"{family}s"
    )


def _table(numbers: Mapping[str, Any]) -> Markup:
    rows = [
        ("gap_simulated_lower", "lower side of the bracket", "simulated data, by annealing"),
        ("gap_simulated_upper", "upper side of the bracket", "simulated data, annealing back from the true latents"),
        ("gap_simulated_width", "width of the bracket", "its error is over data, of which it includes all"),
        ("gap_data_elbo", "ELBO", "real data"),
        ("gap_data_iwae", "bound with most draws", f"real data, K = {number(numbers['gap_curve_samples'][-1])}"),
        ("gap_data_ais", "bound by annealing", "real data"),
        ("gap_total", "gap of the ELBO", "real data: annealing less ELBO"),
        ("gap_amortisation", "amortisation", "best posterior in the encoder's family less the encoder's"),
        *(
            (f"gap_approximation_{name}", f"approximation, {_short(name)}", f"annealing less the best of {words}")
            for name in _approximations(numbers)
            for words in [_FAMILIES.get(name, name)]
        ),
    ]  # fmt: skip
    cells = [
        (name, exact(numbers[key]), exact(numbers.get(f"{key}_standard_error")), meaning)
        for key, name, meaning in rows
        if key in numbers
    ]
    return tag(
        "details",
        tag("summary", "These numbers with their errors, in nats a datum"),
        table(("number", "value", "standard error", "what it is"), list(cells)),
    )
