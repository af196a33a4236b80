"""Further data for a posterior that is there already, checked against what it was fitted on."""

from typing import Any

import torch
from torch import Tensor

from jensen.errors import DataError, ShapeError
from jensen.weights.likelihoods import Likelihood
from jensen.weights.network import FunctionalNetwork


def further_data(network: FunctionalNetwork, likelihood: Likelihood, X: Any, y: Any) -> tuple[Tensor, Tensor]:
    r"""New data as a network and targets as a likelihood take them.

    Unlike those of a first fit, new targets may all be of one class: there may even be a single datum.

    Args:
        network: That the posterior is over.
        likelihood: That it was fitted with.
        X: Data (n, \*event).
        y: Targets.

    Returns:
        Both, on the network's device.

    Raises:
        ShapeError: If the network can't take the data (other columns than before), or there isn't a target for each.
        DataError: If data or targets hold NaN.
        SupportError: If a target can't be.
    """
    x = network.inputs(X)
    if x.is_floating_point() and not bool(x.isfinite().all()):
        raise DataError(
            f"{int((~x.isfinite()).sum())} of {x.numel()} cells of the new X are NaN or infinite; impute them or "
            "leave those data out"
        )
    with torch.no_grad():
        outputs = network({name: value[None] for name, value in network.weights.items()}, x[:1]).shape[-1]
    targets = likelihood.targets(torch.as_tensor(y), outputs)
    if len(targets) != len(x):
        raise ShapeError(
            f"X has {len(x)} new data and y {len(targets)} targets; give one target for each datum"
        )
    return x, targets.to(network.device, network.dtype if targets.is_floating_point() else None)
