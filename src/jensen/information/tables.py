"""Information in tables of probabilities; in nats, float64, and exact.

Zero probabilities are no trouble: 0 log 0 is 0, and where a divergence is infinite it is inf and never NaN.
"""

import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from torch import Tensor

from jensen.errors import ConfigError, DataError, ShapeError, unknown

# Sums of float32 probabilities are off by about this much where there are some ten thousand of them.
_TOLERANCE = 1e-5


def checked(table: ArrayLike | Tensor, axes: int = 1, name: str = "table") -> Float[Tensor, "*shape"]:
    """A table of probabilities in float64, held to be one.

    Args:
        table: Numbers that sum to one over the last axes.
        axes: How many of the last axes hold one distribution; the others are a batch.
        name: What to call it in messages.

    Returns:
        The numbers as they are.

    Raises:
        ShapeError: If there are too few axes or no cells.
        DataError: If something isn't a number, is negative or not finite, or the sums aren't one.
    """
    try:
        p = torch.as_tensor(table, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise DataError(f"the {name} should hold numbers, got {table!r:.60} ({error})") from None
    if p.ndim < axes or p.numel() == 0:
        raise ShapeError(
            f"the {name} has shape {tuple(p.shape)}; wanted at least {axes} axes and one cell. "
            "Give one number for each outcome."
        )
    if not bool(torch.isfinite(p).all()):
        raise DataError(f"the {name} holds a number that isn't finite; probabilities lie in 0..1")
    if bool((p < 0).any()):
        raise DataError(
            f"the {name} holds the negative number {float(p.min()):g}; probabilities lie in 0..1. "
            "If these are logits, give torch.softmax(logits, -1)."
        )
    sums = p.sum(dim=tuple(range(-axes, 0)))
    worst = float(sums.flatten()[(sums - 1).abs().argmax()])
    if abs(worst - 1) > _TOLERANCE:
        raise DataError(
            f"the {name} sums to {worst:.6g} and not to 1 over its last {axes} axes; "
            "divide by the sum if these are weights or counts"
        )
    return p


def entropy(p: Tensor) -> Tensor:
    """Of the distribution in the last axis."""
    # Where it is certain what comes, the sum is zero, and so is this: not its negative.
    return 0.0 - torch.xlogy(p, p).sum(-1)


def cross_entropy(p: Tensor, q: Tensor) -> Tensor:
    """Nats of a code made for q on what comes from p."""
    # xlogy(0, 0) is 0, and xlogy(p, 0) is -inf.
    return 0.0 - torch.xlogy(p, q).sum(-1)


def kl(p: Tensor, q: Tensor) -> Tensor:
    """KL(p || q), of terms none of which is negative, so that little is lost where p is near q."""
    terms = torch.where(p > 0, torch.xlogy(p, p) - torch.xlogy(p, q) - p + q, q)
    return terms.clamp(min=0).sum(-1)


def jensen_shannon(p: Tensor, q: Tensor) -> Tensor:
    """Half the divergences of both from the average of both."""
    middle = 0.5 * (p + q)
    return 0.5 * (kl(p, middle) + kl(q, middle))


def conditional_entropy(joint: Tensor, given: str) -> Tensor:
    """H(x|y) or H(y|x) of a table (x, y), as the expectation of the entropies given each value."""
    if given not in ("x", "y"):
        raise ConfigError(unknown("variable", given, ["x", "y"]))
    if given == "x":
        joint = joint.mT
    condition = joint.sum(-2, keepdim=True)
    return (torch.xlogy(joint, condition) - torch.xlogy(joint, joint)).sum((-2, -1))


def pointwise(joint: Tensor) -> Tensor:
    """The logarithm of p(x, y) / (p(x) p(y)) for each cell; -inf where p(x, y) is zero."""
    x, y = joint.sum(-1, keepdim=True), joint.sum(-2, keepdim=True)
    return torch.where(joint > 0, joint.log() - x.log() - y.log(), -torch.inf)


def mutual_information(joint: Tensor) -> Tensor:
    """The divergence of the joint table from the product of its margins, which itself may underflow."""
    product = joint.sum(-1, keepdim=True) * joint.sum(-2, keepdim=True)
    shared = torch.where(joint > 0, joint * pointwise(joint), 0.0)
    return (shared - joint + product).clamp(min=0).sum((-2, -1))


def same_outcomes(p: Tensor, q: Tensor) -> None:
    """Holds that two tables are over the same outcomes.

    Raises:
        ShapeError: If they aren't.
    """
    if p.shape[-1] != q.shape[-1]:
        raise ShapeError(
            f"the tables have {p.shape[-1]} and {q.shape[-1]} outcomes; give tables over the same outcomes"
        )
