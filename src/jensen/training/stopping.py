"""When to stop, judged on a noisy bound."""

from dataclasses import dataclass
from math import sqrt

import torch
from jaxtyping import Float
from torch import Tensor


@dataclass
class EarlyStopping:
    """Stops when the validation bound hasn't improved significantly for a while.

    The bounds of each validation datum are smoothed over validations. An improvement counts as significant if
    the mean of its paired differences over the data exceeds their standard error; so slow progress adds up
    until it counts, and noise never does.

    Attributes:
        patience: Validations without a significant improvement after which to stop; None: never.
        smoothing: Part of the old value that stays at each validation.
    """

    patience: int | None
    smoothing: float = 0.5
    waited: int = 0
    best_mean: float = float("-inf")
    smoothed: Float[Tensor, " n"] | None = None
    reference: Float[Tensor, " n"] | None = None

    def update(self, bounds: Float[Tensor, " n"]) -> bool:
        """Takes note of a validation.

        Args:
            bounds: Nats for each validation datum; the same data in the same order each time.

        Returns:
            Whether the smoothed mean is the best so far.
        """
        # A bound that was not finite would stay in the smoothed ones for ever: it is forgotten.
        before = bounds if self.smoothed is None else self.smoothed
        before = torch.where(before.isfinite(), before, bounds)
        smoothed = torch.lerp(bounds, before, self.smoothing)
        if self.reference is None:
            significant = True
        elif not bool(self.reference.isfinite().all()):
            significant = bool(smoothed.isfinite().all())
        else:
            difference = (smoothed - self.reference).double()
            error = float(difference.std()) / sqrt(len(difference)) if len(difference) > 1 else 0.0
            significant = float(difference.mean()) > error
        if significant:
            self.reference = smoothed
            self.waited = 0
        else:
            self.waited += 1
        self.smoothed = smoothed
        mean = float(smoothed.double().mean())
        improved = mean > self.best_mean
        self.best_mean = mean if improved else self.best_mean
        return improved

    @property
    def stop(self) -> bool:
        """Whether it is time to stop."""
        return self.patience is not None and self.waited >= self.patience

    def state_dict(self) -> dict[str, Tensor | float | int]:
        """What has to be kept to go on later."""
        state: dict[str, Tensor | float | int] = {"waited": self.waited, "best_mean": self.best_mean}
        if self.smoothed is not None and self.reference is not None:
            state |= {"smoothed": self.smoothed, "reference": self.reference}
        return state

    def load_state_dict(self, state: dict[str, Tensor | float | int]) -> None:
        """Goes on from what was kept."""
        self.waited = int(state["waited"])
        self.best_mean = float(state["best_mean"])
        smoothed, reference = state.get("smoothed"), state.get("reference")
        self.smoothed = smoothed if isinstance(smoothed, Tensor) else None
        self.reference = reference if isinstance(reference, Tensor) else None
