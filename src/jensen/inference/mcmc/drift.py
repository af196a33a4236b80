"""Chains that drift off without end, as they do where the density can't be normalised."""

import numpy as np
import torch
from torch import Tensor

from jensen.errors import FitError
from jensen.inference.ascent import ascend
from jensen.inference.mcmc.density import Array
from jensen.inference.mcmc.warm_up import WarmUp
from jensen.inference.target import Target

_FARTHEST = 250.0
"""An unconstrained coordinate of a bounded parameter beyond e^250 or e^-250 of anything means nothing."""
_FARTHEST_REAL = 1e15
_GROWTH = 5.0
"""By which factor a spread may grow from one window of the warm-up to the next when paths don't turn."""
_UNTURNED = 0.25
"""Share of paths that haven't turned when they are as long as they may be, above which something is amiss."""
_FAR = 1e3
"""So many times the spread away a density that falls at all has fallen."""
_FALLEN = 1.0
"""By so many nats."""
_CLIMBS = 100
"""Evaluations of the way to the highest density with one coordinate held."""


def strayed(target: Target, positions: Array) -> str | None:
    """The name of a coordinate that has left every sensible scale, if there is one.

    Args:
        target: Of the positions.
        positions: Unconstrained, (..., dim).

    Returns:
        Such as ``tau`` or ``theta[3]``.
    """
    farthest = np.abs(positions).reshape(-1, target.dim).max(0)
    limits = np.empty(target.dim)
    for name, where in target.slices.items():
        limits[where] = _FARTHEST_REAL if target.parameters[name].support == "real" else _FARTHEST
    beyond = np.flatnonzero(~(farthest < limits))
    return target.coordinates[beyond[0]] if len(beyond) else None


def check_drift(target: Target, warm: WarmUp, positions: Array) -> None:
    """Stops a warm-up whose chains drift off.

    Args:
        target: Of the chains.
        warm: What was learnt until now.
        positions: Where the chains are, unconstrained (chains, dim).

    Raises:
        FitError: If a coordinate has left every sensible scale; or if many paths never turned, a spread still grows
            from window to window, and the density doesn't fall far along it.
    """
    name = strayed(target, positions)
    if name is None and len(warm.widths) > 1 and warm.unturned > _UNTURNED:
        growth = warm.widths[-1] / warm.widths[-2]
        grown = int(growth.argmax())
        if growth[grown] > _GROWTH and _endless(target, positions, grown):
            name = target.coordinates[grown]
    if name is None:
        return
    place = target.coordinates.index(name)
    raise FitError(
        f"the chains drift off: the unconstrained coordinate of '{name}' has reached "
        f"{positions[np.abs(positions[:, place]).argmax(), place]:.3g} in the warm-up and still moves on. The "
        "posterior is probably improper (a flat prior that the data don't bound) or its density has no maximum; "
        "give the parameter a proper prior"
    )


def _endless(target: Target, positions: Array, place: int) -> bool:
    """Whether the highest density that the other coordinates can reach stays when one is moved far out."""
    here = torch.from_numpy(positions)
    middle = here[:, place].median()
    away = _FAR * (here[:, place] - middle).abs().max()
    held = torch.ones(target.dim, dtype=here.dtype)
    held[place] = 0.0

    def others(points: Tensor) -> tuple[Tensor, Tensor]:
        value, gradient = target.value_and_gradient(points)
        return value, gradient * held

    starts = here.repeat(3, 1)
    starts[:, place] = torch.stack([middle, middle - away, middle + away]).repeat_interleave(len(here))
    reached = ascend(others, starts, evaluations=_CLIMBS).values.nan_to_num(nan=-torch.inf)
    near, below, above = reached.reshape(3, -1).amax(1)
    return bool(torch.maximum(below, above) > near - _FALLEN)
