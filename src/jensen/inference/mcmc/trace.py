"""Draws of many chains as they come, each at its own pace."""

import numpy as np
import torch

from jensen.diagnostics import ess_bulk, r_hat
from jensen.inference.mcmc.density import Array
from jensen.inference.mcmc.summary import ENOUGH, GOOD_R_HAT
from jensen.inference.mcmc.trees import Finished

HOPELESS_R_HAT = 1.1
"""Chains that disagree by more rest in different places; more draws don't bring them together."""


class Trace:
    """Draws and statistics of n chains. Those of quick chains are kept too, so that none is chosen by its haste.

    Args:
        chains: n.
        dim: Of a draw.
    """

    def __init__(self, chains: int, dim: int) -> None:
        self.made = np.zeros(chains, dtype=np.int64)
        self.z = np.empty((chains, 0, dim))
        self.columns: dict[str, np.ndarray] = {
            "log_prob": np.empty((chains, 0)),
            "acceptance": np.empty((chains, 0)),
            "energy": np.empty((chains, 0)),
            "leapfrogs": np.empty((chains, 0), dtype=np.int64),
            "tree_depth": np.empty((chains, 0), dtype=np.int64),
            "divergent": np.empty((chains, 0), dtype=bool),
        }

    @property
    def complete(self) -> int:
        """Draws that every chain has made."""
        return int(self.made.min())

    def kept(self, draws: int) -> int:
        """Draws of all chains that are among the first so many."""
        return int(np.minimum(self.made, draws).sum())

    def keep(self, finished: Finished) -> None:
        """Takes transitions that ended."""
        at = finished.rows, self.made[finished.rows]
        if int(at[1].max()) >= self.z.shape[1]:
            self._grow()
        self.z[at] = finished.z
        for name, value in (
            ("log_prob", finished.value),
            ("acceptance", finished.acceptance),
            ("energy", finished.energy),
            ("leapfrogs", finished.leapfrogs),
            ("tree_depth", finished.depth),
            ("divergent", finished.divergent),
        ):
            self.columns[name][at] = value
        self.made[finished.rows] += 1

    def _grow(self) -> None:
        def longer(old: np.ndarray) -> np.ndarray:
            more = np.empty((len(old), max(256, old.shape[1] // 2), *old.shape[2:]), old.dtype)
            return np.concatenate([old, more], 1)

        self.z = longer(self.z)
        self.columns = {name: longer(column) for name, column in self.columns.items()}

    def positions(self, draws: int) -> Array:
        """The first draws of each chain, (chains, draws, dim)."""
        return self.z[:, :draws]

    def stats(self, draws: int) -> dict[str, np.ndarray]:
        """Their statistics, (chains, draws) each."""
        return {name: column[:, :draws].copy() for name, column in self.columns.items()}


def worth_more(positions: Array) -> bool:
    """Whether chains nearly agree but not well enough, so that more draws promise to help.

    Args:
        positions: (chains, draws, dim).

    Example:
        >>> worth_more(np.random.default_rng(0).standard_normal((4, 1000, 2)))
        False
    """
    draws = torch.from_numpy(positions)
    ratio = float(r_hat(draws).nan_to_num(nan=torch.inf).max())
    few = float(ess_bulk(draws).nan_to_num(nan=torch.inf).min()) < ENOUGH
    return ratio < HOPELESS_R_HAT and (ratio > GOOD_R_HAT or few)
