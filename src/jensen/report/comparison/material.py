"""What the sections of a comparison's report draw from."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jensen.report.charts import CLASSES
from jensen.runs import Comparison, Outcome, Row, Run
from jensen.runs.run import read_metrics


@dataclass(frozen=True)
class Material:
    """What the sections draw from.

    Attributes:
        comparison: What was found.
        runs: A Run of each model that came through, that of its first such seed.
        histories: The records of the epochs, by label and seed.
        colours: Of the models.
        written: When.
    """

    comparison: Comparison
    runs: Mapping[str, Run]
    histories: Mapping[tuple[str, int], list[dict[str, Any]]]
    colours: Mapping[str, str]
    written: datetime

    @property
    def good(self) -> list[Row]:
        """The models that came through."""
        return [row for row in self.comparison.rows if row.nll is not None]

    def groups(self) -> list[list[Row]]:
        """These models, those together that compare with each other."""
        both = ([r for r in self.good if r.density == density] for density in (False, True))
        return [group for group in both if group]

    def outcomes(self, label: str) -> list[Outcome]:
        """The fits of a model that came through."""
        return [o for o in self.comparison.outcomes if o.label == label and o.error is None]


def gather(comparison: Comparison) -> Material:
    """Reads what the comparison's Runs keep."""
    good = [o for o in comparison.outcomes if o.error is None]
    first: dict[str, Run] = {}
    for o in good:
        if o.label not in first:
            first[o.label] = Run.load(o.folder)
    labels = list(comparison.planned_epochs)
    return Material(
        comparison=comparison,
        runs=first,
        histories={(o.label, o.seed): read_metrics(o.folder) for o in good},
        colours={label: CLASSES[i % len(CLASSES)] for i, label in enumerate(labels)},
        written=datetime.now(UTC),
    )
