"""Data that stay on disk, where a fit or a Run wants them."""

from collections.abc import Iterator
from math import prod
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from jensen.data import Dataset, Stored, binarise, fits_memory
from jensen.errors import DataError, SupportError
from jensen.runs.run import Run
from jensen.runs.storage import read_json
from jensen.training import ArrayBatches, Batches, Engine, StreamBatches, streams

STREAM_VALID = 10_000
"""Most data to validate on of those that stay on disk, where nobody asks for more."""


def batches(dataset: Dataset | Stored, batch_size: int, seed: int, engine: Engine) -> Batches:
    """The batches of a fit.

    Args:
        dataset: In memory, where they are sliced by index, or on disk, from where they are read ahead.
        batch_size: Data in a batch, of which each process gets its share; it has to be a multiple of them.
        seed: Of the shuffles.
        engine: Where the batches are wanted, and by how many processes.

    Returns:
        The batches.

    Raises:
        DataError: If they don't fit into the GPU's memory.
    """
    rank, world_size = engine.rank, engine.world_size
    if isinstance(dataset, Stored):
        return StreamBatches(
            dataset, batch_size // world_size, seed, device=engine.device, rank=rank, world_size=world_size
        )
    return ArrayBatches(
        _on_device(dataset, engine.device),
        batch_size // world_size,
        seed,
        transform=binarise if dataset.dynamic else None,
        rank=rank,
        world_size=world_size,
    )


def _on_device(dataset: Dataset, device: torch.device) -> Tensor:
    try:
        return torch.as_tensor(dataset.x).to(device)
    except torch.OutOfMemoryError as error:
        raise DataError(
            f"{len(dataset)} data of {dataset.name}, {dataset.x.nbytes / 1e9:.3g} GB, don't fit into the GPU's memory; "
            "leave them on disk (--stream, jensen.data.stored), or fit on the processor (--device cpu)"
        ) from error


def in_memory(dataset: Dataset | Stored) -> Dataset:
    """Validation data, which are held in memory: they are looked at after each epoch.

    Raises:
        DataError: If they are too many for that.
    """
    if isinstance(dataset, Dataset):
        return dataset
    if not fits_memory(len(dataset) * prod(dataset.schema.event_shape)):
        raise DataError(
            f"{len(dataset)} data of {dataset.name} to validate on don't fit into memory, where they are held. "
            "Validate on a smaller part, as in --valid 0.01 (valid=0.01)."
        )
    return dataset.load()


def default_fraction(n: int, *, streamed: bool) -> float | None:
    """The part of the data that is held out to validate on, where nobody says otherwise.

    Args:
        n: Number of data.
        streamed: Whether they stay on disk.

    Returns:
        A tenth, and of data on disk no more than makes 10,000; None for fewer than 50 data.

    Example:
        >>> default_fraction(400_000, streamed=True)
        0.025
    """
    return None if n < 50 else some_of(n, 0.1, streamed=streamed)


def some_of(n: int, part: float, *, streamed: bool) -> float:
    """A part of the data to hold in memory: of data on disk no more than makes 10,000."""
    return min(part, STREAM_VALID / n) if streamed else part


def was_streamed(folder: Path) -> bool | None:
    """Whether the fit in a folder reads its data from disk, as resuming it has to; None if there is no Run."""
    if not (folder / "config.json").exists():
        return None
    about = read_json(folder / "config.json").get("about")
    return isinstance(about, dict) and cast("dict[str, Any]", about).get("stream") is not None


def layout(dataset: Dataset | Stored) -> dict[str, Any] | None:
    """How data that stay on disk are cut and mixed, which the order of training depends on; None for data in memory."""
    if isinstance(dataset, Dataset):
        return None
    return {
        "shards": len(dataset.shards),
        "block_rows": dataset.block_rows,
        "buffer_bytes": streams.BUFFER_BYTES,
    }


def prepared(run: Run, dataset: Dataset | Stored, seed: int = 0) -> Iterator[Tensor]:
    """Data as the model of a Run takes them, a part at a time.

    Args:
        run: The Run.
        dataset: In memory, which are one part, or on disk, where each block is one.
        seed: Of the binarisation of intensities that stand for probabilities.

    Yields:
        (n, *event) in the model's dtype, on its device.

    Raises:
        DataError: If the data don't match, or the likelihood can't have made them; before the first part.
    """
    if isinstance(dataset, Dataset):
        yield run.prepare(dataset, seed)
        return
    try:
        run.prepare(dataset.witnesses())
    except SupportError:
        dataset.find(lambda rows: run.prepare(dataset.part_of(rows)))
        raise
    for block in dataset.blocks():
        yield run.prepare(dataset.part_of(block))
