"""Steps that are prepared once and then done again: a CUDA graph on a GPU, a list of operations on a processor."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol, cast, runtime_checkable

import torch
from torch import Tensor, nn
from torch.func import functional_call

from jensen.recording import record as recorded
from jensen.training.batches import Batch, Progress
from jensen.training.step import Record, Step

WARM = 3
"""Steps that are done operation by operation before one is captured, in which libraries set themselves up."""

PAYS = 100
"""Steps before one is recorded, which takes about as long as is saved in so many."""

Steady = Callable[[Progress], bool]


class Repeated(ABC):
    """A step that is prepared when some have been done, and then done again.

    Batches of another shape than the first one's, such as a last short one, and steps while the objective isn't
    steady are done operation by operation. If a step can't be prepared all of them are. Each stage of the objective has
    a step of its own.

    Args:
        step: What is prepared.
        steady: Whether the objective is the same function of a batch at this and all later steps of its stage.
        after: Steps before one is prepared.
    """

    def __init__(self, step: Step, steady: Steady, after: int) -> None:
        self.step = step
        self.steady = steady
        self.after = after
        self.usual: list[torch.Size] | None = None
        self.stage = self.seen = 0
        self.ready = self.failed = False
        self.replays = 0

    def __call__(self, batch: Batch, progress: Progress) -> Record:
        """Takes the step; its record."""
        if self.usual is None:
            # The first batch of an epoch is a full one.
            self.usual = _shapes(batch)
        if progress.stage != self.stage:
            self.stage, self.seen = progress.stage, 0
            self.ready = self.failed = False
        if self.failed or not self.steady(progress) or _shapes(batch) != self.usual:
            return self.step(batch, progress)
        if not self.ready:
            self.seen += 1
            if self.seen <= self.after:
                return self.warm(batch, progress)
            self.ready = self.prepare(batch, progress)
            self.failed = not self.ready
            if self.failed:
                return self.step(batch, progress)
        self.replays += 1
        return self.again(batch)

    def warm(self, batch: Batch, progress: Progress) -> Record:
        """A step before one is prepared."""
        return self.step(batch, progress)

    @abstractmethod
    def prepare(self, batch: Batch, progress: Progress) -> bool:
        """Prepares the step; whether that was possible."""

    @abstractmethod
    def again(self, batch: Batch) -> Record:
        """Does it with another batch."""


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


class CapturedStep(Repeated):
    """A step that is captured once and then replayed: the processor starts one graph, not hundreds of operations.

    What changes from step to step lies in tensors that keep their place: the batch, the step size, the state of the
    generator. If a step can't be captured there is a warning.

    Args:
        step: What is captured.
        steady: Whether the objective is the same function of a batch at this and all later steps of its stage.
        capture: Captures work.
    """

    def __init__(
        self, step: Step, steady: Steady, capture: Callable[[Callable[[], None]], Graph] = cuda_graph
    ) -> None:
        super().__init__(step, steady, WARM)
        self.capture = capture
        self.graph: Graph | None = None
        self.batch: Batch | None = None
        self.record: Record = {}

    def warm(self, batch: Batch, progress: Progress) -> Record:
        """A step beside the main stream."""
        with _beside(batch.x.device):
            return self.step(batch, progress)

    def prepare(self, batch: Batch, progress: Progress) -> bool:
        """Captures a step on a copy of the batch; whether that was possible."""
        place = _batch([value.clone() for value in _tensors(batch)], batch)

        def work() -> None:
            self.record = {name: value.detach() for name, value in self.step(place, progress).items()}

        try:
            self.graph = self.capture(work)
        except RuntimeError as error:
            warnings.warn(
                f"the training step can't be captured in a CUDA graph ({str(error).splitlines()[0]}); it is done "
                "operation by operation, which is slower for small networks; capture='off' chooses that beforehand",
                RuntimeWarning,
                stacklevel=3,
            )
            return False
        self.batch = place
        return True

    def again(self, batch: Batch) -> Record:
        """Replays it on another batch."""
        assert self.graph is not None
        assert self.batch is not None
        for place, value in zip(_tensors(self.batch), _tensors(batch), strict=True):
            place.copy_(value)
        self.graph.replay()
        # The next replay writes into the same place.
        return {name: value.clone() for name, value in self.record.items()}


class RecordedStep(Repeated):
    """A step whose loss and gradients are recorded as a list of operations: no Python and no graph in between.

    It gives the same numbers to the last bit, or it isn't used: the recording is compared with the step itself on other
    data, with the same random numbers. An objective whose buffers change, or that looks at values to decide what to do,
    is never recorded.

    Args:
        step: Whose gradients are recorded.
        steady: Whether the objective is the same function of a batch at this and all later steps of its stage.
        objective: Of the step.
        after: Steps before one is recorded.
    """

    def __init__(self, step: Step, steady: Steady, objective: nn.Module, after: int = PAYS) -> None:
        super().__init__(step, steady, after)
        self.objective = objective
        named = dict(objective.named_parameters())
        self.moved = {name: value for name, value in named.items() if value.requires_grad}
        self.still = self._still()
        self.before: list[Tensor] | None = None
        self.names: list[str] = []
        self.used: list[str] = []
        self.run: Callable[..., tuple[Tensor, ...]] | None = None

    def warm(self, batch: Batch, progress: Progress) -> Record:
        """A step before one is recorded."""
        if self.before is None:
            self.before = [value.clone() for value in self._still().values()]
        return self.step(batch, progress)

    def prepare(self, batch: Batch, progress: Progress) -> bool:
        """Records loss and gradients of a batch; whether that was possible."""
        self.still = self._still()
        if not all(map(torch.equal, self.before or (), self.still.values())):
            return False

        def gradients(*tensors: Tensor) -> tuple[Tensor, ...]:
            return self._gradients(batch, progress, list(tensors))

        state = torch.get_rng_state()
        other = [value.flip(0) for value in _tensors(batch)]
        run, same = None, False
        try:
            run = recorded(gradients, *self._given(_tensors(batch)), exact=True)
            torch.set_rng_state(state)
            found = (*run(*self._given(other)), torch.get_rng_state())
            torch.set_rng_state(state)
            wanted = (*self._plainly(_batch(other, batch), progress), torch.get_rng_state())
            same = len(found) == len(wanted) and all(map(torch.equal, found, wanted))
        except Exception:  # Whatever an objective does that can't be recorded, it goes on as it is.
            same = False
        torch.set_rng_state(state)
        self.run = run if same else None
        return same

    def _plainly(self, batch: Batch, progress: Progress) -> list[Tensor]:
        """Gradients and record as the step itself comes to them, with whatever hooks the parameters have."""
        for parameter in self.moved.values():
            parameter.grad = None
        loss, record = self.step.forward(batch, progress)
        self.step.engine.backward(loss)
        gradients = [parameter.grad for parameter in self.moved.values() if parameter.grad is not None]
        return [*gradients, *(value.detach() for value in record.values())]

    def again(self, batch: Batch) -> Record:
        """Takes the step with another batch."""
        assert self.run is not None
        results = self.run(*self._given(_tensors(batch)))
        for parameter in self.moved.values():
            parameter.grad = None
        for name, gradient in zip(self.used, results, strict=False):
            self.moved[name].grad = gradient
        self.step.update()
        return dict(zip(self.names, results[len(self.used) :], strict=True))

    def _still(self) -> dict[str, Tensor]:
        """What a step reads and doesn't move: buffers, and parameters that aren't trained."""
        fixed = {name: p for name, p in self.objective.named_parameters() if not p.requires_grad}
        return {**fixed, **dict(self.objective.named_buffers())}

    def _given(self, data: list[Tensor]) -> list[Tensor]:
        """What the recording takes."""
        return [*data, *self.moved.values(), *self.still.values()]

    def _gradients(self, like: Batch, progress: Progress, tensors: list[Tensor]) -> tuple[Tensor, ...]:
        """Gradients by the parameters that the loss depends on, and the record."""
        data = len(_tensors(like))
        batch, values = _batch(tensors[:data], like), tensors[data:]
        leaves = [value.detach().requires_grad_() for value in values[: len(self.moved)]]
        state = dict(zip([*self.moved, *self.still], [*leaves, *values[len(leaves) :]], strict=True))
        with torch.enable_grad():
            loss, record = functional_call(self.objective, state, (batch, progress))
            # Torch's types don't tell that it gives None for what isn't used.
            given = torch.autograd.grad(loss, leaves, allow_unused=True)
        found = cast("tuple[Tensor | None, ...]", given)
        self.used = [name for name, gradient in zip(self.moved, found, strict=True) if gradient is not None]
        self.names = list(record)
        gradients = [gradient for gradient in found if gradient is not None]
        return (*gradients, *(value.detach() for value in record.values()))


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
    rest = [value for value in (batch.context, batch.observed) if value is not None]
    return [batch.x, *rest]


def _batch(tensors: list[Tensor], like: Batch) -> Batch:
    """A batch of other tensors, with those parts that another one has."""
    x, *rest = tensors
    context = None if like.context is None else rest.pop(0)
    return Batch(x, context, None if like.observed is None else rest.pop(0))


def _shapes(batch: Batch) -> list[torch.Size]:
    return [value.shape for value in _tensors(batch)]
