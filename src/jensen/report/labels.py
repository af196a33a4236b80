"""The report of a classifier or regressor: how good its predictions are, and whether their probabilities come true."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from jensen.data import Dataset, take
from jensen.errors import RunError
from jensen.evaluation import (
    calibration_error,
    interval_coverage,
    reliability,
    risk_coverage,
)
from jensen.recipes import RECIPES
from jensen.report.charts import BLUE, FAINT, GREEN, MUTED, ORANGE, chart, legend, with_legend
from jensen.report.markup import Markup, figure, join, table, tag
from jensen.report.page import around
from jensen.report.pictures import form_of, tiles
from jensen.report.sections.repeat import data_argument, validation, written
from jensen.report.sections.section import Section
from jensen.report.wording import count, decimals, duration, exact, number
from jensen.runs import Run, class_numbers, doubts, judge, predict, probabilities, targets_of
from jensen.weights import Predictive

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Floats = NDArray[np.float64]

SHOWN = 2000
"""Data that are predicted for the pictures, at most."""

LISTED = 12
"""Data in the list of the most uncertain."""

PANELS = 4
"""Labels of a datum that are drawn, at most."""


@dataclass(frozen=True)
class Labelled:
    """What the sections draw from.

    Attributes:
        run: The Run.
        dataset: Labelled data of the pictures.
        numbers: The evaluation that the report is about.
        own_numbers: Whether the report computed them itself.
        predictive: Of the data.
        y: Their labels: class numbers, or numbers.
        doubt: Of each datum, entropy or standard deviation.
        epistemic: Of each datum, mutual information or epistemic standard deviation; None where it can't be told.
        seed: Of the draws.
    """

    run: Run
    dataset: Dataset
    numbers: Mapping[str, Any]
    own_numbers: bool
    predictive: Predictive
    y: NDArray[Any]
    doubt: Floats
    epistemic: Floats | None
    seed: int

    @property
    def classes(self) -> bool:
        """Whether labels are classes."""
        return RECIPES[self.run.recipe].targets == "classes"


def labels_page(run: Run, dataset: Dataset | None, seed: int) -> str:
    """The page of a Run that predicts labels, which needs nothing but itself.

    Args:
        run: A fitted Run.
        dataset: Labelled data for the pictures; None takes the Run's examples.
        seed: Of the draws.

    Raises:
        DataError: If data or labels don't match the Run.
        RunError: If there are no data to show.
    """
    material = _gathered(run, dataset, seed)
    own = [_reliability, _doubted] if material.classes else [_intervals, _scatter, _doubted]
    sections = [_numbers(material), *(make(material) for make in own), _selective(material)]
    sections += [_training(material), _repeat(material)]
    return around(f"{run.recipe} on {run.about.get('data', 'unknown data')}", _opening(material), sections)


def _gathered(run: Run, dataset: Dataset | None, seed: int) -> Labelled:
    given = run.examples if dataset is None else dataset
    if given is None:
        raise RunError(
            f"{run.folder or 'this Run'} keeps no examples, so there is nothing to show; give data: "
            "jensen report RUN --data DATA, or build(run, dataset)"
        )
    shown = given if len(given) <= SHOWN else take(given, slice(0, SHOWN))
    y = targets_of(shown, run.recipe)
    if RECIPES[run.recipe].targets == "classes":
        y = class_numbers(run, y, shown.name)
    predictive = predict(run, shown, None, seed)
    doubt, epistemic = doubts(run, predictive)
    known = [e for e in run.evaluations if dataset is not None and e.get("data") == dataset.name]
    known = known or run.evaluations
    numbers = known[-1] if known else {"data": shown.name, "seed": seed, **judge(run, shown, seed=seed)}
    return Labelled(run, shown, numbers, not known, predictive, y, doubt, epistemic, seed)


def _opening(material: Labelled) -> Markup:
    run, n, now = material.run, material.numbers, datetime.now(UTC)
    config = run.config
    first = "accuracy" if material.classes else "rmse"
    title = "accuracy" if material.classes else "root mean squared error"
    held_out = bool(run.about.get("n_valid"))
    cards = [(title, first), ("negative log-likelihood, nats", "nll")]
    cards += (
        [("Brier score", "brier"), ("calibration error (binned)", "ece")]
        if material.classes
        else [("within the 90 % interval", "coverage_90"), ("explained variance", "r2")]
    )
    if "unknown_auroc" in n:
        cards.append(("AUROC of unknown data", "unknown_auroc"))
    seconds = sum(record["seconds"] for record in run.history)
    notes = []
    if material.own_numbers and not held_out:
        notes.append(
            "These numbers are of data that the network was fitted on, so they are too good. Evaluate it on others: "
            "jensen evaluate RUN DATA."
        )
    elif n.get("data") == run.about.get("data"):
        notes.append(
            f"The numbers are of data named {n.get('data')}, as those that the network was fitted on: it may have seen "
            "them, and new data would do worse."
        )
    if config.options.get("temperature", 1) != 1:
        notes.append("The KL was tempered in this fit: what it found is no posterior of the stated prior.")
    return join(
        tag(
            "header",
            tag("p", "jensen report", class_="eyebrow"),
            tag("h1", f"{run.recipe} on {run.about.get('data', 'unknown data')}"),
            tag(
                "p",
                "written ",
                tag("time", f"{now:%Y-%m-%d %H:%M} UTC", datetime=now.isoformat()),
                class_="meta",
            ),
            tag(
                "p",
                f"A {run.recipe.removeprefix('bayes-')} was fitted to "
                f"{count(run.about.get('n', 0), 'datum', 'data')} in {duration(seconds)}; the weights of its network "
                f"have a posterior by method ",
                tag("code", config.method),
                f", of which predictions average over {_sets(material.predictive.samples)}. The numbers below are of "
                f"{count(n['n'], 'datum', 'data')} of {n.get('data')}; pictures and lists are of "
                f"{count(len(material.dataset), 'datum', 'data')} of {material.dataset.name}"
                f"{', held out of the fit' if held_out and material.dataset is run.examples else ''}.",
                class_="lead",
            ),
        ),
        *(tag("p", note, class_="note") for note in notes),
        tag("div", *(_card(name, n, key) for name, key in cards), class_="cards"),
    )


def _sets(samples: int) -> str:
    return count(samples, "set of weights", "sets of weights") if samples else "all weights in closed form"


def _card(name: str, n: Mapping[str, Any], key: str) -> Markup:
    error = n.get(f"{key}_standard_error")
    spread = "" if error is None else f"± {number(error, decimals(error, error))} over data"
    return tag(
        "div",
        tag("div", name, class_="name"),
        tag(
            "div", exact(n.get(key), None if n.get(key) is None else decimals(n[key], error)), class_="value"
        ),
        tag("div", spread, class_="sub"),
        class_="card",
    )


_MEANINGS = {
    "accuracy": "share of data whose most probable class is the true one",
    "nll": "mean −log p(label), nats; of numbers a density in their unit",
    "brier": "mean squared distance of the probabilities from what happened, 0 to 2",
    "ece": "binned calibration error of the predicted class; biased upwards",
    "ece_debiased": "the same less an estimate of its bias",
    "ece_if_calibrated": "what a perfectly calibrated model of the same confidences would get",
    "aurc": "area under the selective-risk curve: mean risk over all coverages",
    "confidence": "mean probability of the predicted class",
    "rmse": "root mean squared error of the predictive mean; of several labels a datum over all, each in its unit",
    "mae": "mean absolute error, likewise",
    "r2": "share of the labels' variance that is explained",
    "interval_error": "mean difference of the intervals' coverage from their probability",
    "unknown_auroc": "probability that an unknown datum looks more uncertain than a known one",
    "unknown_auroc_epistemic": "the same by the epistemic part alone",
    "unknown_n": "number of unknown data",
    "n": "number of data",
    "samples": "sets of weights averaged over; 0 for a closed form",
}


def _numbers(material: Labelled) -> Section:
    n = material.numbers
    rows: list[tuple[object, ...]] = []
    for key, value in n.items():
        if key in ("data", "seed") or key.endswith("_standard_error") or isinstance(value, str | list):
            continue
        error = n.get(f"{key}_standard_error")
        meaning = _MEANINGS.get(key, "")
        if key.startswith("coverage_"):
            meaning = f"share of labels within the central {key.removeprefix('coverage_')} % interval"
        if key.startswith("width_"):
            meaning = f"mean width of the central {key.removeprefix('width_')} % interval"
        places = None if value is None or isinstance(value, int) else decimals(value, error)
        rows.append(
            (
                tag("code", key),
                exact(value, places),
                "–" if error is None else exact(error, decimals(error, error)),
                meaning,
            )
        )
    return Section("numbers", "Numbers", table(("number", "value", "standard error", "what it is"), rows))


def _reliability(material: Labelled) -> Section:
    p = probabilities(material.predictive)
    confidence, correct = p.max(1), p.argmax(1) == material.y
    found = reliability(confidence, correct, bins=10)
    error = calibration_error(confidence, correct, bins=10, seed=material.seed)
    full = found.count > 0

    def paint(drawn: "Figure") -> None:
        left, right = drawn.subplots(1, 2)
        left.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        left.errorbar(
            found.confidence[full],
            found.accuracy[full],
            yerr=2 * found.standard_error[full],
            fmt="o-",
            color=BLUE,
            markersize=5,
        )
        left.set(xlabel="stated probability", ylabel="share that was right", xlim=(0, 1), ylim=(0, 1.05))
        right.bar(
            found.edges[:-1],
            found.count,
            width=np.diff(found.edges),
            align="edge",
            color=BLUE,
            edgecolor=FAINT,
        )
        right.set(xlabel="stated probability", ylabel="data", xlim=(0, 1))

    return Section(
        "reliability",
        "Reliability",
        figure(
            chart(paint, "reliability diagram, and how many data have which confidence", height=340),
            "Left: in each bin of confidence, the share of predictions that were right; on the diagonal probabilities "
            "come true, below it they promise too much. Bars are two standard errors. Right: how many data are in each "
            f"bin. In these {len(found.count)} bins the calibration error is {error.value:.3f}; a perfectly calibrated "
            f"model of the same confidences would get {error.if_calibrated:.3f} on {len(p):,} data.",
        ),
    )


def _intervals(material: Labelled) -> Section:
    levels = np.linspace(0.05, 0.95, 19)
    found = interval_coverage(material.predictive, material.y, levels.tolist())

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1)
        axes.errorbar(
            levels, found.coverage, yerr=2 * found.standard_error, fmt="o-", color=BLUE, markersize=4
        )
        axes.set(
            xlabel="probability of the interval", ylabel="share of labels within", xlim=(0, 1), ylim=(0, 1.02)
        )

    return Section(
        "intervals",
        "Do intervals hold what they promise?",
        figure(
            chart(paint, "coverage of central intervals", width=520, height=400),
            "Central predictive intervals of each probability, and the share of labels that lie within. Below the "
            "diagonal intervals are too narrow, above it too wide. Bars are two standard errors.",
        ),
    )


def _scatter(material: Labelled) -> Section:
    n = len(material.dataset)
    mean = material.predictive.mean.double().cpu().numpy().reshape(n, -1)
    ends = material.predictive.quantiles([0.05, 0.95]).double().cpu().numpy().reshape(2, n, -1)
    y = material.y.reshape(n, -1)
    several = mean.shape[1] > 1
    step = max(1, n // 150)
    place = np.arange(len(range(0, n, step)))

    def paint(drawn: "Figure") -> None:
        panels = drawn.subplots(1, min(mean.shape[1], PANELS), squeeze=False)[0]
        for target, axes in enumerate(panels):
            order = np.argsort(mean[:, target])[::step]
            low, high = ends[0][order, target], ends[1][order, target]
            axes.fill_between(place, low, high, color=BLUE, alpha=0.25, linewidth=0)
            axes.plot(place, mean[order, target], color=BLUE)
            axes.plot(place, y[order, target], "o", color=ORANGE, markersize=4, alpha=0.8)
            label = f"label {target + 1}" if several else "label"
            axes.set(xlabel="data, sorted by prediction", ylabel=label)

    drawn = chart(paint, "predictive intervals and labels", height=340)
    names = [(BLUE, "predictive mean, and 90 % interval"), (ORANGE, "label")]
    return Section(
        "predictions",
        "Predictive intervals",
        figure(
            with_legend(names, drawn),
            f"{len(place)} data in the order of their predictions"
            f"{f', for {min(mean.shape[1], PANELS)} of {mean.shape[1]} labels a datum' if several else ''}.",
        ),
    )


def _doubted(material: Labelled) -> Section:
    run = material.run
    order = np.argsort(-material.doubt, kind="stable")[:LISTED]
    what = "entropy, nats" if material.classes else "standard deviation"
    part = "of it epistemic" if material.classes else "epistemic part"
    rows: list[tuple[object, ...]] = []
    if material.classes:
        p, classes = probabilities(material.predictive), run.about["classes"]
        for i in order:
            best = np.argsort(-p[i])[:3]
            said = ", ".join(f"{classes[k]}: {p[i, k]:.2f}" for k in best)
            rows.append((int(i), said, str(classes[int(material.y[i])]), *_pair(material, int(i))))
    else:
        mean = material.predictive.mean.double().cpu().numpy()
        if mean.ndim > 1:
            what, part = "standard deviation, in spreads", "epistemic part, likewise"
        rows = [(int(i), _said(mean[i]), _said(material.y[i]), *_pair(material, int(i))) for i in order]
    flat = np.asarray(material.dataset.x, np.float64).reshape(len(material.dataset), -1)
    form = form_of(run.schema, flat) if len(run.schema.event_shape) > 1 else None
    pictures = None
    if form is not None:
        pictures = figure(
            tiles(form, flat[order][None], 740, "the most uncertain data as pictures"),
            "The same as pictures, from left to right.",
        )
    return Section(
        "uncertain",
        "The most uncertain data",
        join(
            table(("row", "prediction", "label", what, part), rows),
            pictures,
            tag(
                "p",
                "The epistemic part is what more data would take away: sets of weights disagree there. The rest is "
                "noise that all of them see.",
                class_="meta",
            ),
        ),
    )


def _said(values: Any) -> str:
    return ", ".join(f"{value:.4g}" for value in np.atleast_1d(values))


def _pair(material: Labelled, i: int) -> tuple[str, str]:
    epistemic = material.epistemic
    return f"{material.doubt[i]:.3g}", "–" if epistemic is None else f"{epistemic[i]:.3g}"


def _selective(material: Labelled) -> Section:
    if material.classes:
        p = probabilities(material.predictive)
        losses = (p.argmax(1) != material.y).astype(np.float64)
        curves = {"by confidence": (BLUE, risk_coverage(losses, -p.max(1)))}
        if material.epistemic is not None and material.predictive.samples > 1:
            curves["by mutual information"] = (GREEN, risk_coverage(losses, material.epistemic))
        name = "error"
    else:
        losses = np.square(material.predictive.mean.double().cpu().numpy() - material.y)
        if losses.ndim > 1:
            # Labels of several units are judged, as they are doubted, in units of their spread.
            losses = (losses / np.square(np.asarray(material.run.model.target_unit))).mean(1)
        curves = {"by standard deviation": (BLUE, risk_coverage(losses, material.doubt))}
        name = "mean squared error"
    first = next(iter(curves.values()))[1]

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        for colour, curve in curves.values():
            axes.plot(curve.coverage, curve.risk, color=colour)
        low, high = first.risk - 2 * first.standard_error, first.risk + 2 * first.standard_error
        axes.fill_between(first.coverage, np.maximum(low, 0), high, color=BLUE, alpha=0.15, linewidth=0)
        axes.plot(first.coverage, first.best, color=MUTED, linewidth=1)
        axes.set(xlabel="share of data that is kept", ylabel=name, xlim=(0, 1))
        axes.set_ylim(0, max(1e-9, 1.6 * float(first.risk[len(first.risk) // 20 :].max())))

    keys = [*((colour, label) for label, (colour, _) in curves.items()), (MUTED, "best possible order")]
    half = first.at(0.8)
    return Section(
        "selective-risk",
        "If the most uncertain data were rejected",
        figure(
            join(legend(keys), chart(paint, "risk against coverage", height=320)),
            f"The {name} on the data that are kept: {first.at(1.0):.3g} on all, {half:.3g} on the surest 80 %. A flat "
            "curve means that the uncertainty doesn't know where the errors are. The band is two standard errors.",
        ),
    )


def _training(material: Labelled) -> Section:
    run = material.run
    losses = [(r["epoch"], r["train"]["loss"]) for r in run.history if "loss" in r["train"]]
    model = run.model
    rows: list[tuple[object, object]] = [
        ("training data", number(run.about.get("n"))),
        ("held out", number(run.about.get("n_valid")) if run.about.get("n_valid") else "none"),
        ("weights", number(sum(p.numel() for p in model.parameters()))),
        ("method", run.config.method),
        ("prior of the weights", run.config.prior),
        ("likelihood of the labels", model.likelihood),
    ]
    if model.noise_scale is not None:
        rows.append(("standard deviation of the noise", number(model.noise_scale)))
    rows.append(("device", f"{run.about.get('device')}, {count(run.about.get('threads', 1), 'thread')}"))
    facts = tag(
        "div",
        tag("table", tag("tbody", *(tag("tr", tag("td", a), tag("td", b)) for a, b in rows)), class_="facts"),
        class_="scroll",
    )
    if len(losses) < 2:
        return Section("training", "Training", facts)

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        axes.plot(*zip(*losses, strict=True), color=BLUE)
        axes.set(xlabel="epoch", ylabel="nats a datum")

    drawn = figure(
        chart(paint, "what training minimised, epoch by epoch", height=260),
        "What training minimised, in nats a datum: minus the log-likelihood of labels in units of their spread, less "
        "the log-prior (or the KL) a datum.",
    )
    return Section("training", "Training", join(drawn, facts))


def command(run: Run) -> str:
    """The command line that fits a Run of labels again; a user's own network has none."""
    import shlex

    words = ["jensen", "fit", data_argument(run) or "DATA", "--model", run.recipe, "--out", "RUN"]
    words += validation(run)
    if run.about.get("target") is not None:
        words += ["--target", str(run.about["target"])]
    words += ["--seed", str(run.about.get("seed", 0))]
    recipe = RECIPES[run.recipe]
    base = {"method": run.config.method}
    default = recipe.resolve(recipe.config(base), run.schema, run.about.get("n", 1))
    plain = recipe.config({})
    for key in type(run.config).model_fields:
        value = getattr(run.config, key)
        if key in ("classes", "targets", "options") or (key != "method" and value == getattr(default, key)):
            continue
        if key == "method" and value == plain.method:
            continue
        words += ["--epochs", str(value)] if key == "epochs" else ["--set", f"{key}={written(value)}"]
    for key, value in run.config.options.items():
        if default.options.get(key) != value:
            words += ["--set", f"{key}={written(value)}"]
    return shlex.join(words)


def _repeat(material: Labelled) -> Section:
    run = material.run
    versions = run.about.get("versions", {})
    made = ", ".join(f"{name} {version}" for name, version in versions.items()) or "versions unknown"
    notes = [f"The same seed gives the same numbers on the same machine with the same versions: {made}."]
    if data_argument(run) is None:
        notes.append("The data were handed over in memory: DATA stands for a file that holds them.")
    if run.config.network == "own":
        notes.append("The network is the user's own, which no command can build; fit it in Python.")
    options = [(tag("code", key), written(value) or "none") for key, value in run.config.model_dump().items()]
    return Section(
        "repeat",
        "How to repeat this",
        join(
            tag("pre", tag("code", command(run))),
            *(tag("p", note) for note in notes),
            tag("details", tag("summary", "All options of this fit"), table(("option", "value"), [*options])),
            tag("p", f"Source: {RECIPES[run.recipe].source}", class_="meta"),
        ),
    )
