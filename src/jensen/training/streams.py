"""Batches of data that stay on disk: blocks in a random order, mixed in a buffer, read ahead by a thread."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from jensen.errors import ConfigError
from jensen.seeding import Rows, sharing
from jensen.training.batches import Batch, Part

BUFFER_BYTES = 2**25
"""About the size of the rows that are mixed at once; two such buffers are held, one of them being filled."""


@runtime_checkable
class Blocks(Protocol):
    """Data that can be read block by block."""

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows each block has, (blocks,)."""
        ...

    def read(self, block: int) -> NDArray[Any]:
        """The rows of a block, (counts[block], *event); it is called from another thread."""
        ...


class StreamBatches:
    """Batches of data that stay on disk; memory for two buffers, whatever the data's size.

    In each epoch the blocks come in another random order. As many of them as a buffer holds are read together and
    their rows shuffled; while one buffer is used, a thread reads the next, at an epoch's end the first one of the next
    epoch. The order depends on the seed, the epoch's number, the layout of the blocks and the size of the buffers
    alone, so that the batches after any step of any epoch can be had without reading those before it.

    Several processes walk through the same order with ``batch_size`` rows each: what they get together at a step is
    what one process gets whose batches are ``world_size`` times as large. They never get the same row in an
    epoch, and every row comes. Each of them reads all blocks: a row's place in the order doesn't tell its block.

    Args:
        blocks: The data.
        batch_size: Data in a batch of this process; the last one of an epoch may be smaller or, by less than a row
            for each process, larger.
        seed: Of the shuffles; each epoch has one of its own.
        device: Where the batches are wanted.
        transform: Applied to the data of a batch before conversion, as for fresh binarisation.
        buffer_blocks: Blocks in a buffer; by default as many as make up ``BUFFER_BYTES``.
        rank: The number of this process.
        world_size: How many processes there are.

    Raises:
        ConfigError: If there are fewer data than processes.

    Example:
        >>> class Numbers:
        ...     counts = np.array([3, 3, 2])
        ...     def read(self, block):
        ...         return np.arange(3.0 * block, 3.0 * block + self.counts[block])[:, None]
        >>> batches = StreamBatches(Numbers(), 4)
        >>> [len(batch.x) for batch in batches.epoch(0)]
        [4, 4]
        >>> sorted(float(value) for batch in batches.epoch(1) for value in batch.x)
        [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]
    """

    def __init__(
        self,
        blocks: Blocks,
        batch_size: int,
        seed: int = 0,
        *,
        device: torch.device | None = None,
        transform: Callable[[Tensor], Tensor] | None = None,
        buffer_blocks: int | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.blocks = blocks
        self.device = torch.device("cpu") if device is None else device
        self.seed = seed
        self.transform = transform
        self.rank = rank
        self.world_size = world_size
        self._counts = np.asarray(blocks.counts)
        self._filled = np.flatnonzero(self._counts)
        self.rows = int(self._counts.sum())
        if self.rows < world_size:
            raise ConfigError(
                f"{world_size} processes can't share {self.rows} data; start fewer, or add data"
            )
        self.batch_size = min(batch_size, -(-self.rows // world_size))
        if buffer_blocks is None:
            largest = blocks.read(int(np.argmax(self._counts))).nbytes
            buffer_blocks = max(1, BUFFER_BYTES // largest)
        self.buffer_blocks = buffer_blocks
        # Rooms for the largest buffer there can be: a larger one in place of one that is too small leaves a hole.
        most = -(-len(self._filled) // self._buffers_per_epoch)
        self._room_rows = int(np.sort(self._counts)[-most:].sum())
        self._reader = ThreadPoolExecutor(1, "jensen-read-ahead")
        self._room: list[NDArray[Any] | None] = [None, None]
        self._slot = 0
        self._coming: tuple[tuple[int, int], Future[NDArray[Any]]] | None = None

    def __len__(self) -> int:
        """Batches in an epoch, the same number for every process."""
        full, rest = divmod(self.rows, self.batch_size * self.world_size)
        # Too few for every process to get one of them: they go into the batch before.
        return max(1, full + (rest >= self.world_size))

    def epoch(self, number: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch.

        Args:
            number: Of the epoch.
            done: Batches of it that were taken already, and are left out.

        Yields:
            The other batches.

        Raises:
            DataError: If the data can't be read any more.
        """
        together, last = self.batch_size * self.world_size, len(self) - 1
        step, pieces = done, list[Tensor]()
        for x, order, first in self._buffers(number, done * together):
            after = first + len(order)
            while step <= last:
                begin, end = step * together, self.rows if step == last else (step + 1) * together
                start, stop = max(begin, first), min(end, after)
                if start >= stop:
                    break
                # Every world_size-th row of what the processes get together, counted from its beginning.
                skip = (self.rank - (start - begin)) % self.world_size
                index = order[start - first + skip : stop - first : self.world_size]
                pieces.append(x.index_select(0, index))
                if stop < end:
                    break
                yield self._batch(pieces[0] if len(pieces) == 1 else torch.cat(pieces), end - begin)
                step, pieces = step + 1, []

    def _batch(self, x: Tensor, total: int) -> Batch:
        rows = Rows(self.rank, self.world_size, len(x), total)
        if self.transform is not None:
            with sharing(rows):
                x = self.transform(x)
        return Part(x.to(torch.get_default_dtype())).of(rows)

    def _buffers(self, number: int, position: int) -> Iterator[tuple[Tensor, Tensor, int]]:
        """The buffers of an epoch from the one on that holds a position in its order.

        Yields:
            The rows of a buffer as they were read, the order in which they are to be taken, and the position of the
            first of these.
        """
        groups = self._groups(number)
        ends = np.cumsum([int(self._counts[group].sum()) for group in groups])
        for place in range(int(np.searchsorted(ends, position, side="right")), len(groups)):
            read = self._read(number, place, groups[place])
            if place + 1 < len(groups):
                self._read_ahead(number, place + 1, groups[place + 1])
            else:
                # Validation comes first, and then most likely the next epoch.
                self._read_ahead(number + 1, 0, self._groups(number + 1)[0])
            shuffled = torch.randperm(len(read), generator=self._generator(number, place + 1))
            yield (
                torch.from_numpy(read).to(self.device),
                shuffled.to(self.device),
                int(ends[place]) - len(read),
            )

    def _groups(self, number: int) -> list[NDArray[np.int64]]:
        """The blocks of each buffer of an epoch."""
        order = self._filled[torch.randperm(len(self._filled), generator=self._generator(number, 0)).numpy()]
        return np.array_split(order, self._buffers_per_epoch)

    @property
    def _buffers_per_epoch(self) -> int:
        return -(-len(self._filled) // self.buffer_blocks)

    def _read(self, number: int, place: int, group: NDArray[np.int64]) -> NDArray[Any]:
        """A buffer, if need be after waiting for it; what was read ahead and isn't wanted is dropped."""
        if self._coming is not None and self._coming[0] != (number, place):
            self._coming[1].exception()
            self._coming = None
        if self._coming is None:
            self._read_ahead(number, place, group)
        assert self._coming is not None, "it was asked for"
        coming, self._coming = self._coming[1], None
        return coming.result()

    def _read_ahead(self, number: int, place: int, group: NDArray[np.int64]) -> None:
        """Has a buffer read into the room that isn't in use."""
        self._slot = 1 - self._slot
        self._coming = (
            (number, place),
            self._reader.submit(_fill, self.blocks, group, self._room, self._slot, self._room_rows),
        )

    def _generator(self, number: int, place: int) -> torch.Generator:
        """One for the order of the blocks of an epoch (place 0), and one for each of its buffers (from 1)."""
        mixed = (self.seed * 1_000_003 + number) * 1_000_003 + place
        return torch.Generator().manual_seed(mixed % 2**63)


def _fill(
    blocks: Blocks, group: NDArray[np.int64], room: list[NDArray[Any] | None], slot: int, room_rows: int
) -> NDArray[Any]:
    """Reads blocks side by side into one of two rooms, which are used again and again."""
    rows = int(blocks.counts[group].sum())
    start = 0
    for block in group.tolist():
        x = blocks.read(block)
        space = room[slot]
        if space is None:
            space = room[slot] = np.empty((room_rows, *x.shape[1:]), x.dtype)
        space[start : start + len(x)] = x
        start += len(x)
    space = room[slot]
    assert space is not None, "a group has at least one block"
    return space[:rows]
