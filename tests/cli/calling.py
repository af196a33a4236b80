"""Calls the command as a shell would, within the process of the tests."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from unittest import mock

import pytest

from jensen.cli import main


@dataclass(frozen=True)
class Result:
    """What a command leaves: its exit code and what it printed."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object on standard output."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is no JSON")

        assert self.code == 0, self
        assert len(self.out.splitlines()) == 1
        content = json.loads(self.out, parse_constant=refuse)
        assert isinstance(content, dict)
        return content

    def fault(self) -> str:
        """The one line that a user's fault is answered with."""
        assert (self.code, self.out) == (2, ""), self
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("jensen: ")
        assert "Traceback" not in self.err
        return lines[0]


Call = Callable[..., Result]


def caller(capsys: pytest.CaptureFixture[str]) -> Call:
    """A function that calls the command with some arguments."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        with (
            mock.patch.object(sys, "argv", ["jensen", *map(str, arguments)]),
            pytest.raises(SystemExit) as left,
        ):
            main()
        captured = capsys.readouterr()
        return Result(int(left.value.code or 0), captured.out, captured.err)

    return call
