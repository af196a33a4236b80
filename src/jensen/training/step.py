"""One step of the optimiser, operation by operation."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn

from jensen.seeding import sharing
from jensen.training.batches import Batch, Progress
from jensen.training.engine import Engine
from jensen.training.guard import Guard
from jensen.training.randomness import Randomness

Record = dict[str, Tensor]


class Step:
    """One step: forward, backward, guard, update.

    The loss is the mean over a batch's data, whether they are worked through at once, part by part, or by several
    processes: each part's mean counts by its data.

    Args:
        objective: Returns the loss of a batch and its record.
        optimiser: Moves the parameters.
        guard: Looks at the gradients first.
        randomness: The generators.
        accumulate: Parts in which a batch is worked through.
        engine: What it runs on.
    """

    def __init__(
        self,
        objective: nn.Module,
        optimiser: torch.optim.Optimizer,
        guard: Guard,
        randomness: Randomness,
        accumulate: int,
        engine: Engine,
    ) -> None:
        self.forward = engine.wrapped(objective)
        self.optimiser = optimiser
        self.guard = guard
        self.randomness = randomness
        self.accumulate = accumulate
        self.engine = engine

    def __call__(self, batch: Batch, progress: Progress) -> Record:
        """Takes the step; its record."""
        for parameter in self.guard.parameters:
            parameter.grad = None
        if self.engine.world_size == self.accumulate == 1:
            loss, record = self.forward(batch, progress)
            self.engine.backward(loss)
        else:
            record = self._parts(batch, progress)
        self.update()
        return record

    def update(self) -> None:
        """Moves the parameters along the gradients that they have."""
        self.guard.prepare()
        self.optimiser.step()

    def _parts(self, batch: Batch, progress: Progress) -> Record:
        records: list[Record] = []
        parts, engine = batch.parts(self.accumulate), self.engine
        start = self.randomness.state
        for number, part in enumerate(parts, 1):
            rows = part.rows
            if number > 1:
                # Every part draws what the whole batch would, and takes its rows of it.
                self.randomness.rewind(start)
            waiting = number < len(parts)
            with sharing(rows), engine.unsynchronised(self.forward) if waiting else nullcontext():
                loss, record = self.forward(part, progress)
                # Processes' gradients are averaged, parts' are added up.
                engine.backward(loss * (rows.number * engine.world_size / rows.total))
            records.append(record)
        return {name: torch.cat([record[name].reshape(-1) for record in records]) for name in records[0]}
