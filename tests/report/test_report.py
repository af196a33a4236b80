import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from jensen import report
from jensen.data import Dataset, from_array, known, take
from jensen.errors import DataError, RunError
from jensen.evaluation import evaluate
from jensen.report import build, write
from jensen.report.markup import join
from jensen.report.material import Material, gather
from jensen.report.sections import Section, summary
from jensen.report.sections.curves import curves
from jensen.report.sections.divergences import divergences
from jensen.report.sections.gap import gap
from jensen.report.sections.interpolations import interpolations
from jensen.report.sections.latent_map import latent_map
from jensen.report.sections.numbers import numbers as numbers_section
from jensen.report.sections.reconstructions import reconstructions
from jensen.report.sections.repeat import repeat
from jensen.report.sections.samples import samples
from jensen.report.sections.training import training
from jensen.report.sections.traversals import traversals
from jensen.runs import Run, fit

from .page_reader import PageReader

IDS = [
    "training-curves",
    "reconstructions",
    "samples",
    "latent-map",
    "interpolations",
    "traversals",
    "kl-per-dimension",
    "gap",
    "numbers",
    "training-details",
    "repeat",
    "footnotes",
]
SMALL = {"hidden": (16,), "epochs": 3, "latent_dim": 3}


def table(n: int = 40, columns: int = 4, seed: int = 0, name: str = "table") -> Dataset:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 2)) @ rng.normal(size=(2, columns)) + 0.3 * rng.normal(size=(n, columns))
    return from_array(x, name=name, columns=[f"column {i}" for i in range(columns)])


def read(run: Run, dataset: Dataset | None = None) -> PageReader:
    return PageReader(build(run, dataset, samples=5))


def parts(run: Run, *sections: Callable[[Material], Section], dataset: Dataset | None = None) -> str:
    """The text of the summary and of some sections, which is quicker than the page."""
    material = gather(run, dataset, 5, 0)
    return PageReader(join(summary(material), *(section(material).body for section in sections))).text


LATENTS = (latent_map, interpolations, traversals, divergences)


@pytest.fixture(scope="module")
def digits() -> Run:
    """Evaluated digits, with validation and labels; not to be changed."""
    run = fit(
        take(known("digits"), slice(200)), "vae", SMALL, valid=take(known("digits", "valid"), slice(40))
    )
    test = take(known("digits", "test"), slice(30))
    for draws in (4, 7):
        numbers = evaluate(run.model, run.prepare(test), draws)
        run.add_evaluation({"data": test.name, "seed": 0, **numbers})
    return run


@pytest.fixture(scope="module")
def page(digits: Run) -> str:
    return build(digits)


def changed(run: Run, **about: object) -> Run:
    """The same Run with another description."""
    return replace(run, about={**run.about, **about}, evaluations=list(run.evaluations))


def test_has_every_section_in_order_and_links_to_it(page: str) -> None:
    reader = PageReader(page)
    assert [i for i in reader.ids if i in IDS] == IDS
    assert [a for a in reader.attributes("href") if a[1:] in IDS] == [f"#{i}" for i in IDS]
    assert len(reader.ids) == len(set(reader.ids))


def test_needs_nothing_but_itself(page: str) -> None:
    reader = PageReader(page)
    assert "script" not in {tag for tag, _ in reader.elements}
    assert not {"link", "iframe", "object", "embed"} & {tag for tag, _ in reader.elements}
    for name in ("src", "href", "xlink:href"):
        assert all(value.startswith(("#", "data:image/png;base64,")) for value in reader.attributes(name))
    # Inner references lead somewhere.
    assert {a[1:] for a in reader.attributes("href") if a.startswith("#")} <= set(reader.ids)
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(reader.ids)
    assert "@import" not in page


def test_says_the_numbers_of_the_newest_evaluation(digits: Run, page: str) -> None:
    newest = digits.evaluations[-1]
    shown = set(PageReader(page).numbers)
    for key, value in newest.items():
        if isinstance(value, int | float) and key != "seed":
            assert repr(value) in shown, key


def test_says_how_good_it_is_in_words_and_on_what(page: str) -> None:
    text = PageReader(page).text
    assert "30 data of digits:test, which it had not seen" in text
    assert "200 data of digits:train" in text
    assert "All evaluations of this Run" in text
    assert "jensen evaluate RUN digits:test --samples 7 --seed 0" in text
    assert "Nobody had evaluated" not in text


def test_is_about_the_evaluation_on_the_data_that_are_given(digits: Run) -> None:
    other = replace(take(known("digits", "valid"), slice(20)), name="other")
    first = {**digits.evaluations[0], "data": "other", "nll": 123.0}
    run = replace(digits, evaluations=[first, *digits.evaluations])
    assert "On 30 data of other" in parts(run, dataset=other)
    assert "On 30 data of digits:test" in parts(run)


def timeless(page: str) -> str:
    return re.sub(r"<time.*?</time>", "", page)


def test_same_seed_same_page_but_for_the_time(digits: Run, page: str) -> None:
    assert timeless(build(digits)) == timeless(page)
    assert timeless(page) != page
    one, other = (str(samples(gather(digits, None, 5, seed)).body) for seed in (0, 1))
    assert one != other


def test_leaves_the_run_and_the_generators_as_they_were(digits: Run) -> None:
    state = torch.get_rng_state()
    before = (list(digits.evaluations), [p.clone() for p in digits.model.parameters()])
    parts(replace(digits, evaluations=[]), samples)
    assert torch.equal(torch.get_rng_state(), state)
    assert digits.evaluations == before[0]
    assert all(torch.equal(a, b) for a, b in zip(digits.model.parameters(), before[1], strict=True))


def test_imports_what_draws_only_when_it_draws() -> None:
    for file in Path(report.__file__).parent.rglob("*.py"):
        assert not re.search(r"^(import|from) (matplotlib|sklearn|PIL)", file.read_text(), re.MULTILINE), file


@pytest.mark.parametrize("field", ["data", "source"])
def test_escapes_what_it_did_not_write(digits: Run, field: str) -> None:
    material = gather(changed(digits, **{field: '<b>x "&'}), None, 5, 0)
    body = join(summary(material), training(material).body, repeat(material).body)
    assert "<b>x" not in body
    assert '<b>x "&' in PageReader(body).text


def test_escapes_names_of_columns_and_labels() -> None:
    x = np.array([[1.5, 2.0, 3.0], [2.5, 2.0, 4.0], [0.1, 2.0, 7.0], [0.2, 2.0, 1.0]])
    columns = ["$a$ <i>", "_constant", "日本\n"]
    dataset = from_array(x, ["<u>", "b$", "_c", "b$"], columns=columns, name="<b>x")
    run = fit(dataset, "vae", SMALL)
    page = build(run, samples=2)
    reader = PageReader(page)
    assert not {"i", "u"} & {tag for tag, _ in reader.elements}
    assert "<b>x" not in page
    for name in ("$a$ <i>", "_constant", "日本", "<u>", "b$", "_c"):
        assert name in reader.text


def test_evaluates_itself_where_nobody_has_and_says_on_what() -> None:
    run = fit(table(), "vae", SMALL)
    text = parts(run, training)
    assert "Nobody had evaluated this Run" in text
    assert "5 importance samples each" in text
    assert "which it was fitted on, so new data will do worse" in text
    assert "validation datanone" in text.replace(" none", "none")
    held_out = fit(table(), "vae", SMALL, valid=0.25)
    assert "which it was not fitted on, but which chose the weights" in parts(held_out)


def test_numbers_it_computes_are_those_of_evaluate() -> None:
    run = fit(table(), "vae", SMALL)
    assert run.examples is not None
    expected = evaluate(run.model, run.prepare(run.examples), 5, seed=0)
    reader = PageReader(numbers_section(gather(run, None, 5, 0)).body)
    for key in ("nll", "elbo", "gap", "nll_standard_error", "bits_per_dim", "reconstruction_error"):
        assert repr(expected[key]) in reader.numbers


def test_no_data_to_show() -> None:
    run = replace(fit(table(), "vae", SMALL), examples=None)
    with pytest.raises(RunError, match="--data"):
        build(run)
    assert "given for this report" in parts(run, dataset=table(seed=1))


def test_data_that_do_not_match() -> None:
    with pytest.raises(DataError, match="columns"):
        build(fit(table(), "vae", SMALL), table(columns=5))


CASES: dict[str, tuple[dict[str, object], list[str]]] = {
    "one epoch": ({"epochs": 1}, ["after 1 epoch ("]),
    "one latent": ({"latent_dim": 1}, ["with 1 latent ", "The one latent"]),
    "two latents": ({"latent_dim": 2}, ["The two latents themselves", "of the prior"]),
    "many latents": ({"latent_dim": 45, "epochs": 1}, ["with 45 latents"]),
    "no closed form": ({"prior": "mixture"}, ["has no closed form"]),
    "full normal": ({"posterior": "full-normal"}, ["has no closed form"]),
    "class": (
        {"prior": "class", "posterior": "class", "gradient": "score", "samples": 8},
        ["one latent class of 3", "between two classes there is nothing", "one of 3 classes"],
    ),
    "importance-weighted": ({"bound": "iwae", "samples": 3}, ["importance-weighted bound with 3 draws"]),
    "free bits": ({"free_bits": 0.5}, ["did not punish the first 0.5 nats"]),
    "warm-up": ({"kl_warm_up": 2}, ["grew over the first 2 epochs"]),
}


@pytest.mark.parametrize("case", CASES)
def test_models(case: str) -> None:
    options, expected = CASES[case]
    text = parts(fit(table(), "vae", {**SMALL, **options}), *LATENTS, training)
    for words in expected:
        assert words in text
    if case not in ("class", "free bits"):
        assert "is moved from −3" in text


def test_beta_is_not_the_bound() -> None:
    text = parts(fit(table(), "beta-vae", SMALL))
    assert "4 × KL, which is not the bound" in text
    assert "An autoencoder with 3 latents" in text


@pytest.mark.parametrize(
    ("status", "words"),
    [
        ("interrupted", "was interrupted after 3 of 9 epochs"),
        ("running", "was cut short after 3 of 9 epochs"),
    ],
)
def test_fits_that_did_not_end_well(status: str, words: str) -> None:
    run = fit(table(), "vae", SMALL)
    run.config = run.config.model_copy(update={"epochs": 9})
    run.history[-1] |= {"status": status, "skipped": 2}
    text = parts(run, training)
    assert words in text
    assert "2 steps of 3 had a gradient that was not finite" in text


def test_history_with_holes() -> None:
    run = fit(table(), "vae", SMALL, valid=0.25)
    run.history[0] |= {"train": {}, "valid": None}
    run.history[1]["valid"]["standard_error"] = float("nan")
    assert "best epoch" in parts(run, curves, training)
    assert "there are no curves" in parts(replace(run, history=[]), curves, training)


def test_the_end_on_a_tighter_bound_is_told_of() -> None:
    run = fit(table(), "vae", {**SMALL, "tighten": 0.5}, valid=0.25)
    text = parts(run, curves, training)
    assert "From epoch 2 on the importance-weighted bound of 10 draws is maximised" in text
    assert "importance-weighted bound that was maximised, training data" in text
    assert "bound that was maximised, on validation data there" in text
    assert "first epoch on the importance-weighted bound" in text
    plain = parts(fit(table(), "vae", {**SMALL, "tighten": 0}, valid=0.25), curves, training)
    assert "importance-weighted" not in plain
    assert "that was maximised" not in plain


@pytest.mark.parametrize("n", [3])
def test_few_data(n: int) -> None:
    assert f"fitted to {n} data" in read(fit(table(n), "vae", SMALL)).text


def test_one_datum_to_show(digits: Run) -> None:
    one = take(known("digits", "test"), slice(1))
    text = parts(replace(digits, evaluations=[]), reconstructions, *LATENTS, dataset=one)
    assert "too few data for a walk" in text
    assert "On 1 datum of digits:test" in text


def made(kind: str) -> Dataset:
    rng = np.random.default_rng(0)
    arrays = {
        "colour": rng.integers(0, 256, (20, 3, 8, 8), dtype=np.uint8),
        "real images": rng.normal(size=(20, 6, 7)),
        "square bits": rng.integers(0, 2, (20, 16), dtype=np.uint8),
        "bits": rng.integers(0, 2, (20, 18), dtype=np.uint8),
        "few bits": rng.integers(0, 2, (20, 3), dtype=np.uint8),
        "counts": rng.poisson(3.0, (20, 4)) + 300 * (np.arange(20)[:, None] == 0),
        "wide": rng.normal(size=(20, 30)),
        "one column": rng.normal(size=(20, 1)),
        "boxes": rng.normal(size=(20, 2, 3, 4)),
    }
    return from_array(arrays[kind], np.arange(20) * 1.5 + 0.25, name=kind)


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("colour", "8×8 pictures in colour"),
        ("real images", "6×7 pictures of real numbers"),
        ("square bits", "16 is a square number, so they are shown as 4×4 pictures"),
        ("bits", "the probability of a 1"),
        ("few bits", "draws of the model"),
        ("counts", "counts"),
        ("wide", "mean and standard deviation"),
        ("one column", "1 cell of real numbers"),
        ("boxes", "each with 24 cells"),
    ],
)
def test_data(kind: str, words: str) -> None:
    assert words in parts(fit(made(kind), "vae", SMALL), reconstructions, samples, traversals)


def test_a_column_that_is_constant_or_explodes() -> None:
    x = table(30).x.copy()
    x[:, 1] = 7
    x[0, 2] = 1e12
    run = fit(from_array(x, columns=[f"column {i}" for i in range(4)]), "vae", SMALL)
    assert "column 2" in parts(run, reconstructions, samples, interpolations)


def test_labels_of_many_classes_are_gathered(digits: Run) -> None:
    data = take(known("digits", "test"), slice(60))
    named = replace(data, y=np.array([f"class {i % 30}" for i in range(60)]))
    assert "21 other labels" in parts(digits, latent_map, dataset=named)


def test_write_puts_it_into_the_folder(digits: Run, tmp_path: Path) -> None:
    run = replace(digits, folder=None)
    with pytest.raises(RunError, match="save it first"):
        write(run)
    run.save(tmp_path / "run")
    path = write(run, samples=2)
    assert path == tmp_path / "run" / "report.html"
    PageReader(path.read_text(encoding="utf8"))
    assert not list(path.parent.glob(".*"))
    loaded = Run.load(tmp_path / "run")
    assert timeless(build(loaded)) == timeless(path.read_text(encoding="utf8"))


def with_gap(run: Run) -> dict[str, object]:
    """Numbers of a gap, made up."""
    return {
        **run.evaluations[-1],
        "gap_n": 20,
        "gap_chains": 4,
        "gap_steps": 50,
        "gap_exact": False,
        "gap_acceptance": 0.7,
        "gap_simulated_lower": -100.5,
        "gap_simulated_lower_standard_error": 0.1,
        "gap_simulated_upper": -100.25,
        "gap_simulated_upper_standard_error": 0.1,
        "gap_simulated_width": 0.25,
        "gap_simulated_width_standard_error": 0.05,
        "gap_data_elbo": -120.0,
        "gap_data_elbo_standard_error": 0.1,
        "gap_data_iwae": -118.0,
        "gap_data_iwae_standard_error": 0.1,
        "gap_data_ais": -117.5,
        "gap_data_ais_standard_error": 0.1,
        "gap_curve_samples": [1, 10, 100],
        "gap_curve_simulated": [-103.0, -102.0, -101.0],
        "gap_curve_simulated_standard_error": [0.1, 0.1, 0.1],
        "gap_curve_data": [-120.0, -119.0, -118.0],
        "gap_curve_data_standard_error": [0.1, 0.1, 0.1],
        "gap_total": 2.5,
        "gap_total_standard_error": 0.1,
        "gap_amortisation": 1.75,
        "gap_amortisation_standard_error": 0.01,
        "gap_approximation_normal": 0.75,
        "gap_approximation_normal_standard_error": 0.1,
        "gap_approximation_flow": 0.125,
        "gap_approximation_flow_standard_error": 0.1,
    }


def test_the_gap_is_drawn_and_said_in_words(digits: Run) -> None:
    run = replace(digits, evaluations=[with_gap(digits)])
    content = gap(gather(run, None, 5, 0)).body
    reader = PageReader(content)
    assert "between −100.50 and −100.25 nats" in reader.text
    assert "0.250 ± 0.050 nats wide" in reader.text
    # What simulated data suggest is not called a bound.
    assert "annealing falls short by no more than about 0.25 nats" in reader.text
    assert "the bound with 100 draws by about 0.75" in reader.text
    assert "This is a hint, not a bound" in reader.text
    assert len([name for name, _ in reader.elements if name == "svg"]) == 2
    assert {repr(1.75), repr(0.125)} <= set(reader.numbers)
    assert "--gap --gap-data 20" in parts(run, repeat)


def test_a_gap_that_was_not_measured(digits: Run) -> None:
    text = parts(digits, gap)
    assert "jensen evaluate RUN DATA --gap" in text
