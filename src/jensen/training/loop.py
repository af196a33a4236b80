"""The training loop: it knows no model, no data set and no folder."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from jensen.errors import DataError, FitError
from jensen.flushing import flushed
from jensen.training import guard as guards
from jensen.training.averaging import WeightAverage
from jensen.training.batches import Batch, Batches, Progress
from jensen.training.engine import Alone, Engine
from jensen.training.guard import Guard
from jensen.training.interrupt import Stop, interruptible
from jensen.training.memory import saying_what_to_lower
from jensen.training.randomness import Randomness
from jensen.training.records import AT_ONCE, Records
from jensen.training.repeated import CapturedStep, RecordedStep
from jensen.training.settings import Settings
from jensen.training.step import Record, Step
from jensen.training.stopping import EarlyStopping
from jensen.training.threads import SMALL, chosen, operations, threads

AGREE_EVERY = 10
"""Small steps after which several processes ask each other whether to stop; after large ones they always do."""

TakesStep = Callable[[Batch, Progress], Record]

Validate = Callable[[int], Mapping[str, Tensor]]

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
        valid: Means of what validation gave for each datum, by name, and the "standard_error" over the data of the
            one that decides; None where it wasn't validated.
        best: Whether the weights as they are now are the best of this stage so far.
        stage: Of the objective, 0 or 1.
    """

    number: int
    step: int
    status: Status
    seconds: float
    rate: float
    learning_rate: float
    skipped: int
    train: Mapping[str, float]
    valid: Mapping[str, float] | None
    best: bool
    stage: int = 0


class Training:
    """A fit in progress: its state, and a loop that moves it on epoch by epoch.

    Args:
        objective: A module that returns the loss of a batch and a record of scalars.
        batches: The data.
        settings: How to train.
        seed: Of everything random in the steps.
        validate: Given the objective's stage, returns what there is to say of each validation datum, by name, (n,)
            each; the last one, the bound in nats that is maximised, decides which weights are the best. Called in
            evaluation mode with the average weights in place.
        on_step: Called after each step, as a progress bar wants; it gets the number of data that all processes
            took.
        engine: What it runs on; by default this process by itself.
        clip_sets: Whether the first dimension of all parameters is one of sets that have nothing to do with each other,
            the gradient of each of which has a norm of its own to be clipped.

    Attributes:
        objective: The module; after the last epoch it has the weights that are to be kept.
        step: Steps done.
        epoch: Epochs done.
        stage: Of the objective; it begins after ``begun`` steps, and the fit ends after ``end`` epochs.
    """

    def __init__(
        self,
        objective: nn.Module,
        batches: Batches,
        settings: Settings,
        seed: int = 0,
        validate: Validate | None = None,
        on_step: Callable[[int], None] | None = None,
        engine: Engine | None = None,
        *,
        clip_sets: bool = False,
    ) -> None:
        device = batches.device
        self.engine: Engine = Alone(device) if engine is None else engine
        self.objective = objective.to(device)
        self.batches = batches
        self.settings = settings
        self.validate = validate
        self.on_step = on_step
        self.step = 0
        self.epoch = 0
        self.stage = 0
        self.begun = 0
        self.tail = round(settings.second_stage * settings.epochs)
        self.end = settings.epochs
        parameters = [p for p in objective.parameters() if p.requires_grad]
        self.steady: Callable[[Progress], bool] | None = getattr(objective, "steady", None)
        self.repeats = (
            settings.capture == "auto"
            and settings.accumulate == self.engine.world_size == 1
            and self.steady is not None
        )
        self.captures = self.repeats and device.type == "cuda"
        rate = settings.learning_rate
        self.optimiser = torch.optim.AdamW(
            parameters,
            # A captured step reads it from the device.
            lr=torch.tensor(rate, device=device) if self.captures else rate,
            weight_decay=settings.weight_decay,
            fused=True,
            capturable=self.captures,
        )
        work = operations(sum(p.numel() for p in parameters), getattr(batches, "batch_size", 1))
        self.threads = chosen(settings.threads, work)
        # Large steps of several processes; a GPU would have to be waited for.
        large = self.engine.world_size > 1 and device.type == "cpu" and work >= SMALL
        self.agree_every = 1 if large else AGREE_EVERY
        # A short fit has no hundred steps to lose.
        patience = min(guards.PERSISTENT, max(3, self.end * len(batches) // 10))
        self.guard = Guard(
            self.optimiser, parameters, settings.clip_norm, settings.guard, patience, clip_sets
        )
        self.average = None if settings.averaging is None else WeightAverage(objective, settings.averaging)
        self.stopping = EarlyStopping(settings.patience)
        self.randomness = Randomness(seed, device)
        self.best: dict[str, Tensor] | None = None
        self.records = Records(self.engine.total, AGREE_EVERY if large else AT_ONCE)
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
        take = self._step()
        status: Status = "running" if self.epoch < self.end else "finished"
        if status == "finished":
            self._finish()
        elif self.unfinished:
            self.objective.load_state_dict(self.unfinished)
            self.unfinished = {}
        try:
            with interruptible() as stop, saying_what_to_lower():
                while status == "running":
                    epoch = self._epoch(take, stop)
                    status = epoch.status
                    yield epoch
        except (FitError, DataError):
            self._finish()
            raise

    def _step(self) -> TakesStep:
        step = Step(
            self.objective, self.optimiser, self.guard, self.randomness, self.settings.accumulate, self.engine
        )
        if not self.repeats or self.steady is None:
            return step
        if self.captures:
            return CapturedStep(step, self.steady)
        return RecordedStep(step, self.steady, self.objective)

    def _epoch(self, take: TakesStep, stop: Stop) -> Epoch:
        """One epoch, or what is left of it, with its validation."""
        with self.randomness, threads(self.threads), flushed():
            start = time.perf_counter()
            record, seen, interrupted = self._steps(take, stop)
            seconds = time.perf_counter() - start
            valid = None if interrupted else self._validate()
        best = valid is not None and self.stopping.update([*valid.values()][-1])
        if best:
            self.best = self._weights()
        status: Status = "interrupted" if interrupted else "running"
        stage, fraction = self.stage, self._fraction(max(self.step - 1, 0))
        if not interrupted:
            self.epoch += 1
            self.records.clear()
            if stage == 0 < self.tail and (self.stopping.stop or self.epoch >= self.end - self.tail):
                self._turn()
            elif self.epoch >= self.end:
                status = "finished"
            elif self.stopping.stop:
                status = "stopped early"
        if status != "running":
            if self.guard.active and 0 < self.step <= float(self.guard.skipped):
                self.guard.give_up()
            self._finish()
        return Epoch(
            number=self.epoch,
            step=self.step,
            status=status,
            seconds=seconds,
            rate=seen / max(seconds, 1e-9),
            learning_rate=self.settings.rate(fraction),
            skipped=int(self.guard.skipped),
            train=record,
            valid=None if valid is None else _means_and_error(valid),
            best=best,
            stage=stage,
        )

    def _turn(self) -> None:
        """Goes over to the second stage, from the weights that would be kept."""
        self.stage, self.begun, self.end = 1, self.step, self.epoch + self.tail
        self.objective.load_state_dict(self.kept())
        if self.average is not None:
            self.average.restart()
        # The bounds of two stages can't be compared: the best of the second one replaces that of the first.
        self.stopping = EarlyStopping(self.settings.patience)

    def _fraction(self, step: int) -> float:
        """The part of the planned steps that these are."""
        return step / (self.end * len(self.batches))

    def _steps(self, take: TakesStep, stop: Stop) -> tuple[dict[str, float], int, bool]:
        """The steps of one epoch, or of what is left of it; the records stay on the device until its end.

        Returns:
            The means of the records, the number of data, and whether somebody asked to stop.
        """
        self.objective.train()
        done, seen = self.step - self.epoch * len(self.batches), 0
        batches = self.batches.epoch(self.epoch, done)
        while not (stopped := self._stopped(stop)):
            batch = next(batches, None)
            if batch is None:
                break
            epoch, fraction = self.step / len(self.batches), self._fraction(self.step)
            progress = Progress(self.step, epoch, fraction, self.stage)
            self._set_rate(self.settings.rate(progress.fraction))
            self.records.add(take(batch, progress))
            self.step += 1
            if self.average is not None:
                self.average.update(self.step - self.begun)
            data = batch.rows.total
            seen += data
            if self.on_step is not None:
                self.on_step(data)
            if self.step % guards.PERSISTENT == 0:
                self.guard.check()
        self.guard.check()
        return self.records.means(), seen, stopped

    def _set_rate(self, rate: float) -> None:
        for group in self.optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate)
            else:
                group["lr"] = rate

    def _stopped(self, stop: Stop) -> bool:
        """Whether to stop before the next batch is made; several processes agree on it now and then."""
        if self.engine.world_size == 1:
            return stop.requested
        if self.step % self.agree_every != 0:
            return False
        asked = torch.tensor(float(stop.requested), device=self.engine.device)
        return float(self.engine.total(asked)) > 0

    def _validate(self) -> Mapping[str, Tensor] | None:
        due = (self.epoch + 1) % self.settings.validate_every == 0 or self.epoch + 1 == self.end
        if self.validate is None or not due:
            return None
        self.objective.eval()
        if self.average is None:
            return self.validate(self.stage)
        with self.average.applied():
            return self.validate(self.stage)

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
            "stage": self.stage,
            "begun": self.begun,
            "end": self.end,
            "objective": self.unfinished or self.objective.state_dict(),
            "optimiser": self.optimiser.state_dict()["state"],
            "average": [] if self.average is None else self.average.averages,
            "stopping": self.stopping.state_dict(),
            "randomness": self.randomness.state,
            "best": self.best,
            "skipped": self.guard.skipped,
            "skipped_in_a_row": self.guard.in_a_row,
            "records": self.records.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Goes on from a state that was kept."""
        self.step, self.epoch = int(state["step"]), int(state["epoch"])
        self.stage, self.begun, self.end = int(state["stage"]), int(state["begun"]), int(state["end"])
        self.objective.load_state_dict(state["objective"])
        self.unfinished = {}
        groups = self.optimiser.state_dict()["param_groups"]
        self.optimiser.load_state_dict({"state": state["optimiser"], "param_groups": groups})
        if self.captures:
            for group in self.optimiser.param_groups:
                group["lr"] = torch.as_tensor(group["lr"], device=self.batches.device)
        if self.average is not None:
            for mine, kept in zip(self.average.averages, state["average"], strict=True):
                mine.copy_(kept)
        self.stopping.load_state_dict(state["stopping"])
        self.randomness.state = [kept.cpu() for kept in state["randomness"]]
        self.best = state["best"]
        self.guard.skipped.copy_(state["skipped"])
        self.guard.in_a_row.copy_(state["skipped_in_a_row"])
        self.records.load_state_dict(state["records"])


def _means_and_error(values: Mapping[str, Tensor]) -> dict[str, float]:
    last = [*values.values()][-1].double()
    error = float(last.std()) / len(last) ** 0.5 if len(last) > 1 else float("nan")
    return {**{name: float(some.double().mean()) for name, some in values.items()}, "standard_error": error}
