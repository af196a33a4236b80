"""Means of what the steps of an epoch report."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

AT_ONCE = 100
"""Small steps that are summed up at once."""


class Records:
    """Means over the data of what steps report of each datum, non-finite values left out.

    A step only hands its tensors over; they are summed up many steps at a time, so that a step spends
    nothing on them and nothing waits for the device. Values are added one after the other, in float64, within a step
    and then from step to step: when they are summed up, as before a fit is left, changes no bit on the CPU.

    Args:
        total: Sums over the processes that share a fit; all of them have to add as many steps.
        at_once: Steps that are summed up at once.
    """

    def __init__(
        self, total: Callable[[Tensor], Tensor] = lambda values: values, at_once: int = AT_ONCE
    ) -> None:
        self._total = total
        self.at_once = at_once
        self._waiting: list[Mapping[str, Tensor]] = []
        self._begun: dict[str, Tensor] = {}
        self._steps = 0
        self._sums: dict[str, Tensor] = {}

    def add(self, record: Mapping[str, Float[Tensor, "..."]]) -> None:
        """Takes the record of a step: for each name a number for each datum, (batch,), or one for all, ()."""
        self._waiting.append(record)
        self._steps += 1
        if self._steps >= self.at_once:
            self._sum_up()

    @property
    def settled(self) -> bool:
        """Whether nothing waits to be summed up, so that the state of one process is that of all."""
        return self._steps == 0

    def means(self) -> dict[str, float]:
        """The means so far; a name none of whose values was finite is left out. Waits for the device."""
        self._sum_up()
        found = {name: total.tolist() for name, total in self._sums.items()}
        return {name: total / count for name, (total, count) in found.items() if count > 0}

    def clear(self) -> None:
        """Begins anew."""
        self._waiting, self._begun, self._steps, self._sums = [], {}, 0, {}

    def _sum_up(self) -> None:
        for name, steps in self._by_step().items():
            total = self._total(steps)
            if name in self._sums:
                total = torch.cat([self._sums[name][None], total])
            self._sums[name] = total.cumsum(0)[-1].clone()
        self._waiting, self._begun, self._steps = [], {}, 0

    @torch.no_grad()
    def _by_step(self) -> dict[str, Float[Tensor, "steps 2"]]:
        """For each name the sum and the number of the finite values of each step that waits, of this process."""
        result = dict(self._begun)
        for name in self._waiting[0] if self._waiting else ():
            rows = [record[name].reshape(-1) for record in self._waiting]
            # A last batch has fewer data; what isn't finite doesn't count.
            alike = len({row.shape[0] for row in rows}) == 1
            values = torch.stack(rows) if alike else pad_sequence(rows, True, torch.nan)
            finite = values.isfinite()
            sums = torch.where(finite, values, 0.0).cumsum(1, dtype=torch.float64)[:, -1]
            steps = torch.stack([sums, finite.sum(1).double()], 1)
            result[name] = torch.cat([result[name], steps]) if name in result else steps
        return result

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on with the same numbers, to the last bit."""
        return {"sums": dict(self._sums), "begun": self._by_step(), "steps": self._steps}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that was kept."""
        self._sums, self._begun = dict(state["sums"]), dict(state["begun"])
        self._waiting, self._steps = [], int(state["steps"])
