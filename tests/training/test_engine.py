import pytest
import torch

from jensen.errors import ConfigError
from jensen.training import resolve
from jensen.training.engine import engine


def test_auto_is_a_gpu_if_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, name in ((True, "cuda"), (False, "cpu")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda there=there: there)
        assert resolve("auto") == torch.device(name)
        assert resolve("cpu") == torch.device("cpu")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU here; use device='cpu' or 'auto'"):
        resolve("cuda")
    with pytest.raises(ConfigError, match=r"unknown device 'tpu'.*auto, cpu, cuda"):
        resolve("tpu")


def test_the_engine_is_one_process_on_the_device() -> None:
    alone = engine("cpu")
    assert alone.device == torch.device("cpu")
    assert (alone.rank, alone.world_size) == (0, 1)
