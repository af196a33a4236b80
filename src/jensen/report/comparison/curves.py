"""How the bounds of all fits moved during training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from jensen.report.charts import chart, panels, with_legend
from jensen.report.comparison.material import Material
from jensen.report.markup import figure, join, tag
from jensen.report.pictures import Floats
from jensen.report.sections.section import Section
from jensen.runs import Row

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def curves(material: Material) -> Section | None:
    """The section: the validation bound by epoch and by time; the training bound where nothing was validated."""
    if not any(material.histories.values()):
        return None
    validated = all(any(r["valid"] for r in history) for history in material.histories.values())
    groups = material.groups()
    which = "validation" if validated else "training"
    figures = []
    for group in groups:
        heading = None
        if len(groups) > 1:
            heading = tag(
                "h3", "Densities of real numbers" if group[0].density else "Probabilities of whole numbers"
            )
        entries = [(material.colours[row.label], row.label) for row in group]
        figures.append(
            join(
                heading,
                figure(
                    with_legend(
                        entries, chart(_painter(material, group, validated), f"{which} ELBO", height=320)
                    ),
                    f"The ELBO on {which} data, one line a fit; left by epoch, right by the time that the steps took. "
                    "Higher is better. The steepest part of the start may lie below the picture.",
                ),
            )
        )
    return Section("curves", "How training went", join(*figures))


def _painter(material: Material, group: list[Row], validated: bool) -> Any:
    def paint(drawn: "Figure") -> None:
        by_epoch, by_time = panels(drawn, 2, 2, sharey=True)
        late: list[Floats] = []
        for row in group:
            for (label, _), history in material.histories.items():
                if label != row.label:
                    continue
                epochs, seconds, values = _series(history, validated)
                for axes, x in ((by_epoch, epochs), (by_time, seconds)):
                    axes.plot(x, values, color=material.colours[label], linewidth=1.4, alpha=0.85)
                late.append(values[len(values) // 10 :])
        both = np.concatenate([values[np.isfinite(values)] for values in late]) if late else np.zeros(0)
        if len(both):
            spread = max(float(np.ptp(both)), 1e-6)
            by_epoch.set_ylim(float(both.min()) - 0.05 * spread, float(both.max()) + 0.08 * spread)
        by_epoch.set(xlabel="epoch", ylabel="ELBO, nats per datum")
        by_time.set(xlabel="seconds of training")

    return paint


def _series(history: list[dict[str, Any]], validated: bool) -> tuple[Floats, Floats, Floats]:
    """Epochs, seconds until then, and the bound."""
    seconds = np.cumsum([record["seconds"] for record in history])
    kept = [i for i, record in enumerate(history) if not validated or record["valid"] is not None]
    values = [
        history[i]["valid"]["elbo"] if validated else history[i]["train"].get("elbo", np.nan) for i in kept
    ]
    return np.array([history[i]["epoch"] for i in kept], float), seconds[kept], np.array(values, float)
