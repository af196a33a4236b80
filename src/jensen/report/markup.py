"""HTML put together from Python, where text is escaped unless it is known to be HTML."""

from html import escape

_VOID = frozenset({"img", "meta", "br", "col"})


class Markup(str):
    """Text that is HTML already; everything else is escaped when it is put into HTML."""

    __slots__ = ()


def html(value: object) -> Markup:
    """A value as HTML: Markup as it is, None as nothing, all else as escaped text.

    Example:
        >>> html("a < b")
        'a &lt; b'
    """
    if value is None:
        return Markup()
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def join(*parts: object) -> Markup:
    """Values behind each other, as HTML."""
    return Markup("".join(html(part) for part in parts))


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element.

    Args:
        name: Its name.
        children: What it holds.
        attributes: By name; ``class_`` stands for ``class``, other underscores for hyphens; None is left out.

    Returns:
        The element.

    Example:
        >>> tag("p", "1 < 2", class_="note")
        '<p class="note">1 &lt; 2</p>'
    """
    written = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(str(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    if name in _VOID:
        return Markup(f"<{name}{written}>")
    return Markup(f"<{name}{written}>{join(*children)}</{name}>")


def table(head: tuple[object, ...], rows: list[tuple[object, ...]], **attributes: object) -> Markup:
    """A table with one line of headings, in a box that scrolls sideways where the window is too narrow."""
    headings = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [tag("tr", *(tag("td", cell) for cell in row)) for row in rows]
    return tag(
        "div", tag("table", tag("thead", headings), tag("tbody", *body), **attributes), class_="scroll"
    )


def figure(content: Markup, caption: object) -> Markup:
    """A picture with a caption that says what one sees and how to read it."""
    return tag("figure", content, tag("figcaption", caption))
