"""Means and variances of the activations of a ReLU network whose weights are independent normals."""

from collections.abc import Sequence
from math import pi, sqrt

import torch
from jaxtyping import Float
from torch import Tensor

Layer = tuple[Tensor, Tensor]
"""Means and variances of a layer's scaled weights, (..., out, in + 1), the bias in the last column."""


def relu_moments(
    mean: Float[Tensor, "*n"], variance: Float[Tensor, "*n"]
) -> tuple[Float[Tensor, "*n"], Float[Tensor, "*n"]]:
    r"""Mean and variance of max(a, 0) for a ~ N(m, v).

    .. math::
        E[b] = m \Phi(\alpha) + \sqrt v \phi(\alpha), \qquad
        E[b^2] = (m^2 + v) \Phi(\alpha) + m \sqrt v \phi(\alpha), \qquad \alpha = m / \sqrt v.

    Args:
        mean: m.
        variance: v, positive.

    Returns:
        Both, of the same shape.

    Example:
        >>> mean, variance = relu_moments(torch.zeros(1), torch.ones(1))
        >>> round(float(mean), 4), round(float(variance), 4)
        (0.3989, 0.3408)
    """
    scale = variance.sqrt()
    ratio = mean / scale
    above = torch.special.ndtr(ratio)
    density = scale * (-0.5 * ratio.square()).exp() / sqrt(2 * pi)
    first = mean * above + density
    second = (mean.square() + variance) * above + mean * density
    return first, (second - first.square()).clamp(min=0)


def output_moments(
    layers: Sequence[Layer], x: Float[Tensor, "*sets n d"]
) -> tuple[Float[Tensor, "*sets n"], Float[Tensor, "*sets n"]]:
    r"""Mean and variance of the network's output, with activations of each layer taken for independent normals.

    A layer's input sums are W z / sqrt(in + 1) with a one appended to z, so that weights of any layer have one scale:

    .. math::
        m_a = \frac{M m_z}{\sqrt{in + 1}}, \qquad
        v_a = \frac{M^2 v_z + V (m_z^2 + v_z)}{in + 1} \quad \text{(squares by entry)}.

    It is exact for one layer, and for two where the hidden sums are normal.

    Args:
        layers: From the first to the last, which has one output.
        x: Data, which have no variance.

    Returns:
        Mean and variance, (..., n).

    Source: Probabilistic backpropagation for scalable learning of Bayesian neural networks, 2015,
    https://arxiv.org/abs/1502.05336.
    """
    mean, variance = x, None
    for place, (m, v) in enumerate(layers):
        if place > 0:
            assert variance is not None
            mean, variance = relu_moments(mean, variance)
        width = m.shape[-1]
        spread = mean.square() if variance is None else mean.square() + variance
        after = spread @ v[..., :-1].mT + v[..., None, :, -1]
        if variance is not None:
            after = after + variance @ m[..., :-1].square().mT
        mean = (mean @ m[..., :-1].mT + m[..., None, :, -1]) / sqrt(width)
        variance = after / width
    assert variance is not None
    return mean[..., 0], variance[..., 0]
