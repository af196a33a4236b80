"""Data on disk from the command line: the same results as in memory, by blocks."""

from pathlib import Path

import numpy as np
import pytest

from cli.calling import Call
from jensen.runs import Run

RNG = np.random.default_rng(0)
FAST = ("--model", "vae", "--epochs", 2, "--set", "hidden=4", "--set", "latent_dim=2")


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of sixteen rows, the fewest there are."""
    monkeypatch.setattr("jensen.data.opening.BLOCK_BYTES", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Shards of 90 rows of real numbers."""
    (tmp_path / "shards").mkdir()
    for number, part in enumerate(np.split(RNG.normal(size=(90, 4)).astype(np.float32), (40, 60))):
        np.save(tmp_path / "shards" / f"{number}.npy", part)
    return tmp_path / "shards"


def test_streams_are_said_to_be_such(call: Call, folder: Path, tmp_path: Path) -> None:
    result = call("fit", folder, "--out", tmp_path / "run", *FAST, "--stream", "--json")
    assert result.json["streamed"] is True
    assert "streamed from 3 files on disk" in result.err.replace("\n", " ")
    assert Run.load(tmp_path / "run").about["n_valid"] == 9
    one = call("fit", folder / "0.npy", "--out", tmp_path / "one", *FAST, "--stream")
    assert "streamed from a file on disk" in one.err.replace("\n", " ")
    assert call("fit", folder, "--out", tmp_path / "memory", *FAST, "--json").json["streamed"] is False


def test_data_too_large_for_memory_are_streamed_unasked(
    call: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jensen.data.memory.available", lambda: 5000)
    assert call("fit", folder, "--out", tmp_path / "run", *FAST, "--json").json["streamed"] is True
    asked = call("fit", folder, "--out", tmp_path / "other", *FAST, "--no-stream", "--json")
    assert asked.json["streamed"] is False


def test_a_resumed_fit_reads_its_data_as_before(call: Call, folder: Path, tmp_path: Path) -> None:
    command = ("fit", folder, "--out", tmp_path / "run", *FAST)
    first = call(*command, "--stream", "--json").json
    again = call(*command, "--resume", "--json").json
    assert again == first
    assert (
        "its stream is {'shards': 3, 'block_rows': 16, 'buffer_bytes': 33554432}, now it is None"
        in call(*command, "--resume", "--no-stream").fault()
    )


def loaded(file: Path, header: int) -> np.ndarray:
    if file.suffix == ".csv":
        return np.genfromtxt(file, delimiter=",", skip_header=header)
    if file.suffix == ".npy":
        return np.load(file)
    with np.load(file) as archive:
        return archive["x"]


@pytest.mark.parametrize("ending", ["npy", "npz", "csv"])
@pytest.mark.parametrize("command", ["encode", "reconstruct", "score"])
def test_what_is_written_by_blocks_is_what_is_written_at_once(
    call: Call, folder: Path, tmp_path: Path, command: str, ending: str
) -> None:
    call("fit", folder, "--out", tmp_path / "run", *FAST)
    files = [tmp_path / f"{way}.{ending}" for way in ("stream", "no-stream")]
    more = ("--samples", 20) if command == "score" else ()
    for file, way in zip(files, ("--stream", "--no-stream"), strict=True):
        assert (
            call(command, tmp_path / "run", folder, "--out", file, way, *more, "--json").json["shape"][0]
            == 90
        )
    arrays = [loaded(file, int(command == "score")) for file in files]
    assert arrays[0].shape == arrays[1].shape
    if command != "score":
        np.testing.assert_allclose(arrays[0], arrays[1], rtol=1e-5, atol=1e-6)
    elif ending == "csv":
        # The noise differs; the file says how much it matters.
        (streamed, error), (whole, other) = arrays[0].T, arrays[1].T
        assert (np.abs(streamed - whole) < 5 * np.hypot(error, other)).mean() > 0.95
        assert np.array_equal(streamed[:16], whole[:16])


def test_evaluation_by_blocks(call: Call, folder: Path, tmp_path: Path) -> None:
    call("fit", folder, "--out", tmp_path / "run", *FAST)
    parts, whole = (
        call("evaluate", tmp_path / "run", folder, "--samples", 50, way, "--json").json
        for way in ("--stream", "--no-stream")
    )
    assert list(parts) == list(whole)
    assert (parts["n"], parts["active_units"]) == (90, whole["active_units"])
    error = np.hypot(parts["nll_standard_error"], whole["nll_standard_error"])
    assert abs(parts["nll"] - whole["nll"]) < 5 * error
    assert parts["reconstruction_error"] == pytest.approx(whole["reconstruction_error"], rel=1e-5)


def test_tables_and_their_labels(call: Call, tmp_path: Path) -> None:
    polars = pytest.importorskip("polars")
    x = RNG.normal(size=(60, 2))
    table = polars.DataFrame({"a": x[:, 0], "kind": ["u", "v"] * 30, "b": x[:, 1]})
    table.write_parquet(tmp_path / "t.parquet")
    command = ("fit", tmp_path / "t.parquet", "--out", tmp_path / "run", *FAST, "--stream")
    assert "'kind' (String)" in call(*command).fault()
    assert call(*command, "--target", "kind").code == 0
    run = Run.load(tmp_path / "run")
    assert (run.schema.columns, run.about["target"]) == (("a", "b"), "kind")
    table.write_ipc(tmp_path / "t.arrow")
    out = ("--out", tmp_path / "z.npy", "--target", "kind")
    assert call("encode", tmp_path / "run", tmp_path / "t.arrow", *out).code == 0
    assert np.load(tmp_path / "z.npy").shape == (60, 2)


def test_what_can_not_be_streamed(call: Call, tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("a,b\n1.5,2\n2.5,3\n", encoding="utf8")
    rest = ("--out", tmp_path / "run", *FAST, "--stream")
    assert "can't be read from disk by rows" in call("fit", tmp_path / "x.csv", *rest).fault()
    assert "digits is a known data set, which is read into memory" in call("fit", "digits", *rest).fault()
    assert "doesn't exist" in call("fit", tmp_path / "x.npy", *rest).fault()


def test_validation_data_too_large_for_memory(
    call: Call, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jensen.data.memory.available", lambda: 1000)
    message = call("fit", folder, "--out", tmp_path / "run", *FAST, "--valid", folder).fault()
    assert "90 data of shards to validate on don't fit into memory" in message
    assert call("fit", folder, "--out", tmp_path / "run", *FAST, "--valid", "0.05").code == 0


def test_shards_that_differ(call: Call, folder: Path, tmp_path: Path) -> None:
    np.save(folder / "3.npy", np.zeros((5, 7), np.float32))
    for way in ("--stream", "--no-stream"):
        message = call("fit", folder, "--out", tmp_path / "run", *FAST, way).fault()
        assert "3.npy has data of shape (7,)" in message
        assert "0.npy of shape (4,)" in message
    assert not (tmp_path / "run").exists()


def test_an_output_is_whole_or_not_there(call: Call, folder: Path, tmp_path: Path) -> None:
    call("fit", folder, "--out", tmp_path / "run", *FAST)
    x = np.load(folder / "2.npy")
    x[3, 1] = np.nan
    np.save(folder / "2.npy", x)
    message = call("encode", tmp_path / "run", folder, "--out", tmp_path / "z.npy", "--stream").fault()
    assert "2.npy has a cell that is NaN, infinite or missing at row 3, column 1" in message
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "shards"]
