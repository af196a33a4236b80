"""Gradients of a log-density by random rows of its data, other rows for each chain."""

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vmap

from jensen.errors import ConfigError
from jensen.inference.batching import explained, same, unvalidated
from jensen.inference.target import Target
from jensen.recording import record

_CALLS = 30
"""Calls after which a recording pays."""


class Minibatches:
    """Unbiased gradients of a target's log-density; each chain sees rows of its own, drawn anew for each call.

    Args:
        target: With ``log_likelihood`` and ``data``.
        batch_size: Rows of a chain's call.

    Raises:
        ConfigError: If the target has no data apart, or the batch size isn't from 1 to their number.
    """

    def __init__(self, target: Target, batch_size: int) -> None:
        if target.data is None or target.rows is None or target.log_likelihood is None:
            raise ConfigError("a target takes minibatches if it was given log_likelihood and data apart")
        if not 1 <= batch_size <= target.rows:
            raise ConfigError(
                f"batch_size is {batch_size}; it has to be from 1 to the {target.rows} rows of the data"
            )
        target.subsample(torch.arange(1))  # Refuses what rows would bias.
        target.check(gradient=True)
        self.target = target
        self.data = target.data
        self.rows = target.rows
        self.batch_size = batch_size
        self.calls: Counter[int] = Counter()
        self.recorded: dict[int, Callable[..., Any]] = {}

    def __call__(self, points: Float[Tensor, "chains dim"]) -> Float[Tensor, "chains dim"]:
        """Estimates of the gradients at points, (chains, dim), detached."""
        index = torch.randint(self.rows, (len(points), self.batch_size))
        parts = [rows.index_select(0, index.flatten()).unflatten(0, index.shape) for rows in self.data]
        with unvalidated():
            chains = len(points)
            if chains in self.recorded:
                # What fails in a recording fails as it should without one, or succeeds.
                with suppress(RuntimeError):
                    return self.recorded[chains](points, *parts)[0]
            self.calls[chains] += 1
            if self.calls[chains] == _CALLS and not self.target.loop:
                # Whatever a user's function does that can't be recorded, it goes on as it is.
                with suppress(Exception):
                    recorded = record(self._gradient, points, *parts)
                    elsewhere = points + 0.01
                    if same(self._gradient(elsewhere, *parts)[0], recorded(elsewhere, *parts)[0]):
                        self.recorded[chains] = recorded
            try:
                return self._gradient(points, *parts)[0]
            except RuntimeError as error:
                raise explained(error) from error

    def _gradient(self, points: Tensor, *parts: Tensor) -> tuple[Tensor, ...]:
        with torch.enable_grad():
            leaves = points.detach().requires_grad_()
            if self.target.loop:
                values = torch.stack(
                    [self._one(point, *(part[i] for part in parts)) for i, point in enumerate(leaves)]
                )
            else:
                values = vmap(self._one)(leaves, *parts)
            return torch.autograd.grad(values.sum(), leaves)

    def _one(self, point: Tensor, *rows: Tensor) -> Tensor:
        target = self.target
        values, jacobian = target._constrain(point)
        likelihood = target.log_likelihood(values, *rows) if target.log_likelihood is not None else jacobian
        scale = target.scale * self.rows / self.batch_size
        return target.log_joint(values).reshape(()) + jacobian + scale * likelihood.double().sum()
