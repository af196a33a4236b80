"""``jensen compare``: what it takes, prints and leaves."""

import json
from pathlib import Path

import numpy as np
import pytest

from cli.calling import Call
from jensen.runs import Run

FAST = ("--set", "hidden=8", "--set", "latent_dim=3", "--epochs", 2, "--seeds", 2, "--samples", 5)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Counts, 60 rows of four columns."""
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).poisson(3.0, (60, 4)))
    return path


def test_a_comparison_for_people(call: Call, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ("compare", data, "--models", "vae, small=vae", "--out", out, *FAST)
    result = call(*arguments, "--set", "small.latent_dim=2")
    assert result.code == 0, result
    for word in ("vae", "small", "behind", "best", "Budget: the same 2 passes"):
        assert word in result.out, word
    assert {path.name for path in out.iterdir()} == {
        "compare.json",
        *(f"{label}-seed-{seed}" for label in ("vae", "small") for seed in (0, 1)),
        *(f"table.{ending}" for ending in ("csv", "json", "md")),
        "report.html",
    }
    run = Run.load(out / "small-seed-1")
    assert (run.config.latent_dim, run.config.hidden) == (2, (8,))
    # Of 60 rows a fifth is judged on, and a tenth of the rest chooses the weights.
    assert (run.about["n"], run.about["n_valid"]) == (43, 5)
    assert "vae, seed 0: vae on" in " ".join(result.err.split())
    # Again it only prints.
    again = call(*arguments, "--set", "small.latent_dim=2", "--json")
    record = again.json
    assert record["report"] == str(out / "report.html")
    assert {row["label"] for row in record["models"]} == {"vae", "small"}
    assert record == {
        **json.loads((out / "table.json").read_text(encoding="utf8")),
        "report": record["report"],
    }
    assert "seed" not in again.err


def test_known_data_bring_their_own_splits(call: Call, tmp_path: Path) -> None:
    record = call(
        "compare", "digits", "--models", "vae", "--out", tmp_path / "a", *FAST, "--seeds", 1, "--json"
    ).json
    assert {key: record["data"][key] for key in ("name", "test", "n", "n_valid", "n_test")} == {
        "name": "digits:train",
        "test": "digits:test",
        "n": 1297,
        "n_valid": 250,
        "n_test": 250,
    }


def test_data_may_stay_on_disk(call: Call, data: Path, tmp_path: Path) -> None:
    arguments = ("compare", data, "--models", "vae", "--out", tmp_path / "a", *FAST, "--seeds", 1, "--json")
    record = call(*arguments, "--stream").json
    assert {key: record["data"][key] for key in ("n", "n_valid", "n_test")} == {
        "n": 43,
        "n_valid": 5,
        "n_test": 12,
    }
    assert Run.load(tmp_path / "a" / "vae-seed-0").about["stream"] is not None
    # It goes on as it began.
    assert call(*arguments).json["models"] == record["models"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--models", "vea"), "unknown model 'vea'; did you mean 'vae'"),
        (("--models", ","), "there are no models to compare"),
        (("--models", "vae", "--seeds", 0), "at least one seed"),
        (
            ("--models", "vae", "--set", "latent_dims=2"),
            "unknown option 'latent_dims'; did you mean 'latent_dim'",
        ),
        (("--models", "vae", "--set", "vae.latent_dims=2"), "unknown option 'latent_dims'"),
        (
            ("--models", "vae", "--set", "iwae.hidden=2"),
            "is for 'iwae', which isn't compared; the models are: vae",
        ),
        (("--models", "vae", "--epochs", 2, "--minutes", 1), "has one budget"),
        (
            ("--models", "vae", "--test", 1.5),
            "--test wants data, or a part of the data between 0 and 1; got 1.5",
        ),
        (("--models", "vae", "--log", "wandb"), "unknown logger 'wandb'"),
        (("--seeds", 1), "Missing option '--models'"),
    ],
    ids=str,
)
def test_what_can_not_be(
    call: Call, data: Path, tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    assert message in call("compare", data, "--out", tmp_path / "out", *arguments).fault()
    assert not (tmp_path / "out").exists()


def test_only_the_first_process_prints_and_writes(
    call: Call, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("compare", data, "--models", "vae", "--out", tmp_path / "out", *FAST, "--seeds", 1)
    assert call(*arguments).code == 0
    (tmp_path / "out" / "table.json").unlink()
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    result = call(*arguments)
    assert (result.code, result.out) == (0, "")
    assert not (tmp_path / "out" / "table.json").exists()
