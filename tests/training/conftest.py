from collections.abc import Iterator

import pytest
import torch


@pytest.fixture(autouse=True)
def same_numbers_each_time() -> Iterator[None]:
    """What a test draws without a seed of its own is the same in every run and every order."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield
