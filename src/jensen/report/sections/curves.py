"""How the bound and its two terms moved during training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jensen.report.charts import BLUE, GREEN, INK, MUTED, ORANGE, chart, panels, whole_ticks, with_legend
from jensen.report.markup import Markup, figure, join, tag
from jensen.report.material import Material
from jensen.report.pictures import Floats
from jensen.report.sections.section import Section
from jensen.report.sections.training import best_epoch, second_stage
from jensen.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(material: Material) -> Section:
    """The section."""
    records = [record for record in material.run.history if "elbo" in record["train"]]
    if not records:
        body = tag("p", "No epoch was recorded, so there are no curves.")
    else:
        body = join(_bound(material.run, records), _terms(records))
    return Section("training-curves", "How training went", body)


def _bound(run: Run, records: list[dict[str, Any]]) -> Markup:
    """The bound on training and validation data by epoch."""
    epochs, train = _series(records, "elbo")
    checked = [record for record in records if record["valid"] is not None]
    best = best_epoch(run)
    entries = [(BLUE, "training data, mean over the epoch")]
    entries += [(ORANGE, "validation data, with one standard error")] if checked else []
    objective = _series(records, "bound") if any("bound" in record["train"] for record in records) else None
    name = "importance-weighted" if run.config.bound in ("elbo", "iwae") else run.config.bound
    entries += [(GREEN, f"{name} bound that was maximised, training data")] if objective else []
    shown = [train, *([objective[1]] if objective else [])]
    shown += [np.array([record["valid"]["elbo"] for record in checked], float)] if checked else []
    low, cut = _floor(shown)

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        _line(axes, epochs, train, BLUE)
        if objective is not None:
            _line(axes, *objective, GREEN)
        if checked:
            at = np.array([record["epoch"] for record in checked], float)
            middle = shown[-1]
            error = np.nan_to_num(
                np.array([record["valid"]["standard_error"] or 0.0 for record in checked], float)
            )
            axes.fill_between(at, middle - error, middle + error, color=ORANGE, alpha=0.2, linewidth=0)
            _line(axes, at, middle, ORANGE)
        if best is not None:
            axes.axvline(best["epoch"], color=MUTED, linewidth=1, linestyle=(0, (4, 3)))
            late = best["epoch"] > (epochs[0] + epochs[-1]) / 2
            axes.annotate(
                f"best epoch: {best['epoch']}",
                (best["epoch"], 0.04),
                (-8 if late else 8, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                ha="right" if late else "left",
                color=INK,
                fontsize=11,
            )
        axes.set(xlabel="epoch", ylabel="ELBO, nats per datum")
        if low is not None:
            axes.set_ylim(bottom=low)
        whole_ticks(axes)

    caption = (
        "The evidence lower bound (ELBO) by epoch; higher is better. Training values are means over an epoch in "
        "which the weights still moved"
    )
    if checked:
        caption += ", validation values are those of the averaged weights at its end, so the two may cross"
    caption += ". The first epochs lie below the picture." if cut else "."
    if (late := second_stage(run)) is not None:
        caption += (
            f" From epoch {late} on the importance-weighted bound of {run.config.tighten_samples} draws is maximised, "
            "which lies nearer to log p(x): the model gets better by it, and the ELBO, whose posterior is less able to "
            "follow, usually falls."
        )
    return figure(with_legend(entries, chart(paint, "ELBO by epoch", height=330)), caption)


def _terms(records: list[dict[str, Any]]) -> Markup:
    """The log-likelihood and the KL by epoch."""
    shown = [("log_likelihood", "log-likelihood", BLUE), ("kl", "KL", GREEN)]

    def paint(drawn: "Figure") -> None:
        for axes, (key, name, colour) in zip(panels(drawn, 2, 2), shown, strict=True):
            epochs, values = _series(records, key)
            _line(axes, epochs, values, colour)
            low, _ = _floor([values])
            if low is not None or values.min() >= 0:
                axes.set_ylim(bottom=max(axes.get_ylim()[0], 0) if low is None else low)
            high, _ = _floor([-values])
            if high is not None:
                axes.set_ylim(top=-high)
            axes.set(title=name, xlabel="epoch", ylabel="nats per datum")
            whole_ticks(axes)

    return figure(
        chart(paint, "log-likelihood and KL by epoch", height=270),
        "The two terms of the ELBO on training data: how well data are described given their latents "
        "(log-likelihood, up is better), and what the latents cost (KL of the posterior from the prior). "
        "ELBO = log-likelihood − KL.",
    )


def _series(records: list[dict[str, Any]], key: str) -> tuple[Floats, Floats]:
    found = [(record["epoch"], record["train"][key]) for record in records if key in record["train"]]
    pairs = np.array(found, dtype=float)
    return pairs[:, 0], pairs[:, 1]


def _line(axes: Any, x: Floats, y: Floats, colour: str) -> None:
    axes.plot(x, y, color=colour, marker="o" if len(x) < 12 else None, markersize=4)


def _floor(series: list[Floats]) -> tuple[float | None, bool]:
    """Where the picture may begin, so that a steep start doesn't flatten what comes after it.

    Returns:
        The lower limit, None to leave it open, and whether something lies below it.
    """
    finite = [values[np.isfinite(values)] for values in series]
    if not all(len(values) >= 10 for values in finite):
        return None, False
    later = np.concatenate([values[max(1, len(values) // 10) :] for values in finite])
    everything = np.concatenate(finite)
    low = float(later.min() - 0.08 * max(float(np.ptp(later)), 1e-9))
    if everything.min() >= low - 0.5 * float(np.ptp(later)):
        return None, False
    return low, True
