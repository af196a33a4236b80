import ast
import errno
import json
import math
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import jensen
from conftest import made
from jensen.errors import RunError
from jensen.report import write
from jensen.runs import Run, fit
from jensen.runs.storage import (
    flatten,
    read_json,
    read_state,
    read_tensors,
    unflatten,
    write_bytes,
    write_json,
    write_state,
    write_tensors,
)
from runs.test_fitting import Interrupter

DTYPES = (torch.float32, torch.float64, torch.uint8, torch.int64, torch.bool)
TENSORS = st.builds(
    lambda dtype, shape, value: torch.full(shape, value).to(dtype),
    st.sampled_from(DTYPES),
    st.lists(st.integers(0, 3), max_size=3),
    st.floats(-100, 100),
)
# Paths are made of names with "/", and text made of digits stands for a number.
NAMES = st.text(st.characters(exclude_characters="/", codec="utf-8")).filter(
    lambda name: name not in ("tensor", "number") and not name.isdigit()
)
TREES = st.recursive(
    TENSORS
    | st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(NAMES | st.integers(0, 50), inner, max_size=3)
    ),
    max_leaves=10,
)


def assert_same(one: object, other: object) -> None:
    assert type(one) is type(other)
    if isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert list(one) == list(other)
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for mine, yours in zip(one, other, strict=True):
            assert_same(mine, yours)
    else:
        assert one == other


@settings(deadline=None, max_examples=150)
@given(TREES)
def test_unflatten_is_the_inverse_of_flatten(tree: object) -> None:
    tensors, rest = flatten(tree)
    assert_same(unflatten(tensors, json.loads(json.dumps(rest))), tree)


def test_state_comes_back_from_the_disk(tmp_path: Path) -> None:
    state = {
        "optimiser": {0: {"exp_avg": torch.randn(2, 3)}, 1: {"step": torch.tensor(3.0)}},
        "random": [torch.get_rng_state(), 1, None],
        "best": None,
        "none": {},
        "mean": -math.inf,
        "third": 1 / 3,
        "transposed": torch.arange(6).reshape(2, 3).mT,
    }
    write_state(tmp_path / "resume", state)
    assert_same(read_state(tmp_path / "resume"), state)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["resume.json", "resume.safetensors"]


def strictly(text: str) -> object:
    """JSON without the words for numbers that only Python knows."""

    def refuse(word: str) -> float:
        raise AssertionError(f"{word} is no JSON")

    return json.loads(text, parse_constant=refuse)


def test_json_is_that_of_the_standard(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [math.nan, 1.5, {"b": -math.inf}]})
    assert strictly((tmp_path / "a.json").read_text(encoding="utf8")) == {"a": [None, 1.5, {"b": None}]}
    write_state(tmp_path / "state", {"best": -math.inf, "worst": math.inf})
    assert strictly((tmp_path / "state.json").read_text(encoding="utf8"))
    assert read_state(tmp_path / "state") == {"best": -math.inf, "worst": math.inf}


def test_every_file_of_a_run_is_strict_json_where_one_datum_is_validated(tmp_path: Path) -> None:
    """There is no standard error of one datum, and no best bound before the first validation."""
    folder = tmp_path / "run"
    data = made("real", n=20, shape=(3,))
    options = {"epochs": 2, "latent_dim": 2, "hidden": 4, "batch_size": 10}
    fit(data, options=options, valid=0.05, folder=folder, watcher=Interrupter(1))
    for number, resume in enumerate((False, True)):
        run = (
            fit(data, options=options, valid=0.05, folder=folder, resume=True) if resume else Run.load(folder)
        )
        run.add_evaluation({"data": "one", "nll": 1.5, "nll_test_standard_error": math.nan})
        for name in ("config", "resume", "status", "evaluations"):
            assert strictly((folder / f"{name}.json").read_text(encoding="utf8")), (name, number)
        for line in (folder / "metrics.jsonl").read_text(encoding="utf8").splitlines():
            assert strictly(line)
        assert run.evaluations == Run.load(folder).evaluations
    assert run.history == Run.load(folder).history
    assert run.history[-1]["valid"]["standard_error"] is None
    run.evaluations = []
    write(run, data)


def test_state_does_not_need_the_json_beside_it(tmp_path: Path) -> None:
    write_state(tmp_path / "resume", {"a": torch.ones(2)})
    (tmp_path / "resume.json").write_text("{", encoding="utf8")
    assert_same(read_state(tmp_path / "resume"), {"a": torch.ones(2)})


def test_tensors_that_share_memory(tmp_path: Path) -> None:
    both = torch.arange(4.0)
    write_tensors(tmp_path / "x.safetensors", {"a": both, "b": both[1:]})
    found = read_tensors(tmp_path / "x.safetensors")
    assert_same(dict(sorted(found.items())), {"a": both, "b": both[1:]})


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_write_that_fails_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    path = tmp_path / "x.json"
    write_json(path, {"a": 1})

    def full(descriptor: int) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr("jensen.runs.storage.os.fsync", full)
    with pytest.raises(RunError, match=f"{os.strerror(code)}; what was saved before is there still"):
        write_json(path, {"a": 2})
    assert read_json(path) == {"a": 1}
    assert [each.name for each in tmp_path.iterdir()] == ["x.json"]


def test_content_is_on_the_disk_before_the_file_takes_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x"
    seen: list[tuple[bool, int]] = []
    monkeypatch.setattr(
        "jensen.runs.storage.os.fsync", lambda fd: seen.append((path.exists(), os.fstat(fd).st_size))
    )
    write_bytes(path, b"12345")
    assert seen == [(False, 5)]
    assert path.read_bytes() == b"12345"


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"3", b"\xff\xfe\x00", b"nul"])
def test_damaged_json(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"config\.json is damaged.*; fit again or restore the file"):
        read_json(path)


@pytest.mark.parametrize("reader", [read_json, read_tensors])
def test_missing_file(tmp_path: Path, reader) -> None:
    with pytest.raises(RunError, match=r"is not a Run, or was cut short: it has no thing\.json"):
        reader(tmp_path / "thing.json")


@pytest.mark.parametrize("cut", [0, 4, 20, -1])
def test_damaged_tensors(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "w.safetensors"
    write_tensors(path, {"a": torch.randn(10)})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(RunError, match=r"w\.safetensors is damaged"):
        read_tensors(path)


def test_tensors_that_are_no_state(tmp_path: Path) -> None:
    write_tensors(tmp_path / "resume.safetensors", {"a": torch.ones(1)})
    with pytest.raises(RunError, match="can't be resumed, fit again"):
        read_state(tmp_path / "resume")


def test_nothing_is_ever_unpickled() -> None:
    banned = {"pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
    sources = list(Path(jensen.__file__).parent.rglob("*.py"))
    assert len(sources) > 50
    for source in sources:
        for node in ast.walk(ast.parse(source.read_text(encoding="utf8"))):
            if isinstance(node, ast.Import):
                assert not banned & {alias.name.partition(".")[0] for alias in node.names}, source
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in banned, source
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in {"torch.load", "eval", "exec", "pd.read_pickle"}, source
                for keyword in node.keywords:
                    if keyword.arg == "allow_pickle":
                        assert ast.unparse(keyword.value) == "False", source
            elif isinstance(node, ast.Attribute) and node.attr == "load":
                assert ast.unparse(node) not in {"torch.load", "torch.jit.load"}, source
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "np.load":
                assert "allow_pickle" in {keyword.arg for keyword in node.keywords}, source
