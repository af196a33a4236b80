"""The training loop: it knows no model, no data set and no folder."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, cast

import torch
from torch import Tensor, nn

from jensen.errors import DataError, FitError
from jensen.training.averaging import WeightAverage
from jensen.training.batches import Batches, Progress
from jensen.training.engine import engine
from jensen.training.interrupt import interruptible
from jensen.training.randomness import Randomness
from jensen.training.records import Records
from jensen.training.settings import Settings
from jensen.training.stopping import EarlyStopping

PERSISTENT = 100
"""Non-finite steps in a row after which a fit gives up, and steps from one look at them to the next."""

Status = Literal["running", "finished", "stopped early", "interrupted"]


@dataclass(frozen=True)
class Epoch:
    """What an epoch has brought.

    Attributes:
        number: Epochs done.
        step: Steps done.
        status: Whether training goes on, and if not, why.
        seconds: Time that this epoch's steps took, validation apart.
        rate: Data a second.
        learning_rate: Step size at its end.
        skipped: Steps with a non-finite gradient so far, which were left out.
        train: Means of what its steps recorded of each datum.
        valid: Mean validation bound and its standard error over the data, in nats, where it was validated.
        best: Whether the weights as they are now are the best so far.
    """

    number: int
    step: int
    status: Status
    seconds: float
    rate: float
    learning_rate: float
    skipped: int
    train: Mapping[str, float]
    valid: tuple[float, float] | None
    best: bool


@dataclass
class Guard:
    """Skips steps with a non-finite gradient and clips long ones, inside the optimiser's own kernel.

    Fused Adam divides the gradient by ``grad_scale`` and does nothing where ``found_inf`` is one; setting both
    costs no pass over the weights and no wait for the device.
    """

    optimiser: torch.optim.Optimizer
    parameters: list[nn.Parameter]
    clip_norm: float | None
    active: bool
    patience: int = PERSISTENT
    skipped: Tensor = field(init=False)
    in_a_row: Tensor = field(init=False)

    def __post_init__(self) -> None:
        device = self.parameters[0].device
        self.skipped = torch.zeros((), device=device)
        self.in_a_row = torch.zeros((), device=device)

    @torch.no_grad()
    def prepare(self) -> None:
        """Looks at the gradients before a step."""
        if not self.active and self.clip_norm is None:
            return
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        optimiser = cast(Any, self.optimiser)
        if self.clip_norm is not None:
            optimiser.grad_scale = (norm / self.clip_norm).clamp(min=1.0).float()
        if self.active:
            found_inf = (~norm.isfinite()).float()
            optimiser.found_inf = found_inf
            self.skipped += found_inf
            self.in_a_row.add_(1).mul_(found_inf)

    def check(self) -> None:
        """Gives up if nothing but non-finite steps come; waits for the device.

        Raises:
            FitError: In that case.
        """
        if self.active and float(self.in_a_row) >= self.patience:
            self.give_up()

    def give_up(self) -> NoReturn:
        """Says why training can't go on.

        Raises:
            FitError: Always.
        """
        raise FitError(
            f"the gradient was not finite for {int(self.in_a_row)} steps in a row, so training can't go on; "
            "lower learning_rate, rescale the data, or look for values that the likelihood gives no "
            "probability. The best weights so far are kept"
        )


class Training:
    """A fit in progress: its state, and a loop that moves it on epoch by epoch.

    Args:
        objective: A module that returns the loss of a batch and a record of scalars.
        batches: The data.
        settings: How to train.
        seed: Of everything random in the steps.
        validate: Returns the bound in nats for each validation datum; called in evaluation mode with the
            average weights in place.
        on_step: Called after each step, as a progress bar wants; it gets the number of data.

    Attributes:
        objective: The module; after the last epoch it has the weights that are to be kept.
        step: Steps done.
        epoch: Epochs done.
    """

    def __init__(
        self,
        objective: nn.Module,
        batches: Batches,
        settings: Settings,
        seed: int = 0,
        validate: Callable[[], Tensor] | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> None:
        device = batches.device
        self.objective = objective.to(device)
        self.batches = batches
        self.settings = settings
        self.validate = validate
        self.on_step = on_step
        self.step = 0
        self.epoch = 0
        self.total_steps = settings.epochs * len(batches)
        parameters = [p for p in objective.parameters() if p.requires_grad]
        self.optimiser = torch.optim.AdamW(
            parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        # A short fit has no hundred steps to lose.
        patience = min(PERSISTENT, max(3, self.total_steps // 10))
        self.guard = Guard(self.optimiser, parameters, settings.clip_norm, settings.guard, patience)
        self.average = None if settings.averaging is None else WeightAverage(objective, settings.averaging)
        self.stopping = EarlyStopping(settings.patience)
        self.randomness = Randomness(seed, device)
        self.best: dict[str, Tensor] | None = None
        self.records = Records()
        self.unfinished: dict[str, Tensor] = {}

    def run(self) -> Iterator[Epoch]:
        """Trains, and reports after each epoch.

        Yields:
            What each epoch has brought. After the last one the objective has its best weights: those of the
            best validation if there was any, else the average.

        Raises:
            FitError: If the gradient stays non-finite; the objective has its best weights then too.
            DataError: If data on disk can't be read any more; likewise, and the state is that after the last step.
        """
        fabric = engine(self.batches.device)
        forward, optimiser = fabric.setup(self.objective, self.optimiser)
        backward: Callable[[Tensor], None] = fabric.backward
        if fabric.world_size == 1:
            # There is nothing to synchronise, and Fabric's wrappers cost a tenth of a millisecond a step.
            forward, optimiser, backward = self.objective, self.optimiser, Tensor.backward
        status: Status = "running" if self.epoch < self.settings.epochs else "finished"
        if status == "finished":
            self._finish()
        elif self.unfinished:
            self.objective.load_state_dict(self.unfinished)
            self.unfinished = {}
        try:
            while status == "running":
                with interruptible() as stop, self.randomness:
                    start = time.perf_counter()
                    record, seen = self._steps(forward, backward, optimiser, stop)
                    seconds = time.perf_counter() - start
                    interrupted = stop.requested
                    valid = None if interrupted else self._validate()
                best = valid is not None and self.stopping.update(valid)
                if best:
                    self.best = self._weights()
                if interrupted:
                    status = "interrupted"
                else:
                    self.epoch += 1
                    self.records.clear()
                    if self.epoch >= self.settings.epochs:
                        status = "finished"
                    elif self.stopping.stop:
                        status = "stopped early"
                if status != "running":
                    if self.guard.active and 0 < self.step <= float(self.guard.skipped):
                        self.guard.give_up()
                    self._finish()
                yield Epoch(
                    number=self.epoch,
                    step=self.step,
                    status=status,
                    seconds=seconds,
                    rate=seen / max(seconds, 1e-9),
                    learning_rate=self.settings.rate(max(self.step - 1, 0) / self.total_steps),
                    skipped=int(self.guard.skipped),
                    train=record,
                    valid=None if valid is None else _mean_and_error(valid),
                    best=best,
                )
        except (FitError, DataError):
            self._finish()
            raise

    def _steps(self, forward: Any, backward: Any, optimiser: Any, stop: Any) -> tuple[dict[str, float], int]:
        """The steps of one epoch, or of what is left of it; the records stay on the device until its end."""
        self.objective.train()
        done, seen = self.step - self.epoch * len(self.batches), 0
        for batch in self.batches.epoch(self.epoch, done):
            progress = Progress(self.step, self.step / len(self.batches), self.step / self.total_steps)
            rate = self.settings.rate(self.step / self.total_steps)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            loss, record = forward(batch, progress)
            for parameter in self.guard.parameters:
                parameter.grad = None
            backward(loss)
            self.guard.prepare()
            optimiser.step()
            self.step += 1
            if self.average is not None:
                self.average.update(self.step)
            self.records.add(record)
            done += 1
            seen += len(batch.x)
            if self.on_step is not None:
                self.on_step(len(batch.x))
            if self.step % PERSISTENT == 0:
                self.guard.check()
            if stop.requested:
                # Before the next batch is made, which may draw random numbers.
                break
        self.guard.check()
        return self.records.means(), seen

    def _validate(self) -> Tensor | None:
        due = (self.epoch + 1) % self.settings.validate_every == 0 or self.epoch + 1 == self.settings.epochs
        if self.validate is None or not due:
            return None
        self.objective.eval()
        if self.average is None:
            return self.validate()
        with self.average.applied():
            return self.validate()

    def _weights(self) -> dict[str, Tensor]:
        """A copy of the weights as they would be kept now."""
        if self.average is None:
            return {name: value.detach().clone() for name, value in self.objective.state_dict().items()}
        with self.average.applied():
            return {name: value.detach().clone() for name, value in self.objective.state_dict().items()}

    def _finish(self) -> None:
        """Puts the weights in place that are to be kept; those that training had are kept for a resumed fit."""
        self.unfinished = {name: value.clone() for name, value in self.objective.state_dict().items()}
        self.objective.load_state_dict(self.best if self.best is not None else self._weights())
        self.objective.eval()

    def kept(self) -> dict[str, Tensor]:
        """The weights that would be kept if training ended now: the best so far, else the average."""
        return self.best if self.best is not None else self._weights()

    def state_dict(self) -> dict[str, Any]:
        """All that is needed to go on later as if nothing had happened, in the middle of an epoch too.

        Returns:
            Nested dicts with tensors, numbers and text as leaves.
        """
        return {
            "step": self.step,
            "epoch": self.epoch,
            "objective": self.unfinished or self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict()["state"],
            "average": [] if self.average is None else self.average.averages,
            "stopping": self.stopping.state_dict(),
            "randomness": self.randomness.state,
            "best": self.best,
            "skipped": self.guard.skipped,
            "records": self.records.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that was kept."""
        self.step, self.epoch = int(state["step"]), int(state["epoch"])
        self.objective.load_state_dict(state["objective"])
        self.unfinished = {}
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state["optimiser"], "param_groups": groups})
        if self.average is not None:
            for mine, kept in zip(self.average.averages, state["average"], strict=True):
                mine.copy_(kept)
        self.stopping.load_state_dict(state["stopping"])
        self.randomness.state = [kept.cpu() for kept in state["randomness"]]
        self.best = state["best"]
        self.guard.skipped.copy_(state["skipped"])
        self.records.load_state_dict(state["records"])


def _mean_and_error(values: Tensor) -> tuple[float, float]:
    values = values.double()
    error = float(values.std()) / len(values) ** 0.5 if len(values) > 1 else float("nan")
    return float(values.mean()), error
