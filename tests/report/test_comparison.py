"""The report of a comparison."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jensen.data import Dataset, from_array, known, take
from jensen.errors import RunError
from jensen.report import build_comparison, write_comparison
from jensen.report.comparison.material import gather
from jensen.report.comparison.tables import summary
from jensen.runs import Comparison, Silent, compare

from .page_reader import PageReader

SMALL = {"hidden": 8, "latent_dim": 3}
IDS = [
    "models",
    "differences",
    "curves",
    "samples",
    "reconstructions",
    "latents",
    "fits",
    "repeat",
    "footnotes",
]


def table(n: int = 80, columns: int = 3) -> Dataset:
    x = np.random.default_rng(0).normal(size=(n, columns))
    return from_array(x, name="table", columns=[f"column {i}" for i in range(columns)])


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    """Three models of digits, one of them a density; not to be changed."""
    return compare(
        take(known("digits"), slice(150)),
        ["vae", "wide=vae", "linear-vae"],
        tmp_path_factory.mktemp("comparison"),
        seeds=2,
        epochs=3,
        options={"latent_dim": 3},
        model_options={"vae": {"hidden": 8}, "wide": {"hidden": 24}},
        valid=take(known("digits", "valid"), slice(30)),
        test=take(known("digits", "test"), slice(40)),
        samples=10,
    )


@pytest.fixture(scope="module")
def page(digits: Comparison) -> PageReader:
    """Its page, read."""
    return PageReader(build_comparison(digits))


def test_the_page_holds_everything_and_needs_nothing_else(page: PageReader) -> None:
    assert [i for i in page.ids if i in IDS] == IDS
    links = [link for link in page.attributes("href") if not link.startswith("#")]
    assert links == []
    assert all(source.startswith("data:image/png") for source in page.attributes("src"))
    targets = {link.removeprefix("#") for link in page.attributes("href")}
    assert targets <= set(page.ids)
    assert len(page.ids) == len(set(page.ids))


def test_the_numbers_are_those_of_the_comparison(page: PageReader, digits: Comparison) -> None:
    for row in digits.rows:
        assert repr(row.nll) in page.numbers
        assert repr(row.elbo) in page.numbers
        assert repr(row.parameters) in page.numbers
    for o in digits.outcomes:
        assert repr(o.numbers["nll"]) in page.numbers
        assert o.folder.name in page.text


def test_who_is_best_and_what_does_not_compare(page: PageReader, digits: Comparison) -> None:
    first, second, linear = digits.rows
    assert f"Among probabilities of whole numbers, {first.label} has the smallest" in page.text
    assert "Among densities of real numbers, linear-vae stands alone" in page.text
    assert "do not compare with each other, whatever they are" in page.text
    assert linear.label == "linear-vae"
    difference = digits.differences[0]
    words = (
        f"significantly less than {second.label}"
        if difference.significant
        else "does not differ significantly"
    )
    assert words in page.text
    assert f"{first.label} before {second.label}" in page.text
    assert "the same 3 passes over the training data" in page.text


@pytest.mark.parametrize(
    ("clear", "words"),
    [
        ({"b": True, "c": True}, "significantly less than every other."),
        ({"b": False, "c": False}, "but no other is significantly worse."),
        ({"b": False, "c": True}, "significantly less than c, but not than b."),
        ({"b": True}, "significantly less than b."),
        ({"b": False}, "but that of b does not differ significantly."),
    ],
)
def test_the_sentence_on_who_is_best(digits: Comparison, clear: dict[str, bool], words: str) -> None:
    (difference,) = digits.differences
    row = replace(digits.rows[0], label="a", nll=1.0, behind=None)
    behind = {
        label: replace(difference, better="a", worse=label, significant=significant)
        for label, significant in clear.items()
    }
    others = [replace(row, label=label, nll=2.0, behind=d) for label, d in behind.items()]
    found = replace(
        digits,
        rows=(row, *others),
        differences=tuple(behind.values()),
        planned_epochs={"a": 1, **dict.fromkeys(clear, 1)},
    )
    text = PageReader(summary(replace(gather(digits), comparison=found))).text
    assert "a has the smallest negative log-likelihood: 1.0" in text
    assert words in text


def test_every_fit_has_its_curve(page: PageReader, digits: Comparison) -> None:
    text = build_comparison(digits)
    start, end = text.index('id="curves"'), text.index('id="samples"')
    lines = text[start:end].count("stroke-width: 1.4")
    # Six fits, by epoch and by time.
    assert lines == 12


def test_pictures_of_all_models_beside_each_other(page: PageReader) -> None:
    # Expected data and draws of three models, and reconstructions of three below the data.
    assert len([a for a in page.attributes("alt") if a == "12 images in a row"]) == 3 + 3 + 4


def test_the_command_that_repeats_it(page: PageReader) -> None:
    command = page.text[page.text.index("jensen compare digits") :]
    assert command.startswith("jensen compare digits --models vae,wide=vae,linear-vae --seeds 2 --epochs 3")
    assert "--set wide.hidden=24" in command
    assert "--set linear-vae.latent_dim=3" in command


def test_a_table_one_seed_and_a_failure(tmp_path: Path) -> None:
    def watcher(label: str, seed: int) -> Silent:
        class Breaker(Silent):
            def step(self, data: int) -> None:
                if label == "bad":
                    raise OverflowError("<no> room")

        return Breaker()

    found = compare(
        table(),
        {"one": "vae", "bad": "vae"},
        tmp_path,
        seeds=1,
        epochs=2,
        samples=5,
        options=SMALL,
        watcher=watcher,
    )
    page = PageReader(write_comparison(found).read_text(encoding="utf8"))
    assert "1 fit of 2 failed and is left out: bad with seed 0: OverflowError: <no> room" in page.text
    assert "Each model was fitted once" in page.text
    assert "one has a negative log-likelihood of" in page.text
    assert "differences" not in page.ids
    assert "reconstructions" not in page.ids
    assert "draws of one" in page.text
    assert "DATA stands for a file that holds them" in page.text


def test_many_columns_and_no_validation(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"seeds": [3], "epochs": 2, "samples": 5, "options": SMALL, "valid": None}
    found = compare(table(columns=14), ["vae", "beta-vae"], tmp_path, **arguments)
    page = PageReader(build_comparison(found))
    assert "The ELBO on training data" in page.text
    assert "One dot a column" in page.text
    assert "which only Python can ask for" in page.text


def test_a_run_that_is_gone(digits: Comparison, tmp_path: Path) -> None:
    found = compare(table(), ["vae"], tmp_path, seeds=1, epochs=1, samples=5, options=SMALL)
    (tmp_path / "vae-seed-0" / "weights.safetensors").unlink()
    with pytest.raises(RunError, match="it has no weights"):
        build_comparison(found)
