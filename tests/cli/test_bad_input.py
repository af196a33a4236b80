"""Whatever a user may get wrong: the exit code, and one line that says what to do."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from cli.calling import Call
from jensen.data import load

RNG = np.random.default_rng(0)
REAL = RNG.normal(size=(60, 4))
FAST = ("--model", "vae", "--epochs", 1, "--set", "hidden=4")


def spoiled(value: float) -> np.ndarray:
    x = REAL.copy()
    x[7, 2] = value
    return x


@pytest.fixture
def fit(call: Call, tmp_path: Path):
    """Fits to an array or a file."""

    def call_fit(data: np.ndarray | str | Path, *more: object):
        if isinstance(data, np.ndarray):
            np.save(tmp_path / "x.npy", data)
            data = tmp_path / "x.npy"
        return call("fit", data, "--out", tmp_path / "run", *FAST, *more)

    return call_fit


@pytest.fixture
def real_run(fit, tmp_path: Path) -> Path:
    """A Run on four real columns."""
    assert fit(REAL).code == 0
    return tmp_path / "run"


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_cells_that_are_not_finite(fit, call: Call, tmp_path: Path, value: float) -> None:
    message = fit(spoiled(value)).fault()
    assert "x has 1 of 240 cells that are NaN or infinite, the first at row 7, column 2" in message
    assert "Fill these cells or drop their rows" in message
    # Nothing was begun, and the same command works on better data.
    assert fit(REAL).code == 0
    np.save(tmp_path / "bad.npy", spoiled(value))
    assert "NaN or infinite" in call("evaluate", tmp_path / "run", tmp_path / "bad.npy").fault()


def test_another_number_of_columns(call: Call, real_run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "wide.npy", RNG.normal(size=(5, 6)))
    for command in ("evaluate", "encode", "score", "reconstruct"):
        out = () if command == "evaluate" else ("--out", tmp_path / "out.npy")
        message = call(command, real_run, tmp_path / "wide.npy", *out).fault()
        assert "wide has 6 columns; the model was fitted on 4. Give data of the same form" in message
        assert not (tmp_path / "out.npy").exists()


def test_intensities_for_a_bernoulli(fit, call: Call, tmp_path: Path) -> None:
    message = fit(load("digits", "valid").x, "--set", "likelihood=bernoulli").fault()
    assert "Bernoulli needs cells that are 0 or 1" in message
    assert "choose another likelihood or transform the data" in message
    binary = tmp_path / "binary"
    np.save(tmp_path / "b.npy", load("digits", "valid").x > 100)
    assert call("fit", tmp_path / "b.npy", "--out", binary, *FAST).code == 0
    message = call("evaluate", binary, "digits").fault()
    assert "holds intensities 0..255" in message
    assert "Give binary data" in message


def test_labels_in_place_of_data(fit) -> None:
    message = fit(np.arange(50)).fault()
    assert "it looks like labels in place of data" in message
    assert "x.reshape(-1, 1)" in message


@pytest.mark.parametrize("name", ["empty.npy", "empty.npz", "empty.csv"])
def test_an_empty_file(fit, tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert f"{name} is empty. Write the file again" in fit(tmp_path / name).fault()


def test_an_array_without_rows(fit) -> None:
    assert "Give at least one row" in fit(np.zeros((0, 3))).fault()


def test_one_row(fit, call: Call, real_run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", REAL[:1] + 0.5)
    message = call("fit", tmp_path / "one.npy", "--out", tmp_path / "other", *FAST).fault()
    assert "fitting needs at least 2 data, got n_samples = 1; add more" in message
    # To use a model one row is enough.
    numbers = call("evaluate", real_run, tmp_path / "one.npy", "--samples", 5, "--json").json
    assert numbers["n"] == 1
    assert numbers["nll_test_standard_error"] is None
    assert np.isfinite(numbers["nll"])


def test_constant_columns(fit, call: Call, tmp_path: Path) -> None:
    x = REAL.copy()
    x[:, 1] = 2.5
    done = fit(x, "--json")
    assert done.json["skipped_steps"] == 0
    wanted = "1 of 4 columns is the same in all training data, column 1: there is nothing to learn"
    assert done.json["note"].startswith(wanted)
    assert done.json["note"].endswith("leave such columns out")
    assert wanted in " ".join(done.err.split())
    call("report", tmp_path / "run")
    assert wanted in (tmp_path / "run/report.html").read_text(encoding="utf8")
    numbers = call("evaluate", tmp_path / "run", tmp_path / "x.npy", "--samples", 5, "--json").json
    assert np.isfinite(numbers["nll"])


def test_data_far_from_those_of_the_fit(call: Call, real_run: Path, tmp_path: Path) -> None:
    x = REAL.copy()
    x[3, 0] = 1e30
    np.save(tmp_path / "far.npy", x)
    record = call("evaluate", real_run, tmp_path / "far.npy", "--samples", 5, "--json").json
    assert record["nll"] is None
    assert "log p(x) of some data is no finite number" in record["note"]
    assert "'jensen score' says of which" in record["note"]
    # A report draws from numbers that are there.
    call("report", real_run)
    assert "Nobody had evaluated this Run" in (real_run / "report.html").read_text(encoding="utf8")


def test_a_table_with_text(fit, tmp_path: Path) -> None:
    path = tmp_path / "names.csv"
    path.write_text("name,height\nAnn,1.7\nBob,1.8\n", encoding="utf8")
    message = fit(path).fault()
    assert "has text in 1 of its 2 columns: 'name' has 'Ann'. Encode them as numbers" in message


def test_a_table_with_gaps(fit, tmp_path: Path) -> None:
    path = tmp_path / "gaps.csv"
    path.write_text("a,b\n1.5,\n2.5,3\n", encoding="utf8")
    assert "1 missing cells, in the columns 'b' (1). Fill them or drop their rows" in fit(path).fault()


def test_a_path_that_is_not_there(fit, tmp_path: Path) -> None:
    np.save(tmp_path / "train.npy", REAL)
    assert f"Did you mean {tmp_path / 'train.npy'}?" in fit(tmp_path / "trian.npy").fault()
    assert "There is no folder" in fit(tmp_path / "no" / "x.npy").fault()


def test_a_known_name_misspelt(fit, call: Call, real_run: Path) -> None:
    assert "'digist' is no known data set" in (message := fit("digist").fault())
    assert "Did you mean 'digits'?" in message
    assert "unknown split of digits 'tset'; did you mean 'test'" in fit("digits:tset").fault()
    assert "Did you mean 'digits'?" in call("evaluate", real_run, "digist").fault()


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_a_run_cut_short(call: Call, real_run: Path, tmp_path: Path, name: str) -> None:
    cut = Path(shutil.copytree(real_run, tmp_path / "cut"))
    content = (cut / name).read_bytes()
    (cut / name).write_bytes(content[: len(content) // 2])
    message = call("evaluate", cut, tmp_path / "x.npy").fault()
    assert f"{name} is damaged" in message
    assert "fit again or restore the file" in message
    (cut / name).unlink()
    message = call("sample", cut, "--out", tmp_path / "s.npy").fault()
    assert f"is not a Run, or was cut short: it has no {name}" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--set", "latent_dims=3"), "unknown option 'latent_dims'; did you mean 'latent_dim'"),
        (("--set", "latent_dim"), "--set wants key=value, got 'latent_dim'"),
        (("--set", "latent_dim=two"), "option latent_dim: input should be a valid integer"),
        (("--set", "prior=norml"), "unknown prior 'norml'; did you mean 'normal'"),
        (("--epochs", 0), "option epochs: input should be greater than 0, got '0'"),
        (("--epochs", "many"), "Invalid value for '--epochs'"),
        (("--epoch", 3), "No such option: --epoch"),
        (("--model", "vea"), "unknown model 'vea'; did you mean 'vae'"),
        (("--device", "gpu"), "unknown device 'gpu'; there are: auto, cpu, cuda"),
        (("--seed", -1), "Invalid value for '--seed'"),
        (("--seed", 2**70), "Invalid value for '--seed'"),
        (("--valid", "1.5"), "--valid wants data, or a part of the data between 0 and 1; got 1.5"),
        (("--valid", "nan"), "--valid wants data"),
        (("--valid", "digist"), "Did you mean 'digits'?"),
        (("--valid", "digits"), "the model was fitted on shape (4,)"),
        (("--target", "tall"), "is no table"),
        (("--target", "--1"), "is no table"),
    ],
    ids=str,
)
def test_options_of_fit(fit, tmp_path: Path, arguments: tuple[object, ...], message: str) -> None:
    assert message in fit(REAL, *arguments).fault()
    assert not (tmp_path / "run" / "config.json").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("fit", "digits", "--out", "x"), "Missing option '--model'"),
        (("evaluate", "x"), "Missing argument 'DATA'"),
        (("evaluates",), "No such command 'evaluates'"),
        (("evaluate", "x", "digits", "--samples", 0), "Invalid value for '--samples'"),
        (("sample", "x", "--out", "y.npy", "-n", 0), "Invalid value for '-n'"),
        (("sample", "nowhere", "--out", "y.npy"), "there is no Run at nowhere"),
        (("report", "nowhere"), "there is no Run at nowhere"),
        (("models", "beta"), "did you mean 'beta-vae'"),
    ],
    ids=str,
)
def test_wrong_use(call: Call, arguments: tuple[object, ...], message: str) -> None:
    assert message in call(*arguments).fault()


def test_a_column_that_is_not_there(fit, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b\n1.5,2\n2.5,3\n", encoding="utf8")
    assert "has no column 'c' for the labels. It has: a, b" in fit(path, "--target", "c").fault()
    assert "has no column 7 for the labels" in fit(path, "--target", 7).fault()


def test_latents_of_another_shape(call: Call, real_run: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "z.npy", np.ones((3, 5)))
    message = call("decode", real_run, tmp_path / "z.npy", "--out", tmp_path / "y.npy").fault()
    assert "should hold latents of shape (n, 16), got (3, 5); write them with 'jensen encode'" in message


@pytest.mark.parametrize("out", ["y.txt", "y"])
def test_an_ending_that_can_not_be_written(call: Call, real_run: Path, tmp_path: Path, out: str) -> None:
    assert "Use one of .npy, .npz, .csv" in call("sample", real_run, "--out", tmp_path / out).fault()


def test_an_output_where_a_folder_is(call: Call, real_run: Path, tmp_path: Path) -> None:
    (tmp_path / "y.npy").mkdir()
    message = call("sample", real_run, "--out", tmp_path / "y.npy").fault()
    assert "Choose another place" in message


def test_a_run_where_a_file_is(call: Call, tmp_path: Path) -> None:
    (tmp_path / "run").write_text("x", encoding="utf8")
    assert "can't make the folder" in call("fit", "digits:valid", "--out", tmp_path / "run", *FAST).fault()
    assert "it is a file" in call("evaluate", tmp_path / "run", "digits").fault()


def test_training_that_stays_non_finite(fit, tmp_path: Path) -> None:
    result = fit(REAL, "--epochs", 150, "--valid", 0, "--set", "learning_rate=1e30")
    assert result.code == 2
    last = result.err.splitlines()[-1]
    assert "gradient was not finite" in last
    assert "rescale the data" in last
    assert "Traceback" not in result.err


def test_memory_that_runs_out(fit, call: Call, tmp_path: Path) -> None:
    result = fit(REAL, "--set", f"samples={10**13}")
    assert result.code == 2
    last = result.err.splitlines()[-1]
    assert last.startswith("jensen: out of memory (")
    assert "raise accumulate" in last
    assert "lower batch_size, samples" in last
    assert "Traceback" not in result.err
    assert call("evaluate", tmp_path / "run", tmp_path / "x.npy", "--samples", 2, "--json").json["n"] == 60


def test_values_that_overflow(fit) -> None:
    assert "divide them by a power of ten" in fit(REAL * 1e30).fault()
    assert "Rescale the data" in fit(REAL * 1e40).fault()
