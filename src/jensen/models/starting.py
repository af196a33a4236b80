"""Where mixtures and Markov models begin: k-means++ with a few steps of k-means, all restarts at once."""

from math import log

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jensen.models.rows import Columns, Rows, split_missing

SUBSAMPLE = 10_000
"""Data that the centres are sought on, at most (200 for each of K centres if that is more)."""
STEPS, LOOSE_STEPS = 10, 3
"""Steps of k-means, of the starts that are to be good and of those that are to differ."""


def centres(
    rows: Rows, spread: Columns, k: int, restarts: int, generator: torch.Generator, loose: int = LOOSE_STEPS
) -> Float[Tensor, "r k d"]:
    """Centres of clusters, in units of the columns' standard deviations about their means.

    The first half of the restarts draws its centres by greedy k-means++ (candidates with probability proportional to
    the squared distance from those drawn before; the one that brings the data nearest is kept) and takes the steps of
    k-means that settle them; these starts are good, and much alike. The other half, which is to find what they miss,
    takes the first candidate, and only ``loose`` steps. Missing cells count as their column's mean.

    Args:
        rows: Data.
        spread: What ``columns`` said of them.
        k: Number of centres K.
        restarts: R.
        generator: Of the draws.
        loose: Steps of k-means of the second half.

    Returns:
        (R, K, D).

    Source: k-means++: the advantages of careful seeding, 2007, https://dl.acm.org/doi/10.5555/1283383.1283494.
    """
    x = standardised(rows.some(max(SUBSAMPLE, 200 * k), generator)[:], spread)
    tight = restarts - restarts // 2
    found = _settled(x, _drawn(x, k, tight, 2 + int(log(k)), generator), STEPS)
    if restarts == 1:
        return found
    return torch.cat([found, _settled(x, _drawn(x, k, restarts - tight, 1, generator), loose)])


def _drawn(x: Tensor, k: int, restarts: int, tried: int, generator: torch.Generator) -> Tensor:
    """Centres by k-means++ with so many candidates for each, (R, K, D)."""
    norms = x.square().sum(1)
    found = x[torch.randint(len(x), (restarts,), generator=generator)][:, None]
    nearest = _distances(x, norms, found)[:, 0]
    every = torch.arange(restarts)
    for _ in range(k - 1):
        # Where all data are centres already, any will do.
        weights = torch.where(nearest.sum(1, keepdim=True) > 0, nearest, 1.0)
        drawn = torch.multinomial(weights, tried, replacement=True, generator=generator)
        closer = torch.minimum(nearest[:, None], _distances(x, norms, x[drawn]))
        best = closer.sum(2).argmin(1)
        found = torch.cat([found, x[drawn[every, best]][:, None]], 1)
        nearest = closer[every, best]
    return found


def _settled(x: Tensor, found: Tensor, steps: int) -> Tensor:
    """Centres after so many steps of k-means, or fewer where nothing moves, (R, K, D)."""
    norms = x.square().sum(1)
    r, k, d = found.shape
    for _ in range(steps):
        label = _distances(x, norms, found).argmin(1)
        member = torch.nn.functional.one_hot(label, k).to(x.dtype).mT
        count = member.sum(2)
        mean = (member.reshape(-1, len(x)) @ x).reshape(r, k, d) / count.clamp(min=1)[..., None]
        new = torch.where(count[..., None] > 0, mean, found)
        if torch.equal(new, found):
            break
        found = new
    return found


def nearest_centre(
    x: Float[Tensor, "n d"],
    observed: Bool[Tensor, "n d"] | None,
    spread: Columns,
    found: Float[Tensor, "r k d"],
) -> Float[Tensor, "r k n"]:
    """One for the nearest centre of each datum and zero for the others, (R, K, n)."""
    scaled = standardised(x, spread)
    if observed is not None:
        scaled = torch.where(observed, scaled, 0.0)
    label = _distances(scaled, scaled.square().sum(1), found).argmin(1)
    return torch.nn.functional.one_hot(label, found.shape[1]).to(x.dtype).mT


def standardised(x: Float[Tensor, "n d"], spread: Columns) -> Float[Tensor, "n d"]:
    """Data in units of the columns' standard deviations about their means; missing cells are zero."""
    unit = torch.where(spread.variance > 0, spread.variance, 1.0).sqrt()
    return split_missing((x - spread.mean) / unit)[0]


def _distances(x: Tensor, norms: Tensor, found: Tensor) -> Tensor:
    """Squared distances, (R, K, n)."""
    r, k, d = found.shape
    inner = (found.reshape(-1, d) @ x.T).reshape(r, k, -1)
    return (norms - 2 * inner + found.square().sum(-1)[..., None]).clamp(min=0)
