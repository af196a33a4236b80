"""The sections of a report, in the order in which they tell its story."""

from collections.abc import Callable
from typing import Final

from jensen.report.material import Material
from jensen.report.sections.curves import curves
from jensen.report.sections.divergences import divergences
from jensen.report.sections.footnotes import footnotes
from jensen.report.sections.gap import gap
from jensen.report.sections.interpolations import interpolations
from jensen.report.sections.latent_map import latent_map
from jensen.report.sections.numbers import numbers
from jensen.report.sections.reconstructions import reconstructions
from jensen.report.sections.repeat import repeat
from jensen.report.sections.samples import samples
from jensen.report.sections.section import Section
from jensen.report.sections.summary import summary
from jensen.report.sections.training import training
from jensen.report.sections.traversals import traversals

SECTIONS: Final[tuple[Callable[[Material], Section], ...]] = (
    curves,
    reconstructions,
    samples,
    latent_map,
    interpolations,
    traversals,
    divergences,
    gap,
    numbers,
    training,
    repeat,
    footnotes,
)
"""What comes after the summary."""

__all__ = ["SECTIONS", "Section", "summary"]
