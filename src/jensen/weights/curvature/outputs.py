"""Curvature of a likelihood in the network's outputs: the Fisher information, as a matrix root, and the score."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.weights.likelihoods import (
    NOISE,
    BernoulliLikelihood,
    CategoricalLikelihood,
    Likelihood,
    NormalLikelihood,
    PoissonLikelihood,
)


def _normal(likelihood: Likelihood, outputs: Tensor) -> Tensor:
    assert isinstance(likelihood, NormalLikelihood)
    if likelihood.noise_scale != "network":
        return torch.ones_like(outputs)
    _, log_scale = outputs.chunk(2, -1)
    return torch.cat([(-2 * log_scale).exp(), torch.full_like(log_scale, 2.0)], -1)


def _bernoulli(likelihood: Likelihood, outputs: Tensor) -> Tensor:
    return outputs.sigmoid() * (-outputs).sigmoid()


def _poisson(likelihood: Likelihood, outputs: Tensor) -> Tensor:
    return outputs.exp()


_DIAGONALS: dict[type[Likelihood], Callable[[Likelihood, Tensor], Tensor]] = {
    NormalLikelihood: _normal,
    BernoulliLikelihood: _bernoulli,
    PoissonLikelihood: _poisson,
}


def _diagonal(likelihood: Likelihood, outputs: Tensor) -> Tensor:
    for family, fisher in _DIAGONALS.items():
        if isinstance(likelihood, family):
            return fisher(likelihood, outputs)
    raise ConfigError(
        f"method='laplace' doesn't know the Fisher information of {type(likelihood).__name__}; it knows categorical, "
        "bernoulli, poisson and normal"
    )


def fisher_root(
    likelihood: Likelihood, outputs: Float[Tensor, "n outputs"]
) -> Float[Tensor, "n outputs outputs"]:
    r"""R with R R^T = E_{y|f}[\nabla_f log p(y|f) \nabla_f log p(y|f)^T], the Fisher information at each datum.

    It is minus the expected Hessian, and for these links also the Hessian itself, but for ``noise_scale="network"``.
    For a categorical, diag(p) - p p^T = R R^T with R = diag(sqrt p) - p sqrt(p)^T. A normal likelihood counts with
    noise of scale one.

    Args:
        likelihood: p(y | f).
        outputs: f, (n, outputs).

    Returns:
        (n, outputs, outputs).

    Raises:
        ConfigError: If the likelihood isn't known.

    Example:
        >>> from jensen.weights.likelihoods import BernoulliLikelihood
        >>> fisher_root(BernoulliLikelihood(), torch.zeros(1, 1)).item()
        0.5
    """
    if isinstance(likelihood, CategoricalLikelihood):
        p = outputs.softmax(-1)
        root = p.sqrt()
        return root.diag_embed() - p[:, :, None] * root[:, None]
    return _diagonal(likelihood, outputs).sqrt().diag_embed()


def fisher_total(
    likelihood: Likelihood, outputs: Float[Tensor, "n outputs"]
) -> Float[Tensor, "outputs outputs"]:
    """Sum of the Fisher information over the data, (outputs, outputs), without one matrix a datum."""
    if isinstance(likelihood, CategoricalLikelihood):
        p = outputs.softmax(-1)
        return p.sum(0).diag() - p.T @ p
    return _diagonal(likelihood, outputs).sum(0).diag()


def score(
    likelihood: Likelihood, outputs: Float[Tensor, "n outputs"], y: Tensor
) -> Float[Tensor, "n outputs 1"]:
    """Gradient of log p(y | f) in f at each datum, (n, outputs, 1); a normal likelihood has noise of scale one."""
    unit = unit_noise(likelihood)
    with torch.enable_grad():
        f = outputs.detach().requires_grad_()
        value = unit.log_prob(f[None], y).sum()
        return torch.autograd.grad(value, f)[0][..., None]


def unit_noise(likelihood: Likelihood) -> Likelihood:
    """The same likelihood with noise of scale one, where its scale is one number for all data."""
    return NormalLikelihood(1.0) if has_noise(likelihood) else likelihood


def has_noise(likelihood: Likelihood) -> bool:
    """Whether one number is the noise's scale for all data."""
    return isinstance(likelihood, NormalLikelihood) and likelihood.noise_scale != "network"


__all__ = ["NOISE", "fisher_root", "fisher_total", "has_noise", "score", "unit_noise"]
