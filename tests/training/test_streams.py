"""Batches of data on disk: every row once an epoch, the same order each time, from any step on."""

import gc
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from jensen.errors import ConfigError, DataError
from jensen.training import StreamBatches

COUNTS = (5, 5, 0, 5, 3, 1, 5, 5, 2)
N = sum(COUNTS)


class Numbers:
    """Blocks of the whole numbers from 0 on, each beside its square; reading a block may fail."""

    def __init__(self, counts: tuple[int, ...] = COUNTS, dtype: str = "float32") -> None:
        self.counts = np.array(counts)
        ends = np.cumsum(self.counts)
        self.values = [np.arange(end - n, end) for n, end in zip(counts, ends, strict=True)]
        self.dtype = dtype
        self.read_blocks: list[int] = []
        self.threads: set[str] = set()
        self.broken: int | None = None

    def read(self, block: int) -> np.ndarray:
        if block == self.broken:
            raise DataError(f"block {block} is gone")
        self.read_blocks.append(block)
        self.threads.add(threading.current_thread().name)
        values = self.values[block]
        return np.stack([values, values**2], 1).astype(self.dtype)


def batches(size: int = 4, seed: int = 0, buffer: int = 2, **more: object) -> StreamBatches:
    return StreamBatches(Numbers(), size, seed, buffer_blocks=buffer, **more)


def rows(some: Iterator) -> list[int]:
    return [int(value) for batch in some for value in batch.x[:, 0]]


@pytest.mark.parametrize("buffer", [1, 2, 3, 100])
@pytest.mark.parametrize("size", [1, 4, 7, 31, 100])
def test_each_datum_comes_once_an_epoch(size: int, buffer: int) -> None:
    stream = batches(size, buffer=buffer)
    orders = [rows(stream.epoch(epoch)) for epoch in range(4)]
    assert all(sorted(order) == list(range(N)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    sizes = [len(batch.x) for batch in stream.epoch(0)]
    assert len(sizes) == len(stream) == -(-N // min(size, N))
    assert all(n == min(size, N) for n in sizes[:-1])
    # A datum stays together.
    assert all(torch.equal(batch.x[:, 1], batch.x[:, 0] ** 2) for batch in stream.epoch(1))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    first = rows(batches(seed=1).epoch(3))
    torch.manual_seed(123)
    again = batches(seed=1)
    rows(again.epoch(0))
    assert rows(again.epoch(3)) == first
    # Another size of the batches only cuts it elsewhere.
    assert rows(batches(7, seed=1).epoch(3)) == first
    assert rows(batches(seed=2).epoch(3)) != first
    assert rows(again.epoch(4)) != first


@pytest.mark.parametrize("buffer", [1, 3, 100])
@pytest.mark.parametrize("size", [1, 4, 7])
def test_goes_on_within_an_epoch_without_reading_what_was_before(size: int, buffer: int) -> None:
    stream = batches(size, buffer=buffer)
    every = [batch.x for batch in stream.epoch(2)]
    for done in range(len(stream) + 1):
        rest = [batch.x for batch in stream.epoch(2, done)]
        assert len(rest) == len(every) - done
        assert all(torch.equal(a, b) for a, b in zip(rest, every[done:], strict=True))
    numbers = Numbers()
    late = StreamBatches(numbers, size, buffer_blocks=1)
    numbers.read_blocks.clear()
    list(late.epoch(2, len(late) - 1))
    # The last batch may lie in a few of the eight blocks that have rows.
    assert len(numbers.read_blocks) < 6


def test_blocks_are_mixed_within_a_buffer_and_buffers_come_in_another_order() -> None:
    stream = StreamBatches(Numbers((100,) * 20), 10, buffer_blocks=4)
    order = np.array(rows(stream.epoch(0)))
    # The first 400 are those of four blocks,
    first = set((order[:400] // 100).tolist())
    assert len(first) == 4
    # which aren't those of the next epoch,
    assert {row // 100 for row in rows(stream.epoch(1))[:400]} != first
    # and each batch of ten has more than one of them in it.
    assert all(len(set((part // 100).tolist())) > 1 for part in np.split(order, 200))


def test_a_sorted_file_with_one_buffer_is_shuffled_as_a_whole() -> None:
    order = np.array(rows(StreamBatches(Numbers((50,) * 20), 10, buffer_blocks=20).epoch(0)))
    # Spearman's correlation of a random order of 1000 with their places has standard deviation 1 / sqrt(999).
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 4 / 999**0.5


@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("buffer", [1, 3])
def test_processes_share_what_one_would_get(world_size: int, size: int, buffer: int) -> None:
    one = batches(size * world_size, seed=1, buffer=buffer)
    ranks = [
        batches(size, seed=1, buffer=buffer, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    for epoch in range(3):
        parts = [rows(stream.epoch(epoch)) for stream in ranks]
        together = [row for part in parts for row in part]
        assert sorted(together) == list(range(N))
        steps = [list(stream.epoch(epoch)) for stream in ranks]
        # Nobody waits for a process that has no batch, and no batch is empty.
        assert {len(own) for own in steps} == {len(ranks[0])}
        assert all(len(batch.x) > 0 for own in steps for batch in own)
        whole = rows(one.epoch(epoch))
        for number in range(len(ranks[0]) - 1):
            mine = sorted(int(v) for own in steps for v in own[number].x[:, 0])
            assert mine == sorted(whole[number * size * world_size : (number + 1) * size * world_size])
    # From any step on as well.
    for stream in ranks:
        every = [batch.x for batch in stream.epoch(1)]
        rest = [batch.x for batch in stream.epoch(1, 2)]
        assert all(torch.equal(a, b) for a, b in zip(rest, every[2:], strict=True))


def test_fewer_data_than_processes() -> None:
    with pytest.raises(ConfigError, match="40 processes can't share 31 data; start fewer, or add data"):
        batches(world_size=40)
    ranks = [batches(100, rank=rank, world_size=31) for rank in range(31)]
    assert sorted(row for stream in ranks for row in rows(stream.epoch(0))) == list(range(31))


def reading() -> set[threading.Thread]:
    """Threads that read ahead, or could; other tests' may be among them."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("jensen-read-ahead")}


def test_blocks_are_read_ahead_by_another_thread() -> None:
    numbers = Numbers()
    stream = StreamBatches(numbers, 4, buffer_blocks=2)
    numbers.threads.clear()
    list(stream.epoch(0))
    assert len(numbers.threads) == 1
    assert all(name.startswith("jensen-read-ahead") for name in numbers.threads)


def test_the_next_epoch_is_begun_at_the_end_of_one() -> None:
    numbers = Numbers()
    stream = StreamBatches(numbers, 4, buffer_blocks=8)
    for epoch in range(5):
        assert sorted(rows(stream.epoch(epoch))) == list(range(N))
    stream._reader.shutdown()
    # Eight blocks with rows in each epoch, and those of the sixth, which nobody asked for.
    assert len(numbers.read_blocks) == 6 * 8


def test_an_epoch_that_is_left_is_begun_anew() -> None:
    stream = batches(buffer=1)
    whole = rows(stream.epoch(0))
    for steps in (1, 3):
        epoch = stream.epoch(0)
        for _ in range(steps):
            next(epoch)
        epoch.close()
        assert rows(stream.epoch(0)) == whole


def test_the_rooms_are_made_once_for_the_largest_buffer_there_can_be() -> None:
    """Memory for a larger one in place of one that was too small would leave a hole each time."""

    class Uneven:
        counts = np.array([1, 7, 2, 6, 3, 5, 4])

        def read(self, block: int) -> np.ndarray:
            return np.full((int(self.counts[block]), 2), block, np.float32)

    batches = StreamBatches(Uneven(), 4, buffer_blocks=3)
    rooms: set[int] = set()
    for epoch in range(20):
        assert sum(len(batch.x) for batch in batches.epoch(epoch)) == 28
        rooms |= {room.ctypes.data for room in batches._room if room is not None}
    assert len(rooms) == 2
    # Three buffers of seven blocks: three at most in one.
    assert [len(room) for room in batches._room if room is not None] == [18, 18]


def test_no_thread_is_left() -> None:
    before = reading()
    stream = batches()
    next(stream.epoch(0))
    own = reading() - before
    assert len(own) == 1
    del stream
    gc.collect()
    deadline = time.monotonic() + 5
    while own & reading() and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not own & reading()


def test_a_block_that_goes_away_is_an_error_where_it_is_wanted() -> None:
    numbers = Numbers()
    stream = StreamBatches(numbers, 4, buffer_blocks=1)
    whole = rows(stream.epoch(0))
    assert stream._coming is not None
    stream._coming[1].exception()
    # The last one of this epoch; the one after it is of the next.
    numbers.broken = numbers.read_blocks[-2]
    got: list[int] = []
    with pytest.raises(DataError, match="is gone"):
        got.extend(value for batch in stream.epoch(0) for value in batch.x[:, 0].int().tolist())
    assert 0 < len(got) < N
    numbers.broken = None
    assert got + rows(stream.epoch(0, len(got) // 4)) == whole
    assert rows(stream.epoch(0)) == whole


def test_batches_are_in_floating_point_and_the_transform_sees_raw_data() -> None:
    seen: list[torch.dtype] = []

    def double(x: Tensor) -> Tensor:
        seen.append(x.dtype)
        return x // 2

    stream = StreamBatches(Numbers((4, 4), "uint8"), 3, buffer_blocks=1, transform=double)
    values = [batch.x for batch in stream.epoch(0)]
    assert set(seen) == {torch.uint8}
    assert all(x.dtype == torch.float32 for x in values)
    assert sorted(torch.cat(values)[:, 0].tolist()) == [0, 0, 1, 1, 2, 2, 3, 3]


def test_batches_outlive_their_buffer() -> None:
    stream = batches(4, buffer=1)
    kept = list(stream.epoch(0))
    assert sorted(int(v) for batch in kept for v in batch.x[:, 0]) == list(range(N))


def test_shuffling_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    rows(batches().epoch(0))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
def test_batches_come_to_the_device() -> None:
    here = [batch.x for batch in batches().epoch(1)]
    there = [batch.x for batch in batches(device=torch.device("cuda")).epoch(1)]
    assert all(x.is_cuda for x in there)
    assert all(torch.equal(a, b.cpu()) for a, b in zip(here, there, strict=True))
