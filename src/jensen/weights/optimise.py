"""Training of many sets of values at once, by the loop that all of jensen trains with."""

from collections.abc import Callable, Iterator, Mapping

import torch
from jaxtyping import Int
from torch import Tensor, nn

from jensen.training import Batch, Progress, Settings, Training
from jensen.weights.network import Values, flat, quiet, unflat
from jensen.weights.options import TrainingOptions
from jensen.weights.problem import Problem

Loss = Callable[[Values, Batch, Progress], Tensor]
"""Of values by name, a batch (x, and its targets as the context) and the progress; a number for each set, (S,)."""

History = dict[str, list[float]]
"""What training recorded, epoch by epoch."""


TOGETHER = 2**16
"""Numbers of a set of values up to which all sets lie in one tensor; larger ones would only be copied once more."""


class MemberBatches:
    """Batches of data in memory, the same for all sets of weights or others for each.

    Args:
        x: Data (n, *event).
        y: Targets (n, *target).
        batch_size: Data in a batch.
        seed: Of the shuffles; each epoch, and each set of weights, has one of its own.
        sets: How many sets of weights get data in an order of their own; None: all get the same batches.
        rows: Which data each set gets, (sets, m), as for bootstrap samples; None: all n.
        share: Which of these sets the batches are for, as where the others are trained elsewhere; None: all. What a set
            gets depends on its own number alone.
    """

    def __init__(
        self,
        x: Tensor,
        y: Tensor,
        batch_size: int,
        seed: int = 0,
        sets: int | None = None,
        rows: Int[Tensor, "sets m"] | None = None,
        share: range | None = None,
    ) -> None:
        self.x = x
        self.y = y
        self.seed = seed
        self.sets = sets
        self.share = slice(None) if share is None else slice(share.start, share.stop)
        self.rows = None if rows is None else rows.to(x.device)[self.share]
        self.n = len(x) if rows is None else rows.shape[1]
        self.batch_size = min(batch_size, self.n)

    @property
    def device(self) -> torch.device:
        """Where the data are."""
        return self.x.device

    def __len__(self) -> int:
        """Batches in an epoch; a last one of less than half the size joins the one before."""
        return max(1, (self.n + self.batch_size // 2) // self.batch_size)

    def epoch(self, number: int, done: int = 0) -> Iterator[Batch]:
        """The batches of an epoch but for the first ``done``; x is (b, *event), or (sets that it is for, b, *event)."""
        generator = torch.Generator().manual_seed((self.seed * 1_000_003 + number) % 2**63)
        if self.sets is None:
            order = torch.randperm(self.n, generator=generator)
        else:
            order = torch.rand(self.sets, self.n, generator=generator)[self.share].argsort(1)
        order = order.to(self.x.device)
        if self.rows is not None:
            order = self.rows.gather(1, order)
        if len(self) == 1 and order.ndim == 1:
            # All data, whose order doesn't matter.
            yield Batch(self.x, self.y)
            return
        for step in range(done, len(self)):
            end = self.n if step + 1 == len(self) else (step + 1) * self.batch_size
            index = order[..., step * self.batch_size : end]
            rows = index.reshape(-1)
            x, y = self.x.index_select(0, rows), self.y.index_select(0, rows)
            yield Batch(x.view(*index.shape, *x.shape[1:]), y.view(*index.shape, *y.shape[1:]))


class Objective(nn.Module):
    """Values that are trained, as parameters, and the function of them that is to become small.

    Sets of few values lie in one tensor, which costs the optimiser and the backward pass less than many small ones do.

    Args:
        values: Where training starts.
        loss: Of values by name, one number a set of weights, whose sum is minimised. If they lie in one tensor
            (S, size) it comes too, under the empty name.
        sets: Whether values have a first dimension of sets, (S, *shape).
    """

    def __init__(self, values: Mapping[str, Tensor], loss: Loss, sets: bool = True) -> None:
        super().__init__()
        together = sets and sum(value[0].numel() for value in values.values()) <= TOGETHER
        self.like = {name: value[0] for name, value in values.items()} if together else {}
        start = {"": flat(values, self.like)} if together else values
        self.own: Values = {name: nn.Parameter(value.detach().clone()) for name, value in start.items()}
        self.parts = nn.ParameterList(self.own.values())
        self.loss = loss

    @property
    def values(self) -> Values:
        """The values by name."""
        return unflat(self.own[""], self.like) if self.like else dict(self.own)

    def forward(self, batch: Batch, progress: Progress) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss and its record."""
        each = self.loss(self.own if not self.like else {**self.values, **self.own}, batch, progress)
        return each.sum(), {"loss": each.detach().mean()}


def optimise(
    values: Mapping[str, Tensor],
    loss: Loss,
    batches: MemberBatches,
    options: TrainingOptions,
    problem: Problem,
    *,
    sets: bool = True,
    after_epoch: Callable[[int, Values], None] | None = None,
) -> tuple[Values, History]:
    """Trains values by Adam.

    Args:
        values: Where it starts.
        loss: What is to become small, in nats for each datum so that one step size serves any amount of data.
        batches: The data.
        options: How to train.
        problem: Its seed, and whom to tell of each epoch.
        sets: Whether values have a first dimension of sets.
        after_epoch: Called with the epochs done and the values as they are.

    Returns:
        The values, and the mean loss of each epoch.

    Raises:
        FitError: If the gradient stays non-finite, or memory runs out.
    """
    objective = Objective(values, loss, sets)
    # The caller may have handed them over.
    del values
    if options.epochs == 0:
        return {name: value.detach() for name, value in objective.values.items()}, {"loss": []}
    settings = Settings(
        epochs=options.epochs,
        learning_rate=options.learning_rate,
        warm_up=options.warm_up,
        decay=options.decay,
        clip_norm=options.clip_norm,
        averaging=None,
        patience=None,
        capture="off",
    )
    training = Training(objective, batches, settings, seed=problem.seed, clip_sets=sets)
    history: History = {"loss": []}
    # Slopes of what the network was named for.
    with quiet():
        for epoch in training.run():
            history["loss"].append(epoch.train["loss"] if "loss" in epoch.train else float("nan"))
            if after_epoch is not None:
                after_epoch(epoch.number, {n: v.detach() for n, v in objective.values.items()})
            if problem.on_epoch is not None:
                problem.on_epoch(epoch.number, options.epochs)
            if epoch.status == "interrupted":
                raise KeyboardInterrupt
    return {name: value.detach() for name, value in objective.values.items()}, history
