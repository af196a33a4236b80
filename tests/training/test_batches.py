import numpy as np
import pytest
import torch

from jensen.training import ArrayBatches


def whole(batches: ArrayBatches, epoch: int) -> torch.Tensor:
    return torch.cat([batch.x for batch in batches.epoch(epoch)])


@pytest.mark.parametrize(("n", "size"), [(10, 3), (12, 4), (5, 1), (5, 5), (5, 100), (1, 1)])
def test_each_datum_comes_once_an_epoch(n: int, size: int) -> None:
    batches = ArrayBatches(torch.arange(float(n))[:, None], size)
    for epoch in range(3):
        parts = [batch.x for batch in batches.epoch(epoch)]
        assert len(parts) == len(batches) == int(np.ceil(n / size))
        assert all(len(part) == min(size, n) for part in parts[:-1])
        assert torch.cat(parts).flatten().sort().values.tolist() == list(range(n))


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    x = torch.arange(50.0)[:, None]
    first = whole(ArrayBatches(x, 7, seed=1), 3)
    torch.manual_seed(123)
    again = ArrayBatches(x, 7, seed=1)
    whole(again, 0)
    assert torch.equal(whole(again, 3), first)
    assert torch.equal(whole(ArrayBatches(x, 8, seed=1), 3), first)
    assert not torch.equal(whole(again, 4), first)
    assert not torch.equal(whole(ArrayBatches(x, 7, seed=2), 3), first)
    assert not torch.equal(first, x)


def test_goes_on_within_an_epoch() -> None:
    batches = ArrayBatches(torch.arange(50.0)[:, None], 7, seed=1)
    every = [batch.x for batch in batches.epoch(3)]
    for done in (0, 3, 7, 8):
        rest = [batch.x for batch in batches.epoch(3, done)]
        assert len(rest) == len(every) - done
        assert all(torch.equal(a, b) for a, b in zip(rest, every[done:], strict=True))


def test_shuffling_leaves_the_generator_alone() -> None:
    before = torch.get_rng_state()
    whole(ArrayBatches(torch.randn(50, 2, generator=torch.Generator().manual_seed(0)), 7), 0)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float16, torch.float64])
def test_batches_are_in_floating_point_and_the_data_are_not_copied(dtype: torch.dtype) -> None:
    x = torch.tensor([[0, 1], [1, 0], [1, 1]]).to(dtype)
    batches = ArrayBatches(x, 2)
    assert batches.x is x
    for batch in batches.epoch(0):
        assert batch.x.dtype == torch.float32
    assert sorted(whole(batches, 0).tolist()) == [[0, 1], [1, 0], [1, 1]]


def test_bytes_keep_their_values() -> None:
    x = torch.arange(256, dtype=torch.uint8)[:, None]
    assert whole(ArrayBatches(x, 100), 0).flatten().sort().values.tolist() == list(range(256))


def test_context_and_mask_go_with_their_data() -> None:
    x = torch.arange(20.0)[:, None].expand(20, 3).clone()
    observed = (torch.arange(20) % 2 == 0)[:, None].expand(20, 3)
    batches = ArrayBatches(x, 6, context=10 * x[:, :2], observed=observed)
    for batch in batches.epoch(0):
        assert batch.context is not None
        assert batch.observed is not None
        assert torch.equal(batch.context, 10 * batch.x[:, :2])
        assert torch.equal(batch.observed, batch.x % 2 == 0)
    for batch in ArrayBatches(x, 6).epoch(0):
        assert batch.context is None
        assert batch.observed is None


def test_the_transform_sees_raw_data_and_is_applied_afresh() -> None:
    seen: list[torch.dtype] = []

    def binarise(x: torch.Tensor) -> torch.Tensor:
        seen.append(x.dtype)
        return (256 * torch.rand(x.shape) < x).to(torch.uint8)

    batches = ArrayBatches(torch.full((200, 5), 128, dtype=torch.uint8), 50, transform=binarise)
    torch.manual_seed(0)
    first, second = whole(batches, 0), whole(batches, 0)
    assert set(seen) == {torch.uint8}
    assert first.dtype == torch.float32
    assert set(first.unique().tolist()) == {0.0, 1.0}
    assert not torch.equal(first, second)
    # Four standard errors of a share of 1000.
    assert abs(float(first.mean()) - 0.5) < 4 * 0.5 / 1000**0.5
    torch.manual_seed(0)
    assert torch.equal(whole(batches, 0), first)


def test_seeds_may_be_as_large_as_a_date_with_a_time() -> None:
    batches = ArrayBatches(torch.arange(12.0)[:, None], 4, seed=20261121235959)
    assert sorted(float(value) for batch in batches.epoch(3) for value in batch.x) == list(range(12))
