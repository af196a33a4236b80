"""How much each latent says."""

from typing import TYPE_CHECKING

import numpy as np

from jensen.report.charts import BLUE, MUTED, WIDTH, chart, with_legend
from jensen.report.markup import figure, join, tag
from jensen.report.material import Material
from jensen.report.sections.section import Section
from jensen.report.wording import count, number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NAMED = 40


def divergences(material: Material) -> Section:
    """The section: KL by latent; where it has no closed form, how much posterior means vary."""
    heights = material.shown_kl[material.order]
    active = material.active[material.order]
    closed = material.kl is not None
    unit = "KL, nats" if closed else "variance of the mean"

    def paint(drawn: "Figure") -> None:
        axes = drawn.subplots()
        places = np.arange(len(heights))
        colours = [BLUE if is_active else MUTED for is_active in active]
        axes.bar(places, heights, width=0.78, color=colours)
        axes.set_xlim(-0.6, len(heights) - 0.4)
        if len(heights) <= _NAMED:
            axes.set_xticks(
                places, [str(d) for d in material.order], fontsize=11 if len(heights) <= 24 else 9
            )
            axes.set_xlabel("latent")
        else:
            axes.set_xlabel("latents, those that say most first")
        axes.set_ylabel(unit)

    entries = [(BLUE, f"active: {int(active.sum())}"), (MUTED, f"not active: {int((~active).sum())}")]
    return Section(
        "kl-per-dimension",
        "How much each latent says",
        join(
            tag("p", _words(material)),
            figure(
                with_legend(
                    entries,
                    chart(
                        paint, f"{unit} of each latent", width=min(WIDTH, 200 + 40 * len(heights)), height=260
                    ),
                ),
                "The latents in falling order. Active are those whose posterior mean has a variance above 0.01 over "
                f"the {count(len(material.data), 'datum', 'data')} of the pictures.",
            ),
        ),
    )


def _words(material: Material) -> str:
    if material.kl is None:
        return (
            "For this pair of prior and posterior the KL of a single latent has no closed form. Instead the chart "
            "shows how much each latent's posterior mean varies over the data, in units of the prior's variance."
        )
    total = float(material.kl.sum())
    text = (
        f"The KL of a latent's posterior from its prior is what the latent says about a datum; over all latents it "
        f"is {number(total, 2)} nats, or {number(total / np.log(2), 1)} bits, on average over "
        f"{material.numbers.get('data')}."
    )
    if len(material.kl) > 1 and total > 0:
        half = int(np.searchsorted(np.cumsum(material.kl[material.order]), 0.9 * total)) + 1
        text += f" {count(half, 'latent')} of {len(material.kl)} {'bears' if half == 1 else 'bear'} nine tenths of it."
    return text
