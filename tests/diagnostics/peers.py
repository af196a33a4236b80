import warnings
from types import ModuleType

import pytest


def arviz() -> ModuleType:
    """ArviZ, which warns when it is imported; the test is skipped where it isn't installed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("arviz")
