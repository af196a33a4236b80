import shlex
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from jensen.data import Schema, Stored, from_array, known, load, read, stored, take
from jensen.recipes import RECIPES
from jensen.report.charts import chart
from jensen.report.markup import Markup, html, join, tag
from jensen.report.material import gather
from jensen.report.pictures import form_of, tiles
from jensen.report.sections.repeat import changed, command, repeat
from jensen.report.wording import decimals, exact, number
from jensen.runs import Run, fit

SMALL = {"hidden": (8,), "epochs": 1, "latent_dim": 2}


def test_markup_escapes_text_and_keeps_html() -> None:
    assert tag("p", "<", Markup("<br>"), None, title='"') == '<p title="&quot;">&lt;<br></p>'
    assert join(1, html("&")) == "1&amp;"


@pytest.mark.parametrize(
    ("value", "places", "written"),
    [
        (1234.567, 1, "1,234.6"),
        (-0.04, 1, "0.0"),
        (-3.0, None, "\u22123.000"),
        (12345, None, "12,345"),
        (None, None, "–"),
        (inf, 2, "inf"),
    ],
)
def test_number(value: float | None, places: int | None, written: str) -> None:
    assert number(value, places) == written


def test_decimals_show_two_digits_of_the_error() -> None:
    assert [decimals(168.5, error) for error in (12.3, 1.23, 0.0123)] == [0, 1, 3]
    assert decimals(0.0) == 2


def test_exact_keeps_every_digit() -> None:
    assert 'value="0.1234567890123"' in exact(0.1234567890123)


def test_digits_of_ticks_survive_that_paths_are_rounded() -> None:
    def paint(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 1], [0.0001, 0.0004])
        axes.set_yticks([0.0001, 0.0004])

    drawn = chart(paint, "small numbers")
    assert ">0.0001<" in drawn
    assert ">0.0004<" in drawn


@pytest.mark.parametrize(
    ("shape", "kind", "columns", "expected"),
    [
        ((784,), "binary", None, (28, 28, 1, True)),
        ((16,), "uint8", None, (4, 4, 1, True)),
        ((9,), "uint8", None, None),
        ((784,), "real", None, None),
        ((4,), "binary", ("a", "b", "c", "d"), None),
        ((15,), "binary", None, None),
        ((8, 6), "counts", None, (8, 6, 1, False)),
        ((3, 8, 8), "uint8", None, (8, 8, 3, False)),
        ((2, 8, 8), "real", None, None),
        ((2, 3), "real", None, None),
    ],
)
def test_which_data_are_images(shape: tuple[int, ...], kind: Any, columns: Any, expected: object) -> None:
    form = form_of(Schema(shape, kind, columns), np.zeros((2, int(np.prod(shape)))))
    assert (form and (form.height, form.width, form.channels, form.guessed)) == expected


def test_tiles_hold_the_pixels() -> None:
    from base64 import b64decode
    from io import BytesIO

    from PIL import Image

    form = form_of(Schema((3, 4, 5), "uint8"), np.zeros((1, 60)))
    assert form is not None
    x = np.arange(120, dtype=float).reshape(1, 2, 60)
    src = tiles(form, x, 300, "two").split('src="data:image/png;base64,')[1].split('"')[0]
    pixels = np.asarray(Image.open(BytesIO(b64decode(src))))
    assert pixels.shape == (4, 11, 4)
    np.testing.assert_array_equal(pixels[:, :5, :3], np.moveaxis(x[0, 0].reshape(3, 4, 5), 0, -1))
    np.testing.assert_array_equal(pixels[:, 6:, :3], np.moveaxis(x[0, 1].reshape(3, 4, 5), 0, -1))
    assert (pixels[:, 5, 3] == 0).all()


def flags(run: Run) -> list[str]:
    return shlex.split(command(run))


def test_command_leaves_out_defaults() -> None:
    run = fit(take(known("digits"), slice(60)), "vae", SMALL, seed=3)
    assert flags(run)[:7] == ["jensen", "fit", "digits", "--model", "vae", "--out", "RUN"]
    assert flags(run)[7:] == [
        *("--valid", "0", "--seed", "3"),
        *("--set", "latent_dim=2", "--set", "hidden=8", "--epochs", "1"),
    ]


def test_command_of_a_recipe_with_defaults_of_its_own() -> None:
    dataset = from_array(np.random.default_rng(0).normal(size=(60, 2)))
    run = fit(dataset, "beta-vae", {**SMALL, "clip_norm": None, "hidden": (), "batch_size": 7, "decay": True})
    words = flags(run)
    assert words[2] == "DATA"
    assert {"hidden=", "clip_norm=none", "batch_size=7", "decay=true"} <= set(words)
    assert not any(word.startswith(("beta=", "likelihood=")) for word in words)
    # What it says is understood, and gives the same options.
    pairs = dict(word.split("=", 1) for word in words if "=" in word)
    recipe = RECIPES["beta-vae"]
    again = recipe.resolve(recipe.config({**pairs, "epochs": 1}), run.schema, 60)
    assert again == run.config


def test_epochs_that_follow_from_the_batch_are_no_option() -> None:
    run = fit(from_array(np.random.default_rng(0).normal(size=(60, 2))), "vae", SMALL)
    recipe = RECIPES["vae"]
    run.config = recipe.resolve(recipe.config({"batch_size": 20}), run.schema, 60)
    assert changed(run) == {"batch_size": 20}


@pytest.mark.parametrize(("fraction", "expected"), [(0.1, None), (0.25, "0.25"), (None, "0")])
def test_command_says_how_much_was_held_out(fraction: float | None, expected: str | None) -> None:
    run = fit(from_array(np.random.default_rng(0).normal(size=(80, 2))), "vae", SMALL, valid=fraction)
    words = flags(run)
    assert (words[words.index("--valid") + 1] if "--valid" in words else None) == expected


def test_command_takes_a_path_and_quotes_it() -> None:
    dataset = from_array(
        np.random.default_rng(0).normal(size=(60, 2)), name="my data", source="/tmp/a b/my data.csv"
    )
    assert "'/tmp/a b/my data.csv'" in command(fit(dataset, "vae", SMALL))


def test_command_names_validation_data_of_their_own(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    files = [tmp_path / name for name in ("x.npy", "v.npy")]
    for file in files:
        np.save(file, rng.normal(size=(60, 2)))
    words = flags(fit(read(files[0]), "vae", SMALL, valid=read(files[1])))
    assert words[words.index("--valid") + 1] == str(files[1])
    run = fit(read(files[0]), "vae", SMALL, valid=from_array(rng.normal(size=(60, 2))))
    words = flags(run)
    assert words[words.index("--valid") + 1] == "VALID"
    assert "VALID stands for a file" in str(repeat(gather(run, None, 2, 0)).body)


@pytest.mark.parametrize(
    ("valid", "expected"),
    [
        ("digits:valid", None),
        ("digits:test", "digits:test"),
        (0.1, "0.1"),
        (0.123456789, "0.123456789"),
        (None, "0"),
    ],
)
def test_command_of_a_known_set_says_what_is_not_its_own(
    valid: str | float | None, expected: str | None
) -> None:
    train = take(known("digits"), slice(90))
    given = load(valid) if isinstance(valid, str) else valid
    words = flags(fit(train, "vae", SMALL, valid=given))
    assert (words[words.index("--valid") + 1] if "--valid" in words else None) == expected


def test_command_of_a_run_that_does_not_say_how_it_was_validated() -> None:
    run = fit(from_array(np.random.default_rng(0).normal(size=(80, 2))), "vae", SMALL, valid=0.25)
    for name in ("valid", "target", "stream"):
        del run.about[name]
    words = flags(run)
    assert words[words.index("--valid") + 1] == "0.25"


def test_command_names_labels_and_streams(tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    rng = np.random.default_rng(0)
    table = polars.DataFrame({"a": rng.normal(size=60), "kind": ["u", "v"] * 30})
    table.write_parquet(tmp_path / "t.parquet")
    for dataset in (
        read(tmp_path / "t.parquet", target="kind"),
        stored(tmp_path / "t.parquet", target="kind"),
    ):
        run = fit(dataset, "vae", SMALL, valid=0.1)
        words = flags(run)
        assert words[2] == str(tmp_path / "t.parquet")
        assert words[words.index("--target") + 1] == "kind"
        assert ("--stream" in words) == isinstance(dataset, Stored)
        assert "--valid" not in words


def test_command_names_an_array_in_a_file_of_several(tmp_path: Path) -> None:
    np.savez(tmp_path / "several.npz", a=np.random.default_rng(0).normal(size=(60, 2)), b=np.ones(3))
    assert (
        flags(fit(read(f"{tmp_path / 'several.npz'}:a"), "vae", SMALL))[2] == f"{tmp_path / 'several.npz'}:a"
    )
