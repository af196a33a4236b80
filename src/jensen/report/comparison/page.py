"""The HTML page of a comparison."""

from importlib.resources import files
from pathlib import Path

from jensen.errors import RunError
from jensen.report.comparison.curves import curves
from jensen.report.comparison.material import gather
from jensen.report.comparison.pictures import latents, reconstructions, samples
from jensen.report.comparison.tables import differences, fits, footnotes, models, repeat, summary, title
from jensen.report.markup import Markup, join, tag
from jensen.runs import Comparison
from jensen.runs.storage import write_bytes

SECTIONS = (models, differences, curves, samples, reconstructions, latents, fits, repeat, footnotes)
"""What comes after the summary; a section that has nothing to say is None."""


def build_comparison(comparison: Comparison) -> str:
    """Makes the report of a comparison: one HTML page that needs nothing but itself.

    Args:
        comparison: What ``jensen.runs.compare`` returned.

    Returns:
        The page.

    Raises:
        RunError: If one of its Runs is no longer there or damaged.
    """
    material = gather(comparison)
    sections = [section for make in SECTIONS if (section := make(material)) is not None]
    links = [tag("li", tag("a", section.title, href=f"#{section.identifier}")) for section in sections]
    style = Markup(files("jensen.report").joinpath("page.css").read_text(encoding="utf8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="generator", content="jensen"),
        tag("title", title(material)),
        tag("style", style),
    )
    body = tag(
        "main",
        summary(material),
        tag("nav", tag("ul", *links), aria_label="Contents"),
        *(tag("section", tag("h2", s.title), s.body, id=s.identifier) for s in sections),
    )
    return "<!DOCTYPE html>\n" + join(tag("html", head, tag("body", body), lang="en")) + "\n"


def write_comparison(comparison: Comparison) -> Path:
    """Writes the report as ``report.html`` into the comparison's folder; see ``build_comparison``.

    Args:
        comparison: What ``jensen.runs.compare`` returned.

    Returns:
        Where it is.

    Raises:
        RunError: If a Run is no longer there, or the folder can't be written.
    """
    path = comparison.folder / "report.html"
    content = build_comparison(comparison).encode()
    try:
        write_bytes(path, content)
    except OSError as error:
        raise RunError(f"can't write {path}: {error.strerror or error}") from None
    return path
