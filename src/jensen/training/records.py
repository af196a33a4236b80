"""Means of what the steps of an epoch report."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

_AT_ONCE = 100


class Records:
    """Means over the data of what steps report of each datum, non-finite values left out.

    A step only hands its tensors over; they are summed up a hundred steps at a time, so that a step spends
    nothing on them and nothing waits for the device.
    """

    def __init__(self) -> None:
        self._waiting: list[Mapping[str, Tensor]] = []
        self._steps = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, record: Mapping[str, Float[Tensor, "..."]]) -> None:
        """Takes the record of a step: for each name a number for each datum, (batch,), or one for all, ()."""
        self._waiting.append(record)
        self._steps += 1
        if self._steps == _AT_ONCE:
            self._sum_up()

    def means(self) -> dict[str, float]:
        """The means so far; a name none of whose values was finite is left out. Waits for the device."""
        self._sum_up()
        found = {name: total.tolist() for name, total in self._sums.items()}
        return {name: total / count for name, (total, count) in found.items() if count > 0}

    def clear(self) -> None:
        """Begins anew."""
        self._waiting, self._steps, self._sums = [], 0, {}

    def _sum_up(self) -> None:
        for name, values in self._joined().items():
            values = values.double()
            finite = values.isfinite()
            total = torch.stack([torch.where(finite, values, 0.0).sum(), finite.sum().double()])
            self._sums[name] = self._sums[name] + total if name in self._sums else total
        self._waiting, self._steps = [], 0

    def _joined(self) -> dict[str, Tensor]:
        names = self._waiting[0] if self._waiting else ()
        return {name: torch.cat([record[name].reshape(-1) for record in self._waiting]) for name in names}

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on with the same numbers, to the last bit."""
        return {"sums": dict(self._sums), "waiting": self._joined(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that was kept."""
        self._sums = dict(state["sums"])
        self._waiting = [dict(state["waiting"])] if state["waiting"] else []
        self._steps = int(state["steps"])
