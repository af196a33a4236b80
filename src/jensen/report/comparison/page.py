"""The HTML page of a comparison."""

from pathlib import Path

from jensen.errors import RunError
from jensen.report.comparison.curves import curves
from jensen.report.comparison.material import gather
from jensen.report.comparison.pictures import latents, reconstructions, samples
from jensen.report.comparison.tables import differences, fits, footnotes, models, repeat, summary, title
from jensen.report.page import around
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
    return around(title(material), summary(material), sections)


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
