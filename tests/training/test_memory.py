"""Running out of memory: what the user is told, and what is not taken for it."""

import pytest
import torch
from torch import Tensor

from jensen.errors import FitError
from jensen.training import Batch, Progress
from jensen.training.memory import saying_what_to_lower
from training.examples import Regression, training

KNOBS = ("accumulate", "batch_size", "samples", "hidden widths", "checkpointing=true", "precision=bf16-mixed")
GPU = "CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of 8.00 GiB\nmore"


class Greedy(Regression):
    """Wants more memory at its fifth step than any machine has."""

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        if progress.step == 5:
            torch.empty(2**58)
        return super().forward(batch, progress)


def told(error: pytest.ExceptionInfo[FitError]) -> str:
    text = str(error.value)
    assert "\n" not in text
    for knob in KNOBS:
        assert knob in text, knob
    assert "What was saved last is kept" in text
    return text


def test_the_processor_s_allocator() -> None:
    fit = training(Greedy())
    with pytest.raises(FitError, match="out of memory") as error:
        list(fit.run())
    assert "allocate" in told(error)
    assert fit.step == 5
    assert not fit.objective.training


@pytest.mark.parametrize("error", [torch.OutOfMemoryError(GPU), MemoryError(), MemoryError("array of 9 GiB")])
def test_a_gpu_s_and_python_s(error: Exception) -> None:
    with pytest.raises(FitError) as caught, saying_what_to_lower():
        raise error
    text = told(caught)
    assert (str(error).splitlines() or ["MemoryError"])[0] in text


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes cannot be multiplied"), RuntimeError(), KeyError("a")]
)
def test_other_errors_stay_what_they_are(error: Exception) -> None:
    with pytest.raises(type(error)) as caught, saying_what_to_lower():
        raise error
    assert caught.value is error
