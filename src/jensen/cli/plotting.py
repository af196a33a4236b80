"""Curves as text."""

from collections.abc import Sequence

from rich.text import Text

_BARS = "▁▂▃▄▅▆▇█"
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""The bit of each dot of a braille character, by its row and column."""

Curve = Sequence[tuple[float, float]]
"""Points (x, y) in the order of x."""


def sparkline(values: Sequence[float], width: int = 24) -> str:
    """Values as a row of bars, the lowest at the bottom; of many values the last of each place.

    Args:
        values: Finite numbers.
        width: Characters, at most.

    Returns:
        As many characters as values, or ``width``.

    Example:
        >>> sparkline([1.0, 2.0, 3.0])
        '▁▅█'
    """
    if len(values) > width:
        values = [values[(i + 1) * len(values) // width - 1] for i in range(width)]
    if not values:
        return ""
    low, high = _range([values])
    return "".join(_BARS[min(7, int(8 * (value - low) / (high - low)))] for value in values)


def plot(
    curves: Sequence[tuple[str, Curve]], width: int, height: int, *, braille: bool = True
) -> list[tuple[str, Text]]:
    """Curves as lines of text; where two cross, the later one is seen.

    The start of curves that rise steeply first lies below the picture, so that what comes later can be seen.

    Args:
        curves: Style and points of each.
        width: Characters.
        height: Lines.
        braille: Whether to draw eight dots a character; else one.

    Returns:
        For each line, from above, the value at its middle if it is the first or the last, and the line.
    """
    across, down = (2, 4) if braille else (1, 1)
    columns, rows = width * across, height * down
    points = [x for _, curve in curves for x, _ in curve]
    if not points:
        return [("", Text(" " * width)) for _ in range(height)]
    first, last = min(points), max(points)
    # A tenth of the epochs is where a bound rises most.
    settled = first + 0.1 * (last - first)
    low, high = _range([[y for x, y in curve if x >= settled] for _, curve in curves])
    low -= 0.05 * (high - low)
    cells: dict[tuple[int, int], tuple[int, str]] = {}
    for style, curve in curves:
        drawn: dict[tuple[int, int], int] = {}
        for column in range(columns):
            x = first + (last - first) * column / max(columns - 1, 1)
            y = _at(curve, x)
            if y is None or y < low:
                continue
            row = round((high - min(y, high)) / (high - low) * (rows - 1))
            key = (row // down, column // across)
            drawn[key] = drawn.get(key, 0) | (_DOTS[row % 4][column % 2] if braille else 1)
        cells |= {key: (bits, style) for key, bits in drawn.items()}
    lines: list[tuple[str, Text]] = []
    for row in range(height):
        line = Text()
        for column in range(width):
            bits, style = cells.get((row, column), (0, ""))
            mark = (chr(0x2800 + bits) if braille else "*") if bits else " "
            line.append(mark, style)
        value = high if row == 0 else low
        lines.append((f"{value:.1f}" if row in (0, height - 1) else "", line))
    return lines


def _at(curve: Curve, x: float) -> float | None:
    """The value of a curve between its points; None outside of them."""
    if not curve or not curve[0][0] <= x <= curve[-1][0]:
        return None
    before = curve[0]
    for point in curve:
        if point[0] >= x:
            width = point[0] - before[0]
            return point[1] if not width else before[1] + (point[1] - before[1]) * (x - before[0]) / width
        before = point
    return curve[-1][1]


def _range(series: Sequence[Sequence[float]]) -> tuple[float, float]:
    every = [value for values in series for value in values]
    low, high = (min(every), max(every)) if every else (0.0, 1.0)
    return (low, high) if high > low else (low - 0.5, high + 0.5)
