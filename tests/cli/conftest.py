import pytest

from cli.calling import Call, caller


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """The command."""
    return caller(capsys)
