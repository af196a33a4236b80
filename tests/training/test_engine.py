import pytest
import torch

from jensen.errors import ConfigError, FitError
from jensen.training import resolve
from jensen.training.engine import Together, engine


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


GLOO = (
    "[/__w/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:38578: Connection reset "
    "by peer. This is typically caused by a remote worker hanging. Check the logs."
)


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError(GLOO), r"\(Read error \[127\.0\.0\.1\]:38578: Connection reset by peer\)"),
        (torch.distributed.DistNetworkError("The client socket has timed out\nmore"), "has timed out"),
        (torch.distributed.DistBackendError("NCCL error: unhandled system error"), "NCCL error"),
    ],
)
def test_a_process_that_is_gone_is_told_from_what_goes_wrong_here(error: RuntimeError, words: str) -> None:
    together = Together.__new__(Together)
    together.rank, together.world_size = 1, 2

    def fail(problem: Exception) -> None:
        raise problem

    with pytest.raises(FitError, match=f"process 1 of 2 can't reach the others.*{words}.*--resume"):
        together._alive(lambda: fail(error))
    for mine in (
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        torch.OutOfMemoryError("CUDA out"),
    ):
        with pytest.raises(type(mine), match=str(mine)):
            together._alive(lambda mine=mine: fail(mine))
