"""What tests of several rooms share: one thread, and one small fitted Run."""

import os
from pathlib import Path

# Before torch is imported here or in a process that a test starts.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import pytest
import torch
from hypothesis import settings

from jensen.data import Dataset, from_array, load, take
from jensen.runs import Run, fit

torch.set_num_threads(1)
# Machines are shared: no test fails for the time that it took.
settings.register_profile("jensen", deadline=None)
settings.load_profile("jensen")

KINDS = ("binary", "uint8", "counts", "real")


def made(kind: str, n: int = 60, shape: tuple[int, ...] = (4, 4), seed: int = 0) -> Dataset:
    """Random data of one kind."""
    rng = np.random.default_rng(seed)
    arrays = {
        "binary": lambda: rng.integers(0, 2, (n, *shape)),
        "uint8": lambda: rng.integers(0, 256, (n, *shape)).astype(np.uint8),
        "counts": lambda: rng.poisson(3.0, (n, *shape)),
        "real": lambda: 5 + 3 * rng.standard_normal((n, *shape)),
    }
    dataset = from_array(arrays[kind](), name=kind)
    assert dataset.schema.kind == kind
    return dataset


@pytest.fixture(scope="session")
def digits_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Run on handwritten digits, fitted for two epochs; tests must not change it."""
    folder = tmp_path_factory.mktemp("shared") / "run"
    fit(
        take(load("digits"), slice(0, 300)),
        options={"epochs": 2, "hidden": 24, "latent_dim": 3},
        valid=0.2,
        folder=folder,
    )
    return folder


@pytest.fixture
def digits_run(digits_folder: Path) -> Run:
    """That Run in memory, where it has no folder."""
    run = Run.load(digits_folder)
    run.folder = None
    return run
