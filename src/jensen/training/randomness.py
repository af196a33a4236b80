"""Random numbers that belong to one fit."""

from types import TracebackType

import torch
from torch import Tensor


class Randomness:
    """The state of torch's generators, put in place within a block and kept from one block to the next.

    Args:
        seed: Where it starts.
        device: The device that the fit runs on, whose generator it owns beside the CPU's.
    """

    def __init__(self, seed: int, device: torch.device) -> None:
        self.device = device
        self._inside = False
        outer = self._read()
        torch.manual_seed(seed)
        self._kept = self._read()
        self._write(outer)
        self._outer = outer

    @property
    def state(self) -> list[Tensor]:
        """The state of the fit's generators as it is now, within a block too."""
        return self._read() if self._inside else self._kept

    @state.setter
    def state(self, states: list[Tensor]) -> None:
        self._kept = states

    def rewind(self, states: list[Tensor]) -> None:
        """Puts the generators, within a block, back to a state that they had there."""
        self._write(states)

    def _read(self) -> list[Tensor]:
        states = [torch.get_rng_state()]
        if self.device.type == "cuda":
            states.append(torch.cuda.get_rng_state(self.device))
        return states

    def _write(self, states: list[Tensor]) -> None:
        torch.set_rng_state(states[0])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(states[1], self.device)

    def __enter__(self) -> None:
        """Puts the fit's generators in place."""
        self._outer = self._read()
        self._write(self._kept)
        self._inside = True

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keeps them and puts the user's back."""
        self._kept = self._read()
        self._inside = False
        self._write(self._outer)
