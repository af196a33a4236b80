"""How to train."""

from dataclasses import dataclass
from math import cos, pi
from typing import Literal


@dataclass(frozen=True)
class Settings:
    """How to train.

    Attributes:
        epochs: Passes over the data.
        learning_rate: Adam's highest step size.
        warm_up: Part of the steps, 0 to 1, over which the step size grows from zero.
        decay: Whether the step size then falls along a half cosine to zero, or stays.
        weight_decay: Decoupled weight decay.
        clip_norm: Largest norm of the gradient; longer ones are scaled down. None: never.
        averaging: Decay of the exponential moving average of the weights, which is what is evaluated and kept.
            None: none.
        guard: Whether steps with a non-finite gradient are skipped and counted.
        patience: Validations without a significant improvement after which training stops. None: never.
        validate_every: Epochs from one validation to the next.
        accumulate: Parts in which a process takes its share of a batch, one after the other, adding up their
            gradients; each needs the memory of a part only.
        capture: "auto" has the step repeated where that can be, from a recording of its gradients on the processor, as
            a CUDA graph on a GPU; "off" does it operation by operation.
        threads: Of the processor, for the steps; None: one for small models, else torch's own number.
        second_stage: Part of the epochs that the objective's second stage has, at the end; 0: there is none. It begins
            earlier, and is as long, where the first one is out of patience.
    """

    epochs: int = 100
    learning_rate: float = 1e-3
    warm_up: float = 0.01
    decay: bool = False
    weight_decay: float = 0.0
    clip_norm: float | None = 100.0
    averaging: float | None = 0.9998
    guard: bool = True
    patience: int | None = 10
    validate_every: int = 1
    accumulate: int = 1
    capture: Literal["auto", "off"] = "auto"
    threads: int | None = None
    second_stage: float = 0.0

    def rate(self, fraction: float) -> float:
        """The step size when that part of the steps is done.

        Example:
            >>> Settings(learning_rate=1.0, warm_up=0.5).rate(0.25)
            0.5
        """
        if fraction < self.warm_up:
            return self.learning_rate * fraction / self.warm_up
        if not self.decay:
            return self.learning_rate
        done = (fraction - self.warm_up) / max(1 - self.warm_up, 1e-12)
        return self.learning_rate * 0.5 * (1 + cos(pi * min(done, 1.0)))
