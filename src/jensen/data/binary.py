"""Draws binary images from intensities."""

import torch
from torch import Tensor

from jensen.errors import DataError


def binarise(x: Tensor, generator: torch.Generator | None = None) -> Tensor:
    r"""Draws each cell afresh from a Bernoulli distribution, :math:`b \sim \mathrm{Bernoulli}(x / 255)`.

    Args:
        x: Intensities 0..255 as uint8, of any shape.
        generator: Where the randomness comes from, on the device of ``x``; None takes torch's own.

    Returns:
        Cells in {0, 1} as uint8, with the shape and on the device of ``x``.

    Raises:
        DataError: If ``x`` is not uint8.

    Example:
        >>> binarise(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([0, 1], dtype=torch.uint8)
    """
    if x.dtype != torch.uint8:
        raise DataError(f"got cells of {x.dtype} to binarise. Give intensities 0..255 as torch.uint8.")
    # rand lies in [0, 1), so 0 is never and 255 always drawn as 1.
    return (torch.rand(x.shape, generator=generator, device=x.device) * 255 < x).to(torch.uint8)
