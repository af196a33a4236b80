"""The step size that makes a sampler accept as often as wanted, found by dual averaging."""

from collections.abc import Callable
from math import exp, log

import numpy as np

from jensen.inference.mcmc.density import Array

_RELAXATION = 0.1
_DELAY = 10
_FORGETTING = 0.75
_LARGEST_LOG = 30.0


class DualAveraging:
    r"""A step size that is moved by how far the acceptance lies from the one wanted.

    .. math::
        \log \epsilon_t = \log \epsilon_0 - \frac{\sqrt t}{\gamma} \frac{1}{t + t_0} \sum_{i \le t} (\delta - \alpha_i)

    with :math:`\gamma` = .1 and :math:`t_0` = 10; what is used in the end is the average of the logarithms with weights
    :math:`t^{-.75}`.

    Args:
        initial: epsilon_0.
        wanted: delta, the acceptance wanted.

    Source: The No-U-Turn sampler, 2014, https://arxiv.org/abs/1111.4246.
    """

    def __init__(self, initial: float, wanted: float) -> None:
        self.wanted = wanted
        self.restart(initial)

    def restart(self, initial: float) -> None:
        """Begins anew from a step size."""
        self.start = log(initial)
        self.steps = 0
        self.error = 0.0
        self.log_current = self.start
        self.log_average = self.start

    def update(self, acceptance: float) -> None:
        """Takes an acceptance into account that the current step size has led to."""
        self.steps += 1
        t = self.steps
        share = 1 / (t + _DELAY)
        self.error += share * (self.wanted - acceptance - self.error)
        moved = self.start - t**0.5 / _RELAXATION * self.error
        self.log_current = min(max(moved, -_LARGEST_LOG), _LARGEST_LOG)
        weight = t**-_FORGETTING
        self.log_average += weight * (self.log_current - self.log_average)

    @property
    def current(self) -> float:
        """The step size to try now."""
        return exp(self.log_current)

    @property
    def average(self) -> float:
        """The step size to keep."""
        return exp(self.log_average)


def first_guess(acceptance: Callable[[float], Array], start: float = 1.0, tries: int = 40) -> float:
    """A step size by halving or doubling, at the border where the mean acceptance of one step is 0.8.

    Args:
        acceptance: From a step size to probabilities of all chains.
        start: The first one tried.
        tries: At most.

    Returns:
        The last one at which the acceptance was still at least 0.8, or the smallest one tried.
    """
    step = start
    enough = float(np.mean(acceptance(step))) >= 0.8
    for _ in range(tries):
        following = 2 * step if enough else step / 2
        now = float(np.mean(acceptance(following))) >= 0.8
        if now != enough:
            return following if now else step
        step = following
    return step
