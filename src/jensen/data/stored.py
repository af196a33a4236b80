"""Data that stay on disk: read block by block, described and divided as data in memory are."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from jensen.data.arrays import Facts, dtype_of
from jensen.data.dataset import Dataset, Schema
from jensen.data.moments import Statistics
from jensen.data.shards import Shard
from jensen.data.subsets import held_out, permutation
from jensen.errors import DataError

_SPREAD_OVER = 50
"""Blocks that a sample of rows is drawn from; more of them would be more reading for little."""


@dataclass(frozen=True)
class Part:
    """Which rows of every block belong to one of two parts.

    Each block gives its share to both, so that a file that is sorted is represented in both; which rows these are
    depends on the seed and the block's number alone.

    Attributes:
        count: Rows of all data that are held out.
        seed: Of the choice.
        held: Whether this part is the one that is held out.
    """

    count: int
    seed: int
    held: bool


@dataclass(frozen=True)
class Stored:
    """Data that stay on disk; ``jensen.data.stored`` opens and checks them.

    The unit of reading is a block, some rows of one shard that lie one after the other. ``read`` gives the rows of a
    block, ``counts`` says how many each has; nothing here grows with the data but a few bytes for each block.

    Attributes:
        shards: The files.
        schema: What one datum looks like.
        facts: What the pass over all cells has found.
        checksum: Of all bytes in all shards, in their order.
        block_rows: Rows of a block; the last one of a shard may have fewer.
        name: How reports call the data.
        source: The path.
        target: The column of labels that was left out, by name or place.
        part: Which rows of each block are meant; None: all.
    """

    shards: tuple[Shard, ...]
    schema: Schema
    facts: Facts
    checksum: int
    block_rows: int
    name: str = "data"
    source: str = ""
    target: str | int | None = None
    part: Part | None = None
    dynamic: ClassVar[bool] = False
    y: ClassVar[None] = None

    def __len__(self) -> int:
        """Number of data."""
        return int(self.counts.sum())

    @cached_property
    def _first_blocks(self) -> NDArray[np.int64]:
        """The number of each shard's first block, and of the one after the last: (shards + 1,)."""
        return np.cumsum([0, *(-(-shard.rows // self.block_rows) for shard in self.shards)])

    @cached_property
    def _edges(self) -> NDArray[np.int64]:
        """How many rows of all shards lie before each block, and in all: (blocks + 1,)."""
        edges = np.empty(int(self._first_blocks[-1]) + 1, np.int64)
        edges[-1], before = sum(shard.rows for shard in self.shards), 0
        for number, shard in enumerate(self.shards):
            blocks = slice(*self._first_blocks[number : number + 2])
            edges[blocks] = before + np.arange(0, shard.rows, self.block_rows)
            before += shard.rows
        return edges

    @property
    def counts(self) -> NDArray[np.int64]:
        """How many rows each block has, (blocks,)."""
        return self._counts

    @cached_property
    def _counts(self) -> NDArray[np.int64]:
        if self.part is None:
            return np.diff(self._edges)
        # Whole numbers of any size: rows times rows may exceed 64 bits.
        before = self._edges.astype(object) * self.part.count // int(self._edges[-1])
        held = np.diff(before).astype(np.int64)
        return held if self.part.held else np.diff(self._edges) - held

    @property
    def dtype(self) -> np.dtype[np.generic]:
        """Of what ``read`` gives."""
        return np.dtype(dtype_of(self.schema.kind))

    @property
    def row_bytes(self) -> int:
        """Bytes of a datum as ``read`` gives it."""
        return int(np.prod(self.schema.event_shape)) * self.dtype.itemsize

    def place(self, block: int) -> str:
        """Where a block lies, in words."""
        shard, start, stop = self.where(block)
        return f"rows {start} to {stop - 1} of {shard.path}"

    def raw(self, block: int) -> NDArray[np.generic]:
        """All rows of a block as they are stored, those of the other part too.

        Args:
            block: Its number.

        Returns:
            (rows, *event).

        Raises:
            DataError: If the shard is gone or was cut off.
        """
        shard, start, stop = self.where(block)
        return shard.read(start, stop)

    def read(self, block: int) -> NDArray[np.generic]:
        """The rows of a block.

        Args:
            block: Its number.

        Returns:
            (counts[block], *event) in the schema's dtype.

        Raises:
            DataError: If the shard is gone or was cut off.
        """
        x = self.raw(block)
        if self.part is not None:
            total, own = len(x), int(self.counts[block])
            held = own if self.part.held else total - own
            chosen = np.zeros(total, dtype=bool)
            order = np.argsort(np.random.PCG64([self.part.seed, block]).random_raw(total), kind="stable")
            chosen[order[:held]] = True
            x = x[chosen if self.part.held else ~chosen]
        return np.ascontiguousarray(x, dtype=self.dtype)

    def blocks(self) -> Iterator[NDArray[np.generic]]:
        """The rows of each block in turn, but for blocks without any.

        Yields:
            (rows, *event).
        """
        for block in np.flatnonzero(self.counts):
            yield self.read(int(block))

    def part_of(self, x: NDArray[Any]) -> Dataset:
        """Some of the rows in memory, (n, *event), with the description of all."""
        return Dataset(x, self.schema, name=self.name, source=self.source, target=self.target)

    def load(self) -> Dataset:
        """All rows in memory, in the order of the shards.

        Returns:
            The data set.
        """
        x = np.empty((len(self), *self.schema.event_shape), self.dtype)
        start = 0
        for block in self.blocks():
            x[start : start + len(block)] = block
            start += len(block)
        return self.part_of(x)

    def some(self, n: int, seed: int) -> Dataset:
        """Rows drawn at random from a few random blocks.

        Args:
            n: How many; all if there are no more.
            seed: Of the choice.

        Returns:
            The rows in a random order, in memory.
        """
        if len(self) <= n:
            x = self.load().x
            return self.part_of(x[permutation(len(x), seed)])
        filled = np.flatnonzero(self.counts)
        order = filled[permutation(len(filled), seed)]
        enough = int(np.searchsorted(np.cumsum(self.counts[order]), n)) + 1
        chosen = order[: max(enough, min(_SPREAD_OVER, len(order)))]
        rows: list[NDArray[np.generic]] = []
        held = np.concatenate([[0], np.cumsum(self.counts[chosen])])
        wanted = np.diff(held * n // held[-1])
        for block, count in zip(chosen.tolist(), wanted.tolist(), strict=True):
            x = self.read(block)
            rows.append(x[permutation(len(x), seed + block)[:count]])
        x = np.concatenate(rows)
        return self.part_of(x[permutation(len(x), seed)])

    def split(self, fraction: float, seed: int = 0) -> tuple["Stored", "Stored"]:
        """Splits the data into a part to train on and a part to validate on; each block gives its share to both.

        Args:
            fraction: The share of the second part, between 0 and 1.
            seed: The seed; the same seed gives the same parts on every machine.

        Returns:
            The data to train on and those to validate on.

        Raises:
            DataError: If the fraction is not between 0 and 1, or so that a part would be empty, or if these data are
                a part already.
        """
        if self.part is not None:
            raise DataError(f"{self.name} is a part of a split already. Split the whole once.")
        count = held_out(len(self), fraction)
        return replace(self, part=Part(count, seed, False)), replace(self, part=Part(count, seed, True))

    @cached_property
    def statistics(self) -> Statistics:
        """Mean and spread of each cell, and of log(1 + x) for counts; the first look is a pass over the data."""
        found: Statistics | None = None
        for block in self.blocks():
            mine = Statistics.of(block, log=self.schema.kind == "counts")
            found = mine if found is None else found.merged(mine)
        assert found is not None, "every part has a row"
        return found

    def witnesses(self) -> Dataset:
        """A few rows that stand for all when it is asked which values occur.

        Every cell of the first row is the smallest one there is, of the second the largest, and of a third one, if
        there is any such cell, one that is not whole. What accepts an interval of numbers or of whole numbers
        accepts all data if it accepts these.

        Returns:
            Two or three rows.
        """
        facts = self.facts
        values = [facts.low, facts.high, *([] if facts.fraction is None else [facts.fraction])]
        column = np.asarray(values, self.dtype).reshape(-1, *(1 for _ in self.schema.event_shape))
        return self.part_of(np.broadcast_to(column, (len(values), *self.schema.event_shape)).copy())

    def find(self, check: Callable[[NDArray[np.generic]], object]) -> None:
        """Goes through the data until a check refuses some, and says where these lie.

        Args:
            check: Raises a DataError for rows that it refuses.

        Raises:
            DataError: Of the same type, with the place in front.
        """
        for block in np.flatnonzero(self.counts).tolist():
            try:
                check(self.read(block))
            except DataError as error:
                raise type(error)(f"{self.place(block)}: {error}") from error

    def where(self, block: int) -> tuple[Shard, int, int]:
        """The shard that a block lies in, its first row there, and the one after its last."""
        number = int(np.searchsorted(self._first_blocks, block, side="right")) - 1
        shard = self.shards[number]
        start = (block - int(self._first_blocks[number])) * self.block_rows
        return shard, start, min(start + self.block_rows, shard.rows)
