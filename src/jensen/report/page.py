"""The HTML page around the sections."""

from collections.abc import Sequence
from importlib.resources import files

from jensen.report.markup import Markup, join, tag
from jensen.report.material import Material
from jensen.report.sections import SECTIONS, summary
from jensen.report.sections.section import Section
from jensen.report.sections.summary import title


def page(material: Material) -> str:
    """The whole page of a Run, which needs nothing but itself."""
    return around(title(material), summary(material), [make(material) for make in SECTIONS])


def around(heading: str, opening: Markup, sections: Sequence[Section]) -> str:
    """A page that needs nothing but itself: its title, what it opens with, and sections with their links."""
    links = [tag("li", tag("a", section.title, href=f"#{section.identifier}")) for section in sections]
    style = Markup(files("jensen.report").joinpath("page.css").read_text(encoding="utf8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content="jensen"),
        tag("title", heading),
        tag("style", style),
    )
    body = tag(
        "main",
        opening,
        tag("nav", tag("ul", *links), aria_label="Contents"),
        *(
            tag("section", tag("h2", section.title), section.body, id=section.identifier)
            for section in sections
        ),
    )
    return "<!DOCTYPE html>\n" + join(tag("html", head, tag("body", body), lang="en")) + "\n"
