"""Hamiltonian moves of many chains for many data at once, between two densities."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from jensen.errors import BoundError

Densities = Callable[[Tensor], tuple[Tensor, Tensor]]
"""From latents (S, B, D) to the log-densities of the start and of the goal, (S, B) each, unnormalised or not."""

_JITTER = 0.2
"""By which part a chain's step size varies from move to move, so that no move is a whole turn."""


@dataclass(frozen=True)
class State:
    """Where the chains are.

    Attributes:
        z: Latents (S, B, D).
        log_start: Log-density of the start, (S, B), float64.
        log_goal: Log-density of the goal, likewise.
        start_slope: Gradient of the former in z, (S, B, D).
        goal_slope: Gradient of the latter.
    """

    z: Tensor
    log_start: Tensor
    log_goal: Tensor
    start_slope: Tensor
    goal_slope: Tensor

    def level(self, beta: float) -> Tensor:
        """(1 - beta) log start + beta log goal, (S, B)."""
        return (1 - beta) * self.log_start + beta * self.log_goal

    def slope(self, beta: float) -> Tensor:
        """The gradient of ``level``, (S, B, D)."""
        return (1 - beta) * self.start_slope + beta * self.goal_slope


def state_at(densities: Densities, z: Tensor) -> State:
    """Evaluates both densities and their gradients.

    Raises:
        BoundError: If the goal has no gradient in z.
    """
    with torch.enable_grad():
        z = z.detach().requires_grad_(True)
        log_start, log_goal = densities(z)
        if not log_goal.requires_grad:
            raise BoundError(
                "log p(x, z) has no gradient in the latents, which Hamiltonian moves need; use method='is'"
            )
        # Two passes back: the start's graph is small, and a move needs its gradient at any level.
        (goal_slope,) = torch.autograd.grad(log_goal.sum(), z, retain_graph=log_start.requires_grad)
        start_slope = torch.zeros_like(goal_slope)
        if log_start.requires_grad:
            (start_slope,) = torch.autograd.grad(log_start.sum(), z)
    return State(z.detach(), log_start.detach().double(), log_goal.detach().double(), start_slope, goal_slope)


def move(
    densities: Densities, state: State, beta: float, step: Tensor, scale: Tensor, leaps: int
) -> tuple[State, Tensor]:
    """One move that leaves start^(1 - beta) goal^beta invariant: fresh momentum, leapfrog, accept or reject.

    Args:
        densities: Start and goal.
        state: Where the chains are.
        beta: The level, from 0 to 1.
        step: Step size of each datum in units of the scale, (B,).
        scale: Size of each latent, (B, D): the inverse square root of the mass.
        leaps: Leapfrog steps.

    Returns:
        Where the chains are then, and the probabilities (S, B) with which the moves were accepted.

    Source: MCMC using Hamiltonian dynamics, 2012, https://arxiv.org/abs/1206.1901.
    """
    shape = state.log_goal.shape
    jitter = 1 + _JITTER * (2 * torch.rand(shape, dtype=scale.dtype, device=scale.device) - 1)
    reach = (step.to(scale.dtype) * jitter)[..., None] * scale
    momentum = torch.randn_like(state.z)
    before = state.level(beta) - 0.5 * momentum.square().sum(-1)
    new = state
    momentum = momentum + 0.5 * reach * new.slope(beta)
    for leap in range(leaps):
        new = state_at(densities, new.z + reach * momentum)
        momentum = momentum + (1.0 if leap < leaps - 1 else 0.5) * reach * new.slope(beta)
    after = new.level(beta) - 0.5 * momentum.square().sum(-1)
    # A path that left the numbers is rejected; so would its way back be.
    probability = (after - before).nan_to_num(nan=-torch.inf).clamp(max=0).exp()
    accepted = torch.rand_like(probability) < probability
    wide = accepted[..., None]
    return State(
        torch.where(wide, new.z, state.z),
        torch.where(accepted, new.log_start, state.log_start),
        torch.where(accepted, new.log_goal, state.log_goal),
        torch.where(wide, new.start_slope, state.start_slope),
        torch.where(wide, new.goal_slope, state.goal_slope),
    ), probability
