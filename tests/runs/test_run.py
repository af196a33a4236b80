import json
import pickle
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

import jensen
from conftest import KINDS, made
from jensen.data import Schema, from_array
from jensen.errors import RunError, ShapeError, SupportError
from jensen.evaluation import evidence
from jensen.runs import Run, fit, snapshot
from jensen.runs.run import read_metrics
from jensen.runs.storage import read_json, read_tensors, write_json, write_tensors
from jensen.seeding import seeded

SMALL = {"epochs": 2, "latent_dim": 2, "hidden": 6, "batch_size": 16}


def same_weights(one: torch.nn.Module, other: torch.nn.Module) -> bool:
    mine, yours = one.state_dict(), other.state_dict()
    return list(mine) == list(yours) and all(torch.equal(mine[name], yours[name]) for name in mine)


@pytest.fixture
def copied_run(digits_folder: Path, tmp_path: Path) -> Path:
    """A copy of the shared Run that may be damaged."""
    return Path(shutil.copytree(digits_folder, tmp_path / "copy"))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "options",
    [
        {"hidden": 6},
        {"prior": "mixture", "posterior": "full-normal", "network": "residual", "channels": "2"},
        {"likelihood": "normal", "scale": "network", "network": "conv", "channels": "2", "dropout": 0.1},
        {"likelihood": "normal", "scale": 0.3, "hidden": "", "input_dropout": 0.5, "averaging": None},
    ],
    ids=["defaults", "full", "network", "fixed"],
)
def test_a_saved_run_gives_the_same_numbers_to_the_bit(tmp_path: Path, kind: str, options: dict) -> None:
    dataset = made(kind)
    run = fit(dataset, options={"epochs": 2, "latent_dim": 2, "batch_size": 16, **options}, valid=0.2, seed=3)
    run.save(tmp_path / "a" / "run")
    assert run.folder == tmp_path / "a" / "run"
    loaded = Run.load(tmp_path / "a" / "run")
    assert same_weights(run.model, loaded.model)
    assert not loaded.model.training
    x = run.prepare(dataset)
    assert torch.equal(loaded.prepare(dataset), x)
    assert torch.equal(evidence(loaded.model, x, 5).value, evidence(run.model, x, 5).value)
    with seeded(1):
        one = run.model.sample(3)
    with seeded(1):
        assert torch.equal(loaded.model.sample(3), one)
    assert (loaded.recipe, loaded.config, loaded.schema) == (run.recipe, run.config, run.schema)
    assert loaded.history == json.loads(json.dumps(run.history))
    assert loaded.about == run.about
    assert np.array_equal(loaded.examples.x, run.examples.x)
    assert loaded.examples.x.dtype == run.examples.x.dtype
    assert loaded.examples.name == run.examples.name


def test_what_is_in_the_folder(digits_folder: Path) -> None:
    assert sorted(path.name for path in digits_folder.iterdir()) == [
        ".lock",
        "config.json",
        "examples.safetensors",
        "metrics.jsonl",
        "resume.json",
        "resume.safetensors",
        "status.json",
        "weights.safetensors",
    ]
    config = read_json(digits_folder / "config.json")
    assert config["format"] == 2
    assert config["recipe"] == "vae"
    assert config["options"]["latent_dim"] == 3
    assert config["options"]["likelihood"] == "logistic-256"
    assert config["schema"] == {"event_shape": [8, 8], "kind": "uint8", "columns": None}
    assert set(config["versions"]) == {"jensen", "torch", "python"}
    about = config["about"]
    assert about["data"].startswith("digits")
    assert (about["n"], about["n_valid"], about["seed"]) == (240, 60, 0)
    lines = (digits_folder / "metrics.jsonl").read_text(encoding="utf8").splitlines()
    records = [json.loads(line) for line in lines]
    assert [(r["epoch"], r["step"], r["status"]) for r in records] == [
        (1, 3, "running"),
        (2, 6, "finished"),
    ]
    for record in records:
        assert set(record["train"]) == {"elbo", "log_likelihood", "kl"}
        assert set(record["valid"]) == {"elbo", "standard_error"}
        assert record["skipped"] == 0


def test_columns_labels_and_evaluations_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    dataset = from_array(rng.normal(size=(30, 2)), rng.integers(0, 3, 30), columns=("height", "weight"))
    run = fit(dataset, options=SMALL)
    run.add_evaluation({"data": "one", "samples": 5, "seed": 0, "nll": 1.5})
    run.save(tmp_path)
    loaded = Run.load(tmp_path)
    assert loaded.schema.columns == ("height", "weight")
    assert np.array_equal(loaded.examples.y, run.examples.y)
    assert loaded.evaluations == [{"data": "one", "samples": 5, "seed": 0, "nll": 1.5}]
    # The same data and settings again replace the record, others join it.
    loaded.add_evaluation({"data": "one", "samples": 5, "seed": 0, "nll": 2.5})
    loaded.add_evaluation({"data": "two", "samples": 5, "seed": 0, "nll": 3.5})
    assert [e["nll"] for e in Run.load(tmp_path).evaluations] == [2.5, 3.5]


def test_loading_leaves_the_users_generator_alone(digits_folder: Path) -> None:
    before = torch.get_rng_state()
    Run.load(digits_folder)
    assert torch.equal(torch.get_rng_state(), before)


def test_prepare_binarises_intensities_that_stand_for_probabilities() -> None:
    x = np.tile(np.array([0, 51, 255], dtype=np.uint8), (2000, 1))
    dataset = replace(from_array(x), schema=Schema((3,), "binary"), dynamic=True)
    run = fit(dataset, options={**SMALL, "epochs": 1})
    first = run.prepare(dataset, seed=1)
    assert torch.equal(first, run.prepare(dataset, seed=1))
    assert not torch.equal(first, run.prepare(dataset, seed=2))
    means = first.mean(0)
    assert (means[0], means[2]) == (0, 1)
    assert float(means[1]) == pytest.approx(0.2, abs=4 * (0.2 * 0.8 / 2000) ** 0.5)


def test_prepare_refuses_other_data(digits_run: Run) -> None:
    with pytest.raises(ShapeError, match=r"data of shape \(4, 4\); the model was fitted on shape \(8, 8\)"):
        digits_run.prepare(made("uint8"))
    with pytest.raises(SupportError, match="holds real data, such as"):
        digits_run.prepare(made("real", shape=(8, 8)))


DAMAGES = {
    "half": lambda content: content[: len(content) // 2],
    "all but a byte": lambda content: content[:-1],
    "empty": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: np.random.default_rng(0).bytes(len(content)),
    "object": lambda content: b"{}",
    "list": lambda content: b"[]",
    "number": lambda content: b"1",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
@pytest.mark.parametrize(
    "name", ["config.json", "weights.safetensors", "examples.safetensors", "evaluations.json"]
)
def test_a_damaged_file_is_named(copied_run: Path, name: str, damage) -> None:
    write_json(copied_run / "evaluations.json", {"evaluations": [{"nll": 1.0}]})
    path = copied_run / name
    path.write_bytes(damage(path.read_bytes()))
    if name.endswith("json") and damage is DAMAGES["all but a byte"]:
        # The last byte is the end of the line.
        Run.load(copied_run)
        return
    with pytest.raises(RunError, match=name.replace(".", r"\.")) as caught:
        Run.load(copied_run)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_metrics_are_read_as_far_as_they_are_whole(copied_run: Path, damage) -> None:
    path = copied_run / "metrics.jsonl"
    whole = read_metrics(copied_run)
    path.write_bytes(damage(path.read_bytes()))
    found = Run.load(copied_run).history
    assert found == whole[: len(found)]


@pytest.mark.parametrize(
    "wrong",
    [
        {"epoch": "x"},
        {"step": None},
        {"status": 3},
        {"seconds": []},
        {"rate": {}},
        {"skipped": None},
        {"train": None},
        {"valid": {}},
        {"valid": "x"},
    ],
    ids=str,
)
def test_metrics_of_another_form_end_the_history(copied_run: Path, wrong: dict[str, object]) -> None:
    path = copied_run / "metrics.jsonl"
    first, second = (json.loads(line) for line in path.read_text(encoding="utf8").splitlines())
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second | wrong)}\n", encoding="utf8")
    assert Run.load(copied_run).history == [first]
    assert snapshot(copied_run).epoch == 1


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors", "metrics.jsonl"])
def test_a_folder_where_a_file_belongs(copied_run: Path, name: str) -> None:
    (copied_run / name).unlink()
    (copied_run / name).mkdir()
    with pytest.raises(RunError, match=rf"can't read .*{name}: Is a directory; check what is there"):
        Run.load(copied_run)


def test_metrics_cut_in_the_last_line(copied_run: Path) -> None:
    path = copied_run / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-10])
    assert [record["epoch"] for record in Run.load(copied_run).history] == [1]


@pytest.mark.parametrize("name", ["config.json", "weights.safetensors"])
def test_a_missing_file_is_named(copied_run: Path, name: str) -> None:
    (copied_run / name).unlink()
    with pytest.raises(RunError, match=f"is not a Run, or was cut short: it has no {name}"):
        Run.load(copied_run)


@pytest.mark.parametrize("name", ["metrics.jsonl", "examples.safetensors", "resume.safetensors"])
def test_what_only_pictures_and_resuming_need_may_be_missing(copied_run: Path, name: str) -> None:
    whole = Run.load(copied_run)
    (copied_run / name).unlink()
    loaded = Run.load(copied_run)
    for key, value in whole.model.state_dict().items():
        assert torch.equal(loaded.model.state_dict()[key], value)


def test_other_folders(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"there is no Run at .*nowhere: no such folder"):
        Run.load(tmp_path / "nowhere")
    (tmp_path / "file").write_text("x", encoding="utf8")
    with pytest.raises(RunError, match="it is a file"):
        Run.load(tmp_path / "file")
    with pytest.raises(RunError, match=r"is not a Run.*no config\.json"):
        Run.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c.update(format=99, versions={"jensen": "9.0"}),
            r"has layout 99, that of a newer jensen \(9\.0\).*reads layout \d+: update it",
        ),
        (lambda c: c.update(format=1), r"has layout 1, that of an older jensen .*or fit again"),
        (lambda c: c.update(recipe="vea"), r"config\.json is not that of a Run .*did you mean 'vae'"),
        (lambda c: c["options"].update(latent_dims=3), r"config\.json is not that of a Run .*'latent_dims'"),
        (lambda c: c["options"].update(likelihood="x"), r"config\.json is not that of a Run .*unknown like"),
        (lambda c: c.pop("schema"), r"config\.json is not that of a Run .*schema"),
        (lambda c: c["schema"].update(event_shape=[8, "x"]), r"config\.json is not that of a Run"),
        (lambda c: c["schema"].update(event_shape=[-8, 8]), "its schema describes no data"),
        (lambda c: c["schema"].update(event_shape=[]), "its schema describes no data"),
        (lambda c: c["schema"].update(columns=["a"]), "its schema describes no data"),
        (lambda c: c["schema"].update(columns="ab"), "its schema describes no data"),
        (lambda c: c["schema"].update(kind="colour"), "its schema describes no data"),
        (lambda c: c.update(about=3), r"config\.json is not that of a Run"),
        (lambda c: c["about"].update(n="many"), "'n' in 'about' is no int: 'many'"),
        (lambda c: c["about"].update(date=2026), "'date' in 'about' is no str: 2026"),
        (lambda c: c["options"].update(latent_dim=4), r"weights\.safetensors doesn't fit config\.json: size"),
        (lambda c: c["options"].update(hidden=[24, 24]), r"weights\.safetensors doesn't fit config\.json"),
    ],
)
def test_a_config_that_is_not_this_runs(copied_run: Path, change, message: str) -> None:
    content = read_json(copied_run / "config.json")
    change(content)
    write_json(copied_run / "config.json", content)
    with pytest.raises(RunError, match=message):
        Run.load(copied_run)


def test_evaluations_of_another_form(copied_run: Path) -> None:
    write_json(copied_run / "evaluations.json", {"evaluations": [{"nll": 1.0}, 3]})
    with pytest.raises(RunError, match=r"evaluations\.json is damaged: it should hold a list of evaluations"):
        Run.load(copied_run)


def test_weights_of_another_run(copied_run: Path) -> None:
    weights = read_tensors(copied_run / "weights.safetensors")
    name = next(iter(weights))
    write_tensors(copied_run / "weights.safetensors", {k: v for k, v in weights.items() if k != name})
    with pytest.raises(RunError, match=r"weights\.safetensors doesn't fit config\.json: Missing key"):
        Run.load(copied_run)


def test_a_pickle_in_place_of_weights_is_not_run(copied_run: Path) -> None:
    marker = copied_run / "executed"

    class Harm:
        def __reduce__(self):
            return (Path.touch, (marker,))

    for name in ("weights.safetensors", "config.json", "examples.safetensors"):
        folder = Path(shutil.copytree(copied_run, copied_run.with_name(name)))
        (folder / name).write_bytes(pickle.dumps(Harm()))
        with pytest.raises(RunError, match=name):
            Run.load(folder)
    assert not marker.exists()


def test_saving_where_a_file_is(digits_run: Run, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("x", encoding="utf8")
    with pytest.raises(RunError, match=r"can't make the folder .*taken"):
        digits_run.save(tmp_path / "taken")
    with pytest.raises(RunError, match="can't make the folder"):
        digits_run.save(tmp_path / "taken" / "below")


def test_saving_on_a_full_disk(digits_run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("jensen.runs.storage.os.fsync", full)
    with pytest.raises(RunError, match=r"can't write .*weights.*No space left"):
        digits_run.save(tmp_path / "run")


def test_the_run_says_what_it_was_made_with(digits_run: Run) -> None:
    assert digits_run.about["versions"]["jensen"] == jensen.__version__
    assert digits_run.about["versions"]["torch"] == torch.__version__
    assert asdict(digits_run.schema)["event_shape"] == (8, 8)
    assert digits_run.device == torch.device("cpu")
