"""The report of a model that was solved: its numbers, the bound's history, and a picture of what it found."""

from datetime import UTC, datetime
from importlib.resources import files
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from jensen.data import Dataset, check_matches, take
from jensen.data.subsets import permutation
from jensen.errors import RunError
from jensen.evaluation import evaluate_exact
from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.mixture import Mixture
from jensen.recipes import RECIPES
from jensen.report.charts import BLUE, CLASSES, MUTED, ORANGE, chart, legend, with_legend
from jensen.report.markup import Markup, figure, join, table, tag
from jensen.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 500
"""Data in a picture, at most."""

SEQUENCES = 12
"""Sequences whose paths are shown, at most."""


def exact_page(run: Run, dataset: Dataset | None, seed: int) -> str:
    """The page of a Run whose model was solved.

    Args:
        run: A fitted Run.
        dataset: Data for the pictures; None takes the Run's examples.
        seed: Of the choice of data.

    Returns:
        The page, which needs nothing but itself.

    Raises:
        DataError: If the data don't match the Run.
        RunError: If there are no data to show.
    """
    given = run.examples if dataset is None else dataset
    if given is None:
        raise RunError(
            f"{run.folder or 'this Run'} keeps no examples, so there is nothing to show; give data: "
            "jensen report RUN --data DATA, or build(run, dataset)"
        )
    if run.recipe != "hmm":
        given = check_matches(run.schema, given)
    x = run.prepare(take(given, permutation(len(given), seed)[:SHOWN]), seed)
    model = run.model
    if isinstance(model, LinearGaussian):
        own = [
            ("variance", "Explained variance", _variance(model)),
            ("latents", "Latents", _ellipses(model, x)),
        ]
    elif isinstance(model, Mixture):
        own = [("responsibilities", "Responsibilities", _responsibilities(model, x))]
    else:
        own = [("paths", "State paths", _paths(model, x))]
    sections = [
        ("bound", "The bound's history", _history(run)),
        *own,
        ("numbers", "Numbers", _numbers(run, given, x)),
    ]
    return _page(run, sections)


def _page(run: Run, sections: list[tuple[str, str, Markup]]) -> str:
    name = f"{run.recipe} on {run.about.get('data', 'unknown data')}"
    style = Markup(files("jensen.report").joinpath("page.css").read_text(encoding="utf8"))
    recipe = RECIPES[run.recipe]
    last = run.history[-1] if run.history else None
    ended = "" if last is None else f" It {last['status']} after {last['epoch']:,} iteration(s)."
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", name),
        tag("style", style),
    )
    written = datetime.now(UTC)
    header = tag(
        "header",
        tag("p", "jensen report", class_="eyebrow"),
        tag("h1", name),
        tag(
            "p",
            "written ",
            tag("time", f"{written:%Y-%m-%d %H:%M} UTC", datetime=written.isoformat()),
            class_="meta",
        ),
        tag("p", f"A {recipe.title}, fitted to {run.about.get('n', 0):,} data.{ended}", class_="lead"),
    )
    links = [tag("li", tag("a", title, href=f"#{identifier}")) for identifier, title, _ in sections]
    body = tag(
        "main",
        header,
        tag("nav", tag("ul", *links), aria_label="Contents"),
        *(
            tag("section", tag("h2", title), content, id=identifier)
            for identifier, title, content in sections
        ),
        tag("p", f"Source: {recipe.source}", class_="meta"),
    )
    return "<!DOCTYPE html>\n" + join(tag("html", head, tag("body", body), lang="en")) + "\n"


def _history(run: Run) -> Markup:
    values = [record["train"]["elbo"] for record in run.history]
    if len(values) < 2:
        return tag("p", "The closed form needs one iteration: there is no history to show.")

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        axes.plot(range(1, len(values) + 1), values, color=BLUE)
        axes.set(xlabel="iteration", ylabel="nats a datum")

    return figure(
        chart(paint, "the bound after each iteration"),
        "The bound on the log evidence (without priors: the log-likelihood) with all constants, in nats a datum. With "
        "EM and coordinate ascent it never falls.",
    )


def _variance(model: LinearGaussian) -> Markup:
    lengths = model.factor.square().sum(0).numpy()
    noise = float(model.noise_variance.expand(len(model.mean)).sum())
    share = np.append(lengths, noise) / (lengths.sum() + noise)
    names = [str(i) for i in range(len(lengths))] + ["noise"]

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        axes.bar(names, 100 * share, color=[BLUE] * len(lengths) + [MUTED])
        axes.set(xlabel="latent", ylabel="% of the variance")

    return figure(
        chart(paint, "share of the model's variance of each latent and of the noise"),
        f"Shares of the model's total variance: {100 * share[:-1].sum():.1f} % lies along the latents.",
    )


def _ellipses(model: LinearGaussian, x: torch.Tensor) -> Markup:
    q: Any = model.encode(x)
    means, covariances = q.mean.numpy(), q.covariance_matrix.numpy()
    alone = model.latent_dim == 1
    if alone:
        means = np.concatenate([means, model.log_prob(x).numpy()[:, None]], 1)
    labels = ("latent 0", "log p(x), nats" if alone else "latent 1")
    drawn_for = range(0, len(means), max(1, len(means) // 40))
    angle = np.linspace(0, 2 * np.pi, 60)
    circle = np.stack([np.cos(angle), np.sin(angle)])

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        axes.scatter(means[:, 0], means[:, 1], s=14, color=BLUE, alpha=0.7, linewidths=0)
        if alone:
            some = means[drawn_for.start :: drawn_for.step]
            spread = np.sqrt(covariances[drawn_for.start :: drawn_for.step, 0, 0])
            axes.errorbar(*some.T, xerr=spread, fmt="none", ecolor=ORANGE, elinewidth=0.8)
        for i in () if alone else drawn_for:
            ring = np.linalg.cholesky(covariances[i, :2, :2]) @ circle
            axes.plot(means[i, 0] + ring[0], means[i, 1] + ring[1], color=ORANGE, linewidth=0.8)
        axes.set(xlabel=labels[0], ylabel=labels[1])

    shape = "bars" if alone else "ellipses"
    return figure(
        chart(paint, f"posterior means with {shape}", width=760, height=520),
        f"Posterior means of {len(means)} data; the {shape} are one standard deviation of the exact posterior of some "
        "of them. A datum with missing cells has a wider one.",
    )


def _responsibilities(model: Mixture, x: torch.Tensor) -> Markup:
    shares = model.responsibilities(x).numpy()
    order = np.lexsort((-shares.max(1), shares.argmax(1)))
    weights = model.weights.numpy()
    colours = [CLASSES[k % len(CLASSES)] for k in range(model.count)]
    steps = np.arange(len(order) + 1)

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        below = np.zeros(len(order))
        for k in range(model.count):
            above = below + shares[order, k]
            axes.stairs(above, steps, baseline=below, fill=True, color=colours[k])
            below = above
        axes.set(xlabel="data, sorted by component", ylabel="responsibility", ylim=(0, 1))

    drawn = chart(paint, "responsibilities of the components for each datum", height=260)
    names = [(colours[k], f"{k}: weight {weights[k]:.3f}") for k in range(model.count)]
    means = model.predictive.mean.numpy()
    cells = min(means.shape[1], 8)
    rows: list[tuple[object, ...]] = [
        (k, f"{weights[k]:.4f}", ", ".join(f"{value:.4g}" for value in means[k, :cells]))
        for k in range(model.count)
    ]
    head = ("component", "weight", "mean" if cells == means.shape[1] else f"mean, first {cells} cells")
    caption = f"Each of {len(order)} data is a column: the shares are the probabilities of its components."
    return join(figure(with_legend(names, drawn), caption), table(head, rows))


def _paths(model: Any, x: torch.Tensor) -> Markup:
    paths: NDArray[Any] = model.paths(x[:SEQUENCES]).numpy()
    colours = [CLASSES[k % len(CLASSES)] for k in range(model.count)]

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        for row, path in enumerate(paths):
            for k in range(model.count):
                at = np.flatnonzero(path == k)
                axes.broken_barh([(int(t), 1) for t in at], (row + 0.1, 0.8), color=colours[k])
        axes.set(xlabel="time", ylabel="sequence", ylim=(len(paths), 0))

    drawn = chart(paint, "the most probable state of each sequence at each time", height=80 + 24 * len(paths))
    names = legend([(colours[k], f"state {k}") for k in range(model.count)])
    rows: list[tuple[object, ...]] = [
        (k, f"{model.start[k]:.3f}", *(f"{value:.3f}" for value in model.transition[k].tolist()))
        for k in range(model.count)
    ]
    head = ("state", "at the start", *(f"to {k}" for k in range(model.count)))
    return join(figure(join(names, drawn), "The most probable path of states (Viterbi)."), table(head, rows))


def _meaning(run: Run) -> str:
    """What log p(x) is here."""
    solver = getattr(run.config, "solver", "")
    if isinstance(run.model, Mixture) and solver != "em":
        return (
            "log p(x) is predictive: the parameters are integrated out, under what was found of them. Nothing is "
            "sampled."
        )
    if run.recipe == "hmm" and solver == "vb":
        return "log p(x) is that of the transitions' posterior means; nothing is sampled."
    return "log p(x) is exact here: nothing is sampled, and there is no gap."


def _numbers(run: Run, dataset: Dataset, x: torch.Tensor) -> Markup:
    known = run.evaluations[-1] if run.evaluations else {"data": dataset.name, **evaluate_exact(run.model, x)}
    names = {
        "data": "data",
        "n": "number of data",
        "nll": "negative log-likelihood, nats a datum",
        "nll_test_standard_error": "its standard error over data",
        "nats_per_dim": "nats an observed cell",
        "bits_per_dim": "bits an observed cell",
    }
    rows: list[tuple[object, ...]] = [
        (title, f"{known[key]:.4f}" if isinstance(known[key], float) else str(known[key]))
        for key, title in names.items()
        if key in known
    ]
    options = [(tag("code", key), str(value)) for key, value in run.config.model_dump().items()]
    exact = tag("p", _meaning(run), class_="meta")
    said = run.history[-1].get("note", "") if run.history else ""
    warning = tag("p", f"{said[0].upper()}{said[1:]}.", class_="note") if said else Markup("")
    head = ("option", "value")
    return join(
        warning, table(("number", "value"), rows), exact, tag("h3", "Options"), table(head, [*options])
    )
