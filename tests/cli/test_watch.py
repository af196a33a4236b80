"""What ``jensen watch`` shows, and curves as text."""

import json
import shutil
import time
from pathlib import Path

import pytest
from rich.console import Console

from cli.calling import Call
from jensen.cli.plotting import plot, sparkline
from jensen.cli.watching import watch
from jensen.runs import Run
from jensen.runs.processes import this_process


def text_of(folder: Path, width: int = 100) -> str:
    console = Console(width=width, force_terminal=False)
    with console.capture() as captured:
        watch(folder, once=True, as_json=False, console=console)
    return captured.get()


def test_one_run_for_people(digits_folder: Path) -> None:
    last = Run.load(digits_folder).history[-1]
    text = text_of(digits_folder)
    assert "finished  vae on digits:train" in text
    assert "epoch 2/2" in text
    assert f"train {last['train']['elbo']:.2f} nats" in text
    assert f"valid {last['valid']['elbo']:.2f} ± {last['valid']['standard_error']:.2f} nats" in text
    # A curve of two epochs, from the first to the last.
    assert any(0x2800 < ord(c) <= 0x28FF for c in text)
    assert "epoch 1" in text


def test_a_run_as_json(call: Call, digits_folder: Path) -> None:
    seen = call("watch", digits_folder, "--json").json
    history = Run.load(digits_folder).history
    assert (seen["state"], seen["epoch"], seen["epochs"], seen["active"]) == ("finished", 2, 2, False)
    assert seen["curve"] == [
        {"epoch": r["epoch"], "elbo": r["train"]["elbo"], "valid_elbo": r["valid"]["elbo"]} for r in history
    ]


def test_a_folder_of_runs(call: Call, digits_folder: Path, tmp_path: Path) -> None:
    for name in ("b", "a"):
        shutil.copytree(digits_folder, tmp_path / name)
    status = json.loads((tmp_path / "b" / "status.json").read_text(encoding="utf8"))
    status["status"], status["process"]["started"] = "running", 1
    (tmp_path / "b" / "status.json").write_text(json.dumps(status), encoding="utf8")
    seen = call("watch", tmp_path, "--json").json["runs"]
    assert [(Path(s["folder"]).name, s["state"]) for s in seen] == [("a", "finished"), ("b", "killed")]
    result = call("watch", tmp_path)
    # Nobody is watching: it looks once and leaves.
    assert result.code == 0
    assert "killed" in result.out
    assert "2/2" in result.out


def test_a_live_view_leaves_when_the_run_is_done(digits_folder: Path, tmp_path: Path, monkeypatch) -> None:
    path = Path(shutil.copytree(digits_folder, tmp_path / "run"))
    status = json.loads((path / "status.json").read_text(encoding="utf8"))
    running = status | {"status": "running", "process": this_process(), "heartbeat": time.time()}
    (path / "status.json").write_text(json.dumps(running), encoding="utf8")
    looks: list[float] = []

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        (path / "status.json").write_text(json.dumps(status), encoding="utf8")

    monkeypatch.setattr("jensen.cli.watching.time.sleep", sleep)
    console = Console(width=90, force_terminal=True)
    with console.capture() as captured:
        watch(path, once=False, as_json=False, console=console)
    assert len(looks) == 1
    assert captured.get().index("running") < captured.get().index("finished")


def test_what_is_no_run(call: Call, tmp_path: Path) -> None:
    assert "there is no Run in" in call("watch", tmp_path).fault()
    assert "no such folder" in call("watch", tmp_path / "x", "--once").fault()


def test_an_unknown_logger(call: Call, tmp_path: Path) -> None:
    message = call(
        "fit", "digits", "--model", "vae", "--out", tmp_path / "run", "--log", "tensorbord"
    ).fault()
    assert "unknown logger 'tensorbord'; did you mean 'tensorboard'" in message
    assert not (tmp_path / "run").exists()


def test_sparklines() -> None:
    assert sparkline([]) == ""
    assert sparkline([1.0]) == "▅"
    assert sparkline([0.0, 7.0], 10) == "▁█"
    # The last of each place, so that the newest value is always there.
    assert sparkline([float(i) for i in range(100)], 4) == "▁▃▆█"


def test_a_plot_has_its_curves_where_they_belong() -> None:
    rising = [(float(i), float(i)) for i in range(10)]
    lines = plot([("cyan", rising)], 10, 5, braille=False)
    rows = [text.plain for _, text in lines]
    assert [row.index("*") for row in rows if "*" in row] == sorted(
        (row.index("*") for row in rows if "*" in row), reverse=True
    )
    assert rows[0].rstrip().endswith("*")
    assert lines[0][0] == "9.0"
    # The start, below what later epochs span, is left out.
    assert not rows[-1].startswith("*")
    assert float(lines[-1][0]) == pytest.approx(1 - 0.05 * 8, abs=0.1)


def test_the_later_curve_is_seen_where_two_cross() -> None:
    flat = [(float(i), 1.0) for i in range(5)]
    cross = [(float(i), i / 2) for i in range(5)]
    middle = plot([("cyan", flat), ("magenta", cross)], 5, 3, braille=False)[1][1]
    assert middle.plain == "*****"
    styles = {span.start: str(span.style) for span in middle.spans}
    # From the first epochs the lower end is left out; three lines round 1 and 1.5 to the middle one.
    assert [styles[column] for column in range(5)] == ["cyan", "cyan", "magenta", "magenta", "cyan"]


def test_a_plot_of_nothing() -> None:
    assert [text.plain for _, text in plot([("cyan", [])], 3, 2)] == ["   ", "   "]
