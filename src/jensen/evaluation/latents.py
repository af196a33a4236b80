"""What the latents do: which are used, how much each says, how well data come back."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, Independent

from jensen.distributions import closed_form_kl, diagonal_normal, kl_of_cells
from jensen.models import Model

ACTIVE = 0.01
"""Variance of the posterior mean over data from which a latent counts as active."""


def posterior_means(
    model: Model, x: Float[Tensor, "n *event"], chunk: int = 1024
) -> Float[Tensor, "n latent"]:
    """E_q[z|x] for each datum.

    Args:
        model: Any model.
        x: Data.
        chunk: Data at once.

    Returns:
        (n, latent_dim).
    """
    with torch.inference_mode():
        return torch.cat([model.encode(some).mean for some in x.split(chunk)])


def active_units(means: Float[Tensor, "n latent"]) -> int:
    """Number of latents whose posterior mean varies over the data with a variance above 0.01.

    Source: Importance weighted autoencoders, 2015, https://arxiv.org/abs/1509.00519.

    Example:
        >>> active_units(torch.tensor([[0.0, 1.0], [0.0, -1.0]]))
        1
    """
    return int((means.double().var(0) > ACTIVE).sum()) if len(means) > 1 else 0


def kl_per_dimension(
    model: Model, x: Float[Tensor, "n *event"], chunk: int = 1024
) -> Float[Tensor, " latent"] | None:
    """Mean over the data of KL(q(z_d|x) || p(z_d)) for each latent, in nats.

    Returns:
        (latent_dim,), or None where prior or posterior doesn't factorise over latents in closed form.
    """
    prior = getattr(model, "prior", None)
    with torch.inference_mode():
        p = None if prior is None else prior()
        totals: list[Tensor] = []
        for some in x.split(chunk):
            cells = None if p is None else _kl_of_dimensions(model.encode(some), p)
            if cells is None:
                return None
            totals.append(cells.sum(0))
        return torch.stack(totals).sum(0) / len(x)


def _kl_of_dimensions(q: Distribution, p: Distribution) -> Tensor | None:
    normal_q, normal_p = diagonal_normal(q), diagonal_normal(p)
    if normal_q is not None and normal_p is not None:
        return kl_of_cells(normal_q, normal_p)
    if isinstance(q, Independent) and isinstance(p, Independent):
        return closed_form_kl(q.base_dist, p.base_dist)
    return None


def reconstructions(
    model: Model, x: Float[Tensor, "n *event"], chunk: int = 512
) -> Float[Tensor, "n *event"]:
    """E[x' | z = E_q[z|x]]: what comes back from the posterior mean.

    Args:
        model: Any model whose likelihood has a mean.
        x: Data.
        chunk: Data at once.

    Returns:
        The expected data, (n, *event).
    """
    with torch.inference_mode():
        return torch.cat([model.decode(model.encode(some).mean).mean for some in x.split(chunk)])


def reconstruction_errors(
    model: Model, x: Float[Tensor, "n *event"], chunk: int = 512
) -> Float[Tensor, " n"]:
    """Mean squared error a cell of what comes back from each datum's posterior mean, float64 (n,)."""
    parts = [
        (reconstructions(model, some, chunk) - some).double().square().flatten(1).mean(1)
        for some in x.split(chunk)
    ]
    return torch.cat(parts)


def reconstruction_error(model: Model, x: Float[Tensor, "n *event"], chunk: int = 512) -> float:
    """Mean squared error a cell of what comes back from the posterior mean, in the data's units squared."""
    return float(reconstruction_errors(model, x, chunk).mean())
