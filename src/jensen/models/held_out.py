"""How many latents pPCA needs where cells are missing: by the likelihood of data that were held out."""

import numpy as np
import torch

from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.linear_gaussian_em import SMALLEST_NOISE, em, positive
from jensen.models.rows import Rows, columns

ITERATIONS, TOLERANCE = 200, 1e-5
"""Of EM: a comparison needs no more."""
PATIENCE = 2
"""Numbers of latents in a row that may be worse than the best before no more are tried."""


def choose_with_gaps(rows: Rows, folds: int, top: int) -> int:
    """The number of latents with the largest log-likelihood of the observed cells that were held out.

    Without a closed form every number takes a fit by EM a fold, so they are tried in turn, from one on, until
    ``PATIENCE`` of them were worse than the best.

    Args:
        rows: Data, NaN where a cell is missing.
        folds: Parts.
        top: The largest number that may be chosen.

    Returns:
        From 1 to ``top``.

    Raises:
        DataError: If a column has no observed cell in one of the parts that are fitted.
    """
    x, place = rows.whole, np.arange(len(rows)) % folds
    best, chosen = -torch.inf, 1
    for m in range(1, top + 1):
        score = sum(_score(Rows(x[place != fold]), rows[place == fold], m) for fold in range(folds))
        if score > best:
            best, chosen = score, m
        if m - chosen >= PATIENCE:
            break
    return chosen


def _score(train: Rows, held: torch.Tensor, m: int) -> float:
    """Log-likelihood of what was held out; -inf where no variance is left for the noise."""
    model = LinearGaussian(m, (train.dim,))
    for _ in em(model, train, iterations=ITERATIONS, tolerance=TOLERANCE):
        pass
    lowest = SMALLEST_NOISE * float(positive(columns(train).variance).mean())
    if float(model.noise_variance) <= 2 * lowest:
        return -torch.inf
    return float(model.log_prob(held).sum())
