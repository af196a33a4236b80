import json

import pytest

from jensen.cli.output import show


def test_a_result_within_a_result_has_rows_of_its_own(capsys: pytest.CaptureFixture[str]):
    show({"n": 3, "valid": {"accuracy": 0.5}}, False)
    printed = capsys.readouterr().out
    assert "valid accuracy" in printed
    assert "{" not in printed


def test_json_keeps_it_as_it_is(capsys: pytest.CaptureFixture[str]):
    show({"valid": {"accuracy": 0.5}}, True)
    assert json.loads(capsys.readouterr().out) == {"valid": {"accuracy": 0.5}}
