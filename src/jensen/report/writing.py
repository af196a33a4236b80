"""From a Run to its report."""

from pathlib import Path

from jensen.data import Dataset
from jensen.errors import RunError
from jensen.recipes import RECIPES
from jensen.report.exact import exact_page
from jensen.report.labels import labels_page
from jensen.report.material import gather
from jensen.report.page import page
from jensen.runs import Run
from jensen.runs.storage import write_bytes


def build(run: Run, dataset: Dataset | None = None, *, samples: int = 500, seed: int = 0) -> str:
    """Makes the report of a Run: one HTML page that needs nothing but itself.

    Args:
        run: A fitted Run; it isn't changed.
        dataset: Data for the pictures; None takes the Run's examples. If the Run was evaluated on data of this
            name, the report is about these numbers, else about the newest.
        samples: Importance samples for each datum where the Run was never evaluated; the report then evaluates at
            most 500 data itself and says so.
        seed: Of all that is drawn; the same seed gives the same page but for the time of writing.

    Returns:
        The page.

    Raises:
        DataError: If the data don't match the Run.
        RunError: If there are no data to show.
    """
    if RECIPES[run.recipe].targets is not None:
        return labels_page(run, dataset, seed)
    if RECIPES[run.recipe].solve is not None:
        return exact_page(run, dataset, seed)
    return page(gather(run, dataset, samples, seed))


def write(run: Run, dataset: Dataset | None = None, *, samples: int = 500, seed: int = 0) -> Path:
    """Writes the report as ``report.html`` into the Run's folder; see ``build``.

    Args:
        run: A fitted Run that is kept in a folder.
        dataset: Data for the pictures.
        samples: Importance samples for each datum where the Run was never evaluated.
        seed: Of all that is drawn.

    Returns:
        Where it is.

    Raises:
        DataError: If the data don't match the Run.
        RunError: If the Run has no folder, there are no data to show, or the folder can't be written.
    """
    if run.folder is None:
        raise RunError(
            "this Run is in memory only; save it first (run.save(folder)), or use report.build(run)"
        )
    path = run.folder / "report.html"
    content = build(run, dataset, samples=samples, seed=seed).encode()
    try:
        write_bytes(path, content)
    except OSError as error:
        raise RunError(f"can't write {path}: {error.strerror or error}") from None
    return path
