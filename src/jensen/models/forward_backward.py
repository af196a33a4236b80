"""Forward-backward and Viterbi for many sequences at once, of unequal length."""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

SMALLEST_TRANSITION = 1e-100
"""Where every transition is likelier than this, no state that a scaled pass loses to underflow can matter later."""


@dataclass(frozen=True)
class Smoothed:
    """What a pass gives.

    Attributes:
        log_prob: Log of the sum over all paths for each sequence, (B,).
        states: Probability of each state at each time, zero behind a sequence's end, (T, B, K).
        transitions: Expected number of transitions from each state to each, over all sequences, (K, K).
    """

    log_prob: Float[Tensor, " b"]
    states: Float[Tensor, "t b k"]
    transitions: Float[Tensor, "k k"]


def forward_backward(
    log_start: Float[Tensor, " k"],
    log_transition: Float[Tensor, "k k"],
    log_emission: Float[Tensor, "t b k"],
    lengths: Int[Tensor, " b"],
) -> Smoothed:
    """Posterior of the states of hidden Markov chains; neither weights nor transitions need to be normalised.

    The sums are taken with the largest term of each time factored out, as products of matrices. That is exact as
    long as no transition is all but impossible; otherwise all is done in logarithms, term by term.

    Args:
        log_start: Of the first state.
        log_transition: From row to column.
        log_emission: Log density of what was observed at each time under each state; finite.
        lengths: Of the sequences, from 1 to T.

    Returns:
        Their smoothed states.
    """
    mask = torch.arange(len(log_emission))[:, None] < lengths
    low = torch.minimum(log_transition.min(), log_start.min())
    if float(low.exp()) >= SMALLEST_TRANSITION:
        return _scaled(log_start, log_transition, log_emission, mask)
    return _in_logarithms(log_start, log_transition, log_emission, mask)


def _scaled(log_start: Tensor, log_transition: Tensor, log_emission: Tensor, mask: Tensor) -> Smoothed:
    steps, batch, k = log_emission.shape
    transition = log_transition.exp()
    top = log_emission.amax(-1, keepdim=True)
    emission = (log_emission - top).exp_()
    alpha = torch.empty_like(emission)
    scale = emission.new_ones(steps, batch, 1)
    whole = bool(mask.all())
    torch.mul(emission[0], log_start.exp(), out=alpha[0])
    for t in range(steps):
        if t > 0:
            torch.mm(alpha[t - 1], transition, out=alpha[t])
            alpha[t].mul_(emission[t])
        torch.sum(alpha[t], 1, keepdim=True, out=scale[t])
        alpha[t].div_(scale[t])
        if not whole and t > 0:
            alpha[t] = torch.where(mask[t, :, None], alpha[t], alpha[t - 1])
    log_prob = torch.where(mask[..., None], scale.log() + top, 0.0).sum((0, 2))

    # From here on ``emission`` becomes emission * beta / scale, which both beta and the transitions need.
    beta = torch.ones_like(alpha[0])
    weighted = emission.div_(scale)
    states = torch.empty_like(alpha)
    back = transition.T.contiguous()
    for t in range(steps - 1, -1, -1):
        torch.mul(alpha[t], beta, out=states[t])
        weighted[t].mul_(beta)
        if t > 0:
            earlier = weighted[t] @ back
            beta = earlier if whole else torch.where(mask[t, :, None], earlier, beta)
    if not whole:
        weighted.mul_(mask[..., None])
        states.mul_(mask[..., None])
    pairs = alpha[:-1].reshape(-1, k).T @ weighted[1:].reshape(-1, k)
    return Smoothed(log_prob, states, transition * pairs)


def _in_logarithms(log_start: Tensor, log_transition: Tensor, log_emission: Tensor, mask: Tensor) -> Smoothed:
    steps = len(log_emission)
    alpha = torch.empty_like(log_emission)
    alpha[0] = log_start + log_emission[0]
    for t in range(1, steps):
        new = (alpha[t - 1][:, :, None] + log_transition).logsumexp(1) + log_emission[t]
        alpha[t] = torch.where(mask[t, :, None], new, alpha[t - 1])
    log_prob = alpha[-1].logsumexp(-1)
    # A sequence that can't be has no states to tell of.
    normaliser = torch.where(log_prob.isfinite(), log_prob, 0.0)[:, None]
    beta = torch.zeros_like(alpha[0])
    states = torch.empty_like(alpha)
    transitions = torch.zeros_like(log_transition)
    for t in range(steps - 1, -1, -1):
        states[t] = (alpha[t] + beta - normaliser).exp() * mask[t, :, None]
        if t > 0:
            after = log_emission[t] + beta
            pairs = alpha[t - 1][:, :, None] + log_transition + after[:, None, :] - normaliser[..., None]
            transitions += (pairs.exp() * mask[t, :, None, None]).sum(0)
            earlier = (log_transition + after[:, None, :]).logsumexp(-1)
            beta = torch.where(mask[t, :, None], earlier, beta)
    return Smoothed(log_prob, states, transitions)


def viterbi(
    log_start: Float[Tensor, " k"],
    log_transition: Float[Tensor, "k k"],
    log_emission: Float[Tensor, "t b k"],
    lengths: Int[Tensor, " b"],
) -> tuple[Int[Tensor, "b t"], Float[Tensor, " b"]]:
    """The most probable path of states of each sequence.

    Args:
        log_start: Of the first state.
        log_transition: From row to column.
        log_emission: Log density of what was observed.
        lengths: Of the sequences, from 1 to T.

    Returns:
        Paths (B, T), -1 behind a sequence's end, and their log joint probability with what was observed, (B,).

    Source: Error bounds for convolutional codes, 1967, https://doi.org/10.1109/TIT.1967.1054010.
    """
    steps, batch, k = log_emission.shape
    mask = torch.arange(steps)[:, None] < lengths
    score = log_start + log_emission[0]
    stay = torch.arange(k).expand(batch, k)
    origin = torch.empty(steps, batch, k, dtype=torch.long)
    for t in range(1, steps):
        best, place = (score[:, :, None] + log_transition).max(1)
        score = torch.where(mask[t, :, None], best + log_emission[t], score)
        origin[t] = torch.where(mask[t, :, None], place, stay)
    value, state = score.max(-1)
    path = torch.empty(batch, steps, dtype=torch.long)
    for t in range(steps - 1, -1, -1):
        path[:, t] = state
        if t > 0:
            state = origin[t].gather(1, state[:, None])[:, 0]
    return torch.where(mask.T, path, -1), value
