"""No-U-turn trajectories of many chains, each at its own point of its own tree, one leapfrog step at a time."""

from dataclasses import dataclass

import numpy as np

from jensen.inference.mcmc.density import Array
from jensen.inference.mcmc.leapfrog import Evaluate, energy, leapfrog

DIVERGENCE_NATS = 1000.0
"""A path whose energy rises by more has left the solution of the equations."""


@dataclass(frozen=True)
class Finished:
    """Transitions that ended with a step.

    Attributes:
        rows: Of which chains.
        z: The draws, (rows, dim).
        value: Their log-densities.
        acceptance: The average over a trajectory of min(1, exp(-energy gained)).
        leapfrogs: Steps of a trajectory.
        depth: How often a trajectory was doubled.
        divergent: Whether it ended because its energy rose too far.
        energy: Negative log-density plus the kinetic energy at the trajectory's start.
    """

    rows: np.ndarray
    z: Array
    value: Array
    acceptance: Array
    leapfrogs: np.ndarray
    depth: np.ndarray
    divergent: np.ndarray
    energy: Array


def _turns(difference: Array, first: Array, last: Array) -> np.ndarray:
    """Whether one of two momenta (..., dim) at the ends of a path points back along it."""
    return (np.einsum("...d,...d->...", difference, first) <= 0) | (
        np.einsum("...d,...d->...", difference, last) <= 0
    )


class Trees:
    r"""Multinomial no-U-turn transitions of n chains, advanced together by one leapfrog step a call.

    A trajectory is doubled forward or backward in time until it turns. A chain whose transition has ended begins its
    next one at once, so that none waits for another's longer trajectory. The tree of a doubling is walked leaf by leaf;
    of its left part only the first leaves of the subtrees that are still open are kept, log2 of its leaves.

    A path from one state to another turns where its chord points against one of both momenta. It is checked for every
    balanced subtree, and from its first leaf to the first leaf of its second half, and from the last leaf of its first
    half to its last leaf; without the latter two a trajectory along which all coordinates turn alike passes by.

    Args:
        density: Values and gradients in coordinates whose masses are one.
        z: Starting points (n, dim).
        generator: Of all draws.
        max_depth: Doublings of a trajectory at most.

    Source: The No-U-Turn sampler, 2014, https://arxiv.org/abs/1111.4246; A conceptual introduction to Hamiltonian Monte
    Carlo, 2017, https://arxiv.org/abs/1701.02434; walked without recursion as in Composable effects for flexible and
    accelerated probabilistic programming in NumPyro, 2019, https://arxiv.org/abs/1912.11554.
    """

    def __init__(
        self, density: Evaluate, z: Array, generator: np.random.Generator, max_depth: int = 10
    ) -> None:
        self.density = density
        self.generator = generator
        self.max_depth = max_depth
        n, dim = z.shape
        self.z = z.copy()
        self.value, self.slope = density(z)
        # The path of a doubling; its momenta point along the path, whichever way it goes in time.
        self.path_z, self.path_p, self.path_slope = (np.empty((n, dim)) for _ in range(3))
        self.leaf = np.zeros(n, dtype=np.int64)
        self.leaves = np.ones(n, dtype=np.int64)
        self.step = np.empty((n, 1))
        self.direction = np.ones(n, dtype=np.int64)
        self.path_weight = np.empty(n)
        self.path_draw, self.path_draw_slope = np.empty((n, dim)), np.empty((n, dim))
        self.path_draw_value = np.empty(n)
        # First leaves of open subtrees, and the leaves just before them.
        self.open_z, self.open_p, self.last_z, self.last_p = (
            np.zeros((n, max_depth + 1, dim)) for _ in range(4)
        )
        # The tree's ends, backward [0] and forward [1] in time, with momenta in the direction of time.
        self.end_z, self.end_p, self.end_slope = (np.empty((2, n, dim)) for _ in range(3))
        self.weight = np.empty(n)
        self.draw, self.draw_slope = np.empty((n, dim)), np.empty((n, dim))
        self.draw_value = np.empty(n)
        self.depth = np.zeros(n, dtype=np.int64)
        self.start_energy = np.empty(n)
        self.acceptance = np.zeros(n)
        self.count = np.zeros(n, dtype=np.int64)
        self._all = np.arange(n)
        self._levels = np.arange(max_depth + 1)
        # By the number of a leaf: at which level it is kept if it is even, and for an odd one which levels it closes.
        numbers = np.arange(1 << max_depth)
        self._level = np.zeros(len(numbers), dtype=np.int64)
        for bit in range(1, max_depth):
            self._level += (numbers >> bit) & 1
        self._closed = np.zeros(len(numbers), dtype=np.int64)
        ones = numbers.copy()
        for _ in range(max_depth):
            self._closed += ones & 1
            ones = np.where(ones & 1, ones >> 1, 0)

    def begin(self, step: float, rows: np.ndarray | None = None) -> None:
        """Starts transitions of some chains, by default of all, with fresh momenta.

        Args:
            step: Their step size.
            rows: Which chains.
        """
        rows = self._all if rows is None else rows
        momentum = self.generator.standard_normal((len(rows), self.z.shape[1]))
        self.start_energy[rows] = energy(self.value[rows], momentum)
        self.end_z[:, rows] = self.z[rows]
        self.end_p[:, rows] = momentum
        self.end_slope[:, rows] = self.slope[rows]
        self.draw[rows], self.draw_slope[rows] = self.z[rows], self.slope[rows]
        self.draw_value[rows] = self.value[rows]
        self.weight[rows] = 0.0
        self.depth[rows] = 0
        self.acceptance[rows] = 0.0
        self.count[rows] = 0
        self.step[rows] = step
        self._double(rows)

    def _double(self, rows: np.ndarray) -> None:
        """Begins the path of the next doubling at one of the tree's ends."""
        direction = (self.generator.random(len(rows)) < 0.5).astype(np.int64)
        self.direction[rows] = direction
        self.path_z[rows] = self.end_z[direction, rows]
        self.path_p[rows] = self.end_p[direction, rows] * (2 * direction - 1)[:, None]
        self.path_slope[rows] = self.end_slope[direction, rows]
        self.leaf[rows] = 0
        self.leaves[rows] = np.left_shift(1, self.depth[rows])
        self.path_weight[rows] = -np.inf

    def advance(self, step: float) -> Finished | None:
        """One leapfrog step of every chain.

        Args:
            step: Step size of transitions that begin now.

        Returns:
            The transitions that ended.
        """
        before_z, before_p = self.path_z, self.path_p
        self.path_z, self.path_p, value, self.path_slope = leapfrog(
            self.density, before_z, before_p, self.path_slope, self.step
        )
        log_weight = self.start_energy - energy(value, self.path_p)
        log_weight[np.isnan(log_weight)] = -np.inf
        self.acceptance += np.exp(np.minimum(log_weight, 0.0))
        self.count += 1
        self.path_weight = np.logaddexp(self.path_weight, log_weight)
        # A leaf takes the draw's place with its share of the weight so far.
        takes = np.log(self.generator.random(len(value))) < log_weight - self.path_weight
        np.copyto(self.path_draw, self.path_z, where=takes[:, None])
        np.copyto(self.path_draw_slope, self.path_slope, where=takes[:, None])
        np.copyto(self.path_draw_value, value, where=takes)
        divergent = log_weight < -DIVERGENCE_NATS
        failed = divergent | self._turned(before_z, before_p)
        self.leaf += 1
        ended = np.flatnonzero(failed | (self.leaf == self.leaves))
        return self._close(ended, failed[ended], divergent[ended], step) if len(ended) else None

    def _turned(self, before_z: Array, before_p: Array) -> np.ndarray:
        """Keeps even leaves; whether a subtree that an odd leaf closes turns."""
        odd = (self.leaf & 1).astype(bool)
        even = np.flatnonzero(~odd)
        if len(even):
            level = self._level[self.leaf[even]]
            self.open_z[even, level], self.open_p[even, level] = self.path_z[even], self.path_p[even]
            self.last_z[even, level], self.last_p[even, level] = before_z[even], before_p[even]
        turned = np.zeros(len(odd), dtype=bool)
        rows = np.flatnonzero(odd)
        if not len(rows):
            return turned
        top = self._level[self.leaf[rows]]
        bottom = top - self._closed[self.leaf[rows]] + 1
        levels = int(top.max()) + 1
        at = self._levels[:levels]
        closes = (at >= bottom[:, None]) & (at <= top[:, None])
        open_z, open_p = self.open_z[rows, : levels + 1], self.open_p[rows, : levels + 1]
        z, p = self.path_z[rows][:, None], self.path_p[rows][:, None]
        found = _turns(z - open_z[:, :levels], open_p[:, :levels], p) & closes
        halves = closes & (at < top[:, None])
        if halves.any():
            first, second = open_z[:, :levels], open_z[:, 1:]
            found |= _turns(second - first, open_p[:, :levels], open_p[:, 1:]) & halves
            last_z, last_p = self.last_z[rows, 1 : levels + 1], self.last_p[rows, 1 : levels + 1]
            found |= _turns(z - last_z, last_p, p) & halves
        turned[rows] = found.any(1)
        return turned

    def _close(
        self, rows: np.ndarray, failed: np.ndarray, divergent: np.ndarray, step: float
    ) -> Finished | None:
        """Joins doublings that have ended to their trees; ends transitions that turn."""
        whole = rows[~failed]
        over = failed.copy()
        if len(whole):
            over[~failed] = self._join(whole) | (self.depth[whole] == self.max_depth)
        ended = rows[over]
        if not len(ended):
            self._double(rows)
            return None
        self.z[ended], self.slope[ended] = self.draw[ended], self.draw_slope[ended]
        self.value[ended] = self.draw_value[ended]
        finished = Finished(
            ended,
            self.draw[ended],
            self.draw_value[ended],
            self.acceptance[ended] / self.count[ended],
            self.count[ended],
            self.depth[ended],
            divergent[over],
            self.start_energy[ended],
        )
        self.begin(step, ended)
        going = rows[~over]
        if len(going):
            self._double(going)
        return finished

    def _join(self, rows: np.ndarray) -> np.ndarray:
        """Adds whole doublings to their trees; whether these turn now."""
        gain = self.path_weight[rows] - self.weight[rows]
        # The new half is favoured: its draw is taken with probability min(1, its weight over the old one's).
        takes = rows[np.log(self.generator.random(len(rows))) < gain]
        self.draw[takes], self.draw_slope[takes] = self.path_draw[takes], self.path_draw_slope[takes]
        self.draw_value[takes] = self.path_draw_value[takes]
        self.weight[rows] = np.logaddexp(self.weight[rows], self.path_weight[rows])
        self.depth[rows] += 1
        direction = self.direction[rows]
        sign = (2 * direction - 1)[:, None]
        far_z, far_p = self.end_z[1 - direction, rows], self.end_p[1 - direction, rows] * sign
        near_z, near_p = self.end_z[direction, rows], self.end_p[direction, rows] * sign
        z, p = self.path_z[rows], self.path_p[rows]
        turns = _turns(z - far_z, far_p, p)
        turns |= _turns(self.open_z[rows, 0] - far_z, far_p, self.open_p[rows, 0])
        turns |= _turns(z - near_z, near_p, p)
        self.end_z[direction, rows], self.end_p[direction, rows] = z, p * sign
        self.end_slope[direction, rows] = self.path_slope[rows]
        return turns
