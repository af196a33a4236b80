"""Charts of data that are no images: a table's columns, or cells without a place in a picture."""

from collections.abc import Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from jensen.report.charts import (
    BLUE,
    CLASSES,
    INK,
    MUTED,
    ORANGE,
    WIDTH,
    chart,
    few_ticks,
    panels,
    plain,
    whole_ticks,
)
from jensen.report.markup import Markup
from jensen.report.pictures import Floats
from jensen.report.wording import shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 12
"""Columns up to which each has a chart of its own."""

_POINTS = 400
_NAMED = 40


def scatters(names: Sequence[str], data: Floats, others: Floats, label: str) -> Markup:
    """For each column its value against what comes back, with the diagonal on which both are equal."""
    per_row = min(4, len(names))

    def paint(figure: "Figure") -> None:
        for i, axes in enumerate(panels(figure, len(names), per_row)):
            x, y = data[:_POINTS, i], others[:_POINTS, i]
            finite = np.concatenate([x, y])[np.isfinite(np.concatenate([x, y]))]
            low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
            margin = 0.06 * (high - low) or max(1.0, abs(low)) * 0.1
            axes.axline((low, low), slope=1, color=MUTED, linewidth=0.9)
            axes.scatter(x, y, s=20, color=BLUE, alpha=0.55, linewidths=0)
            axes.set(xlim=(low - margin, high + margin), ylim=(low - margin, high + margin))
            axes.set_title(plain(shorten(names[i], 26)), fontsize=12)
            few_ticks(axes)

    rows = ceil(len(names) / per_row)
    return chart(paint, label, width=min(WIDTH, 240 * per_row), height=215 * rows)


def histograms(names: Sequence[str], data: Floats, drawn: Floats, label: str) -> Markup:
    """For each column how data and draws of the model are spread."""
    per_row = min(4, len(names))

    def paint(figure: "Figure") -> None:
        for i, axes in enumerate(panels(figure, len(names), per_row)):
            edges = _edges(data[:, i], drawn[:, i])
            for values, colour in ((data[:, i], BLUE), (drawn[:, i], ORANGE)):
                inside = np.clip(values[np.isfinite(values)], edges[0], edges[-1])
                heights = np.histogram(inside, edges)[0] / max(1, len(values))
                axes.stairs(heights, edges, color=colour, linewidth=1.6)
                axes.stairs(heights, edges, color=colour, alpha=0.15, fill=True)
            axes.set_title(plain(shorten(names[i], 26)), fontsize=12)
            axes.set_ylim(bottom=0)
            few_ticks(axes)

    rows = ceil(len(names) / per_row)
    return chart(paint, label, width=min(WIDTH, 240 * per_row), height=180 * rows)


def _edges(data: Floats, drawn: Floats) -> Floats:
    """Bins over the bulk of both; what lies outside is counted at the ends. Whole numbers get bins of their own."""
    both = np.concatenate([data, drawn])
    both = both[np.isfinite(both)]
    low, high = np.quantile(both, [0.002, 0.998]) if len(both) else (0.0, 1.0)
    if len(both) and (both == np.floor(both)).all() and high - low <= 40:
        return np.arange(np.floor(low) - 0.5, np.ceil(high) + 1)
    # A constant column still needs a bin, of a width that its numbers can resolve.
    if high - low <= 1e-9 * max(1.0, abs(low)):
        low, high = low - 0.5 * max(1.0, abs(low)), high + 0.5 * max(1.0, abs(high))
    return np.linspace(low, high, 31)


def column_means(data: Floats, drawn: Floats, label: str) -> Markup:
    """Mean and standard deviation of each column, in the data and in draws of the model."""

    def paint(figure: "Figure") -> None:
        for axes, what, title in zip(
            panels(figure, 2, 2), (np.nanmean, np.nanstd), ("mean", "standard deviation"), strict=True
        ):
            x, y = what(data, axis=0), what(drawn, axis=0)
            axes.axline((float(x[0]), float(x[0])), slope=1, color=MUTED, linewidth=0.9)
            axes.scatter(x, y, s=14, color=BLUE, alpha=0.6, linewidths=0)
            axes.set(title=title, xlabel="in the data", ylabel="in draws of the model")
            few_ticks(axes, 5)

    return chart(paint, label, width=720, height=320)


def heat_maps(
    titles: Sequence[str],
    blocks: Sequence[Floats],
    limits: tuple[float, float],
    names: Sequence[str] | None,
    label: str,
) -> Markup:
    """Rows of data as colours, one block above the other.

    Args:
        titles: Of the blocks.
        blocks: (rows, cells) each.
        limits: Values of the two ends of the colours.
        names: Of the columns, where they have any.
        label: What it shows.

    Returns:
        The chart, with a scale of the colours.
    """

    def paint(figure: "Figure") -> None:
        axes = panels(figure, len(blocks), 1, sharex=True)
        image: Any = None
        for one, title, block in zip(axes, titles, blocks, strict=True):
            image = one.imshow(
                block,
                aspect="auto",
                interpolation="none",
                cmap="Blues" if limits[0] == 0 else "RdBu_r",
                vmin=limits[0],
                vmax=limits[1],
            )
            one.set_title(title, fontsize=12)
            one.set_yticks([])
            one.grid(visible=False)
            one.spines[:].set_visible(False)
        _name_cells(axes[-1], names)
        bar = figure.colorbar(image, ax=axes, shrink=0.6, aspect=24, pad=0.01)
        bar.outline.set_visible(False)

    rows = sum(len(block) for block in blocks)
    below = 70 if names is None or len(names) > _NAMED else 170
    return chart(paint, label, height=below + 34 * len(blocks) + 7 * rows)


def _name_cells(axes: Any, names: Sequence[str] | None) -> None:
    """Says what the columns of colours are: by name where there are names, and room for them."""
    if names is None or len(names) > _NAMED:
        axes.set_xlabel("cell" if names is None else "column")
        whole_ticks(axes)
        return
    axes.set_xticks(range(len(names)), [plain(shorten(name)) for name in names], rotation=90)


def lines(
    titles: Sequence[str],
    x: Floats,
    y: Floats,
    colours: Sequence[str],
    xlabel: str,
    ticks: Sequence[float | int],
    ends: Floats | None = None,
) -> Markup:
    """Small charts of how columns move along a path.

    Args:
        titles: Of the charts.
        x: Positions on the path, (steps,).
        y: Values of the columns, (charts, steps, columns).
        colours: Of the columns.
        xlabel: What the positions are.
        ticks: Which of them are written below.
        ends: True data at both ends of the path, (charts, 2, columns), as dots.

    Returns:
        The chart.
    """
    per_row = min(4, len(titles))

    def paint(figure: "Figure") -> None:
        for i, axes in enumerate(panels(figure, len(titles), per_row, sharey=True, sharex=True)):
            for column, colour in enumerate(colours):
                axes.plot(x, y[i, :, column], color=colour, linewidth=1.7)
                if ends is not None:
                    axes.scatter(x[[0, -1]], ends[i, :, column], s=22, color=colour, zorder=3, clip_on=False)
            axes.set_title(plain(titles[i]), fontsize=12)
            few_ticks(axes, 5)
            axes.set_xticks(list(ticks))
            # Numbers below each chart that has none beneath it.
            axes.tick_params(labelbottom=i + per_row >= len(titles))
        figure.supxlabel(xlabel, fontsize=12, color=INK)

    rows = ceil(len(titles) / per_row)
    return chart(
        paint,
        f"{xlabel}: {len(titles)} charts",
        width=min(WIDTH, max(420, 240 * per_row)),
        height=30 + 190 * rows,
    )


def most_moving(y: Floats, names: Sequence[str], most: int = 8) -> tuple[list[int], list[tuple[str, str]]]:
    """The columns that move most, in the order of the table, and the legend that names them.

    Args:
        y: Values of the columns along paths, (charts, steps, columns).
        names: Of all columns.
        most: How many to choose.

    Returns:
        Places of the columns; colours and names.
    """
    spread = np.nan_to_num(np.ptp(y, axis=1).max(0))
    chosen = sorted(int(i) for i in np.argsort(-spread, kind="stable")[: min(most, len(CLASSES))])
    return chosen, [(CLASSES[k], shorten(names[i], 30)) for k, i in enumerate(chosen)]


def standardised(values: Floats, data: Floats) -> Floats:
    """Values in standard deviations of the data from their mean, column by column; constant columns keep their unit."""
    spread = data.std(0)
    return (values - data.mean(0)) / np.where(spread > 1e-12 * np.abs(data.mean(0)), spread, 1.0)
