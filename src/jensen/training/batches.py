"""Batches: data in memory, sliced by index on the device."""

from collections.abc import Callable, Iterator
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from jensen.errors import ConfigError
from jensen.seeding import Rows, sharing


class Batch(NamedTuple):
    """What a model gets at once.

    Attributes:
        x: Data, (batch, *event), in floating point.
        context: What the model is conditioned on, (batch, *context), or None.
        observed: True where a cell was observed, (batch, *event), or None if all were.
    """

    x: Float[Tensor, "batch *event"]
    context: Float[Tensor, "batch *context"] | None = None
    observed: Bool[Tensor, "batch *event"] | None = None

    @property
    def rows(self) -> Rows:
        """Which rows these are of the batch that processes and parts share: here all of them."""
        return Rows(0, 1, len(self.x), len(self.x))

    def parts(self, number: int) -> "list[Part]":
        """So many parts, of which each has every so many-th row and knows which; fewer if there are fewer rows.

        Example:
            >>> [part.rows.first for part in Batch(torch.zeros(4, 2)).parts(2)]
            [0, 1]
        """
        number = min(number, len(self.x))
        rows = self.rows
        return [
            Part(
                self.x[start::number],
                None if self.context is None else self.context[start::number],
                None if self.observed is None else self.observed[start::number],
            ).of(rows.every(start, number))
            for start in range(number)
        ]


class Part(Batch):
    """A part of a batch, that of a process or one of several that are worked through one after the other."""

    _rows: Rows | None = None

    def of(self, rows: Rows) -> "Part":
        """Itself, with the rows that it holds of the whole batch."""
        self._rows = rows
        return self

    @property
    def rows(self) -> Rows:
        """Which rows these are of the batch that processes and parts share."""
        return super().rows if self._rows is None else self._rows


class Progress(NamedTuple):
    """How far training has got.

    Attributes:
        step: Optimiser steps done.
        epoch: Epochs done, with the part of the present one.
        fraction: Part of the planned steps that is done, 0 to 1.
        stage: Of the objective: 1 at the end of a fit that has a second one, else 0.
    """

    step: int
    epoch: float
    fraction: float
    stage: int = 0


@runtime_checkable
class Batches(Protocol):
    """The data of a fit, epoch by epoch."""

    @property
    def device(self) -> torch.device:
        """Where the batches are."""
        ...

    def __len__(self) -> int:
        """Batches in an epoch."""
        ...

    def epoch(self, number: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch but for the first ``done``; the same each time it is asked for."""
        ...


class ArrayBatches:
    """Batches of arrays that lie in memory; one index operation a batch, no Python for each datum.

    Args:
        x: Data (n, *event) in any dtype; batches are converted to floating point.
        batch_size: Data in a batch of this process; the last one of an epoch may be smaller or, by less than a row
            for each process, larger.
        seed: Of the shuffles; each epoch has one of its own.
        context: (n, *context) or None.
        observed: (n, *event) or None.
        transform: Applied to the data of a batch before conversion, as for fresh binarisation.
        rank: The number of this process.
        world_size: How many processes there are; together they get at a step what one gets whose batches are
            ``world_size`` times as large.

    Raises:
        ConfigError: If there are fewer data than processes.
    """

    def __init__(
        self,
        x: Shaped[Tensor, "n *event"],
        batch_size: int,
        seed: int = 0,
        *,
        context: Float[Tensor, "n *context"] | None = None,
        observed: Bool[Tensor, "n *event"] | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(x) < world_size:
            raise ConfigError(f"{world_size} processes can't share {len(x)} data; start fewer, or add data")
        self.x = x
        self.context = context
        self.observed = observed
        self.batch_size = min(batch_size, -(-len(x) // world_size))
        self.rank = rank
        self.world_size = world_size
        self.seed = seed
        self.transform = transform

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.x.device

    def __len__(self) -> int:
        """Batches in an epoch, the same number for every process."""
        full, rest = divmod(len(self.x), self.batch_size * self.world_size)
        # Too few for every process to get one of them: they go into the batch before.
        return max(1, full + (rest >= self.world_size))

    def epoch(self, number: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch, in an order that depends on the seed and the epoch's number alone.

        Args:
            number: Of the epoch.
            done: Batches of it that were taken already, and are left out.

        Yields:
            The other batches.
        """
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
        order = torch.randperm(len(self.x), generator=generator).to(self.x.device)
        together = self.batch_size * self.world_size
        for step in range(done, len(self)):
            end = len(order) if step + 1 == len(self) else (step + 1) * together
            index = order[step * together + self.rank : end : self.world_size]
            rows = Rows(self.rank, self.world_size, len(index), end - step * together)
            x = self.x.index_select(0, index)
            if self.transform is not None:
                with sharing(rows):
                    x = self.transform(x)
            part = Part(
                x.to(torch.get_default_dtype()),
                None if self.context is None else self.context.index_select(0, index),
                None if self.observed is None else self.observed.index_select(0, index),
            )
            yield part.of(rows)
