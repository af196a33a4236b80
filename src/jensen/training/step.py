"""One step of the optimiser: done operation by operation, or captured once as a CUDA graph and replayed."""

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager, nullcontext
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from jensen.seeding import sharing
from jensen.training.batches import Batch, Progress
from jensen.training.engine import Engine
from jensen.training.guard import Guard
from jensen.training.randomness import Randomness

Record = dict[str, Tensor]

WARM = 3
"""Steps that are done operation by operation before one is captured, in which libraries set themselves up."""


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
        self.guard.prepare()
        self.optimiser.step()
        return record

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


@runtime_checkable
class Graph(Protocol):
    """Work that was captured and can be done again."""

    def replay(self) -> None:
        """Does it again, on the tensors that it was captured with."""
        ...


def cuda_graph(work: Callable[[], None]) -> Graph:
    """Captures work in a CUDA graph; torch's generator is registered with it, so that each replay draws afresh."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph


class CapturedStep:
    """A step that is captured once and then replayed: the processor starts one graph, not hundreds of operations.

    What changes from step to step lies in tensors that keep their place: the batch, the step size, the state of the
    generator. Batches of another shape than the captured one's, such as a last short one, and steps while the
    objective isn't steady are done operation by operation. If a step can't be captured all of them are, with a warning.

    Args:
        step: What is captured.
        steady: Whether the objective is the same function of a batch at this and all later steps.
        capture: Captures work.
    """

    def __init__(
        self,
        step: Step,
        steady: Callable[[Progress], bool],
        capture: Callable[[Callable[[], None]], Graph] = cuda_graph,
    ) -> None:
        self.step = step
        self.steady = steady
        self.capture = capture
        self.graph: Graph | None = None
        self.batch: Batch | None = None
        self.usual: list[torch.Size] | None = None
        self.record: Record = {}
        self.seen = 0
        self.failed = False
        self.replays = 0

    def __call__(self, batch: Batch, progress: Progress) -> Record:
        """Takes the step; its record."""
        if self.usual is None:
            # The first batch of an epoch is a full one.
            self.usual = _shapes(batch)
        if self.failed or not self.steady(progress) or _shapes(batch) != self.usual:
            return self.step(batch, progress)
        if self.graph is None:
            self.seen += 1
            if self.seen <= WARM:
                with _beside(batch.x.device):
                    return self.step(batch, progress)
            if not self._captured(batch, progress):
                return self.step(batch, progress)
        assert self.graph is not None
        assert self.batch is not None
        for place, value in zip(_tensors(self.batch), _tensors(batch), strict=True):
            place.copy_(value)
        self.graph.replay()
        self.replays += 1
        # The next replay writes into the same place.
        return {name: value.clone() for name, value in self.record.items()}

    def _captured(self, batch: Batch, progress: Progress) -> bool:
        """Captures a step on a copy of the batch; whether that was possible."""
        place = Batch(
            batch.x.clone(),
            None if batch.context is None else batch.context.clone(),
            None if batch.observed is None else batch.observed.clone(),
        )

        def work() -> None:
            self.record = {name: value.detach() for name, value in self.step(place, progress).items()}

        try:
            self.graph = self.capture(work)
        except RuntimeError as error:
            self.failed = True
            warnings.warn(
                f"the training step can't be captured in a CUDA graph ({str(error).splitlines()[0]}); it is done "
                "operation by operation, which is slower for small networks; capture='off' chooses that beforehand",
                RuntimeWarning,
                stacklevel=2,
            )
            return False
        self.batch = place
        return True


@contextmanager
def _beside(device: torch.device) -> Generator[None]:
    """On a GPU, within the block work is queued beside the main stream, as it will be when it is captured."""
    if device.type != "cuda":
        yield
        return
    main, side = torch.cuda.current_stream(device), torch.cuda.Stream(device)
    side.wait_stream(main)
    with torch.cuda.stream(side):
        yield
    main.wait_stream(side)


def _tensors(batch: Batch) -> list[Tensor]:
    return [value for value in (batch.x, batch.context, batch.observed) if value is not None]


def _shapes(batch: Batch) -> list[torch.Size]:
    return [value.shape for value in _tensors(batch)]
