"""Charts as SVG within the page, whose inks are the page's own, so that they read on light and on dark."""

import re
import warnings
from collections.abc import Callable, Sequence
from hashlib import sha256
from io import StringIO
from math import ceil
from typing import TYPE_CHECKING, Any, cast

from jensen.report.markup import Markup, html, join, tag

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, MUTED, FAINT, BLUE, ORANGE, GREEN = "#0d1015", "#6d7077", "#dcdde0", "#2468b1", "#c8641a", "#1c8566"
_INKS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    FAINT: "var(--line)",
    BLUE: "var(--blue)",
    ORANGE: "var(--orange)",
    GREEN: "var(--green)",
}

CLASSES = (
    "#3b7dd8",
    "#e8833a",
    "#2fa37c",
    "#d4526e",
    "#8b6fd0",
    "#b08d3e",
    "#48b0cc",
    "#c764b4",
    "#86a13f",
    "#9a6a52",
)
"""Colours of classes, of a lightness that stands out from white and from black."""

WIDTH = 900
"""Width of a chart across the page, in pixels."""

_STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "jensen",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "font.size": 12,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.linewidth": 0.8,
    "axes.labelpad": 7.0,
    "figure.constrained_layout.w_pad": 0.09,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": FAINT,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 11,
    "ytick.labelsize": 11,
    "lines.linewidth": 1.8,
}


_DIGITS = re.compile(r"\d+\.\d{3,}")


def _rounded(found: re.Match[str]) -> str:
    return f"{float(found[0]):.2f}"


def plain(text: str) -> str:
    """Text for a chart in which a dollar sign starts no formula."""
    return text.replace("$", r"\$")


def chart(paint: Callable[["Figure"], None], label: str, *, width: int = WIDTH, height: int = 300) -> Markup:
    """Draws a chart.

    Args:
        paint: Draws on the empty figure.
        label: What it shows, for those who can't see it.
        width: In pixels.
        height: In pixels.

    Returns:
        An ``svg`` element that scales with the page.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(cast(Any, _STYLE)), warnings.catch_warnings():
        # The reader's fonts show what matplotlib's own, used to measure only, may lack.
        warnings.filterwarnings("ignore", message=r"Glyph .* missing from", category=UserWarning)
        drawn = Figure(figsize=(width / 72, height / 72), dpi=72, layout="constrained")
        canvas = FigureCanvasSVG(drawn)
        paint(drawn)
        buffer = StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        # savefig would draw everything twice.
        canvas.print_svg(buffer, metadata=nothing)
    return _inline(buffer.getvalue(), label, width)


def _inline(text: str, label: str, width: int) -> Markup:
    """What matplotlib wrote as an element of an HTML page among others of its kind."""
    body = text[text.index(">", text.index("<svg")) + 1 :]
    box = re.search(r'viewBox="([^"]+)"', text)
    body = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", body, flags=re.DOTALL)
    # The page's fonts, in the sizes that were measured.
    body = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", body)
    body = re.sub(r"font-family: [^;\"]+;? ?", "", body)
    # Fewer digits within tags; what stands between them is for people.
    body = re.sub(r"<[^>]+>", lambda element: _DIGITS.sub(_rounded, element[0]), body)
    for colour, name in _INKS.items():
        body = body.replace(colour, name)
    # Several charts in one page must not share ids.
    own = "c" + sha256(body.encode()).hexdigest()[:8]
    body = re.sub(r'\bid="', f'id="{own}-', body)
    body = re.sub(r'href="#', f'href="#{own}-', body)
    body = body.replace("url(#", f"url(#{own}-").replace("xlink:href", "href")
    head = (
        f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{html(label)}" '
        f'class="chart" style="max-width: {width}px">'
    )
    return Markup(head + body[: body.rindex("</svg>")] + "</svg>")


def legend(entries: Sequence[tuple[str, str]]) -> Markup:
    """Colours and what they stand for, as text of the page.

    Args:
        entries: Colours and names.

    Returns:
        A list.
    """
    items = [
        tag("li", tag("span", class_="key", style=f"background: {_INKS.get(colour, colour)}"), name)
        for colour, name in entries
    ]
    return tag("ul", *items, class_="legend")


def panels(figure: "Figure", n: int, per_row: int, **options: Any) -> list[Any]:
    """Axes for n small charts, row by row; places that are left over stay empty."""
    rows = ceil(n / per_row)
    axes = figure.subplots(rows, min(n, per_row), squeeze=False, **options).ravel()
    for left in axes[n:]:
        left.set_axis_off()
    return list(axes[:n])


def whole_ticks(axes: Any) -> None:
    """Whole numbers on the horizontal axis."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=10, min_n_ticks=1, steps=[1, 2, 5, 10]))


def few_ticks(axes: Any, n: int = 4) -> None:
    """Few numbers on both axes of a small chart, rounded, so that they don't touch."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(nbins=n))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=n))


def with_legend(entries: Sequence[tuple[str, str]], content: Markup) -> Markup:
    """A chart below its legend."""
    return join(legend(entries), content)
