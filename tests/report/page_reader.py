"""Reads a report as a browser would, and refuses what is not well-formed."""

from html.parser import HTMLParser

VOID = {"img", "meta", "br", "col", "link", "hr", "input"}


class PageReader(HTMLParser):
    """Collects elements, text and numbers; every tag has to be closed in its place."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[str] = []
        self.numbers: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == [], f"never closed: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._add(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open, f"</{tag}> closes nothing"
        assert self.open[-1] == tag, f"</{tag}> where <{self.open[-1]}> is open"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        if self.open[-1:] not in (["style"], ["script"]):
            self.texts.append(data)

    def _add(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        values = {name: value or "" for name, value in attrs}
        self.elements.append((tag, values))
        if tag == "data":
            self.numbers.append(values["value"])

    @property
    def text(self) -> str:
        """All text, with single spaces."""
        return " ".join("".join(self.texts).split())

    @property
    def ids(self) -> list[str]:
        """The identifiers of elements."""
        return [values["id"] for _, values in self.elements if "id" in values]

    def attributes(self, name: str) -> list[str]:
        """The values of an attribute, over all elements."""
        return [values[name] for _, values in self.elements if name in values]
