"""Rows of the network's Jacobian in its weights, for each datum by itself."""

import warnings
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import vjp, vmap

from jensen.weights.network import FunctionalNetwork, Values, quiet


def gradient_rows(
    network: FunctionalNetwork,
    weights: Values,
    x: Tensor,
    columns: Float[Tensor, "n outputs k"],
) -> Values:
    """J_i^T c for each datum i and each of its k columns c, where J_i is the Jacobian of its outputs.

    Args:
        network: As a function.
        weights: Unknown ones by name, one set.
        x: Data (n, *event).
        columns: c, (n, outputs, k); the identity gives the Jacobian itself.

    Returns:
        By name, (n, k, *shape).
    """

    def one(row: Tensor, some: Tensor) -> Values:
        pull: Callable[[Tensor], tuple[Values]] = vjp(
            lambda values: network.single(values, row[None])[0], weights
        )[1]
        return vmap(lambda column: pull(column)[0])(some.T)

    try:
        with quiet():
            return {name: rows.detach() for name, rows in vmap(one)(x, columns).items()}
    except RuntimeError as error:
        network.single(weights, x[:1])
        with quiet():
            where = network._where(lambda: vmap(one)(x, columns))
        warnings.warn(
            f"{where} does what can't be done for many data at once ({str(error).splitlines()[0]}); gradients are "
            "taken one after the other, which is slower. In-place changes and Python branches on values are the "
            "usual reasons",
            RuntimeWarning,
            stacklevel=2,
        )
        return _loop(network, weights, x, columns)


def _loop(network: FunctionalNetwork, weights: Values, x: Tensor, columns: Tensor) -> Values:
    names = list(weights)
    found: list[list[Tensor]] = []
    with torch.enable_grad():
        leaves = {name: value.detach().requires_grad_() for name, value in weights.items()}
        for row, some in zip(x, columns, strict=True):
            output = network.single(leaves, row[None])[0]
            found += [
                list(
                    torch.autograd.grad(
                        output, list(leaves.values()), column, retain_graph=True, materialize_grads=True
                    )
                )
                for column in some.T
            ]
    return {
        name: torch.stack([rows[place] for rows in found]).unflatten(0, (len(x), -1))
        for place, name in enumerate(names)
    }


def jacobian(network: FunctionalNetwork, weights: Values, x: Tensor, outputs: int) -> Values:
    """The Jacobian of each datum's outputs in the weights.

    Args:
        network: As a function.
        weights: Unknown ones by name, one set.
        x: Data (n, *event).
        outputs: How many the network has.

    Returns:
        By name, (n, outputs, *shape).
    """
    identity = torch.eye(outputs, dtype=network.dtype, device=network.device)
    return gradient_rows(network, weights, x, identity.expand(len(x), outputs, outputs))
