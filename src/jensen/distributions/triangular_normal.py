"""Normals given by triangular scales, without what torch's own constructor loads."""

from jaxtyping import Float
from torch import Tensor
from torch.distributions import Distribution, MultivariateNormal


class TriangularNormal(MultivariateNormal):
    r"""N(loc, L L^T): torch's ``MultivariateNormal`` for arguments whose shapes agree already.

    Torch's constructor broadcasts its arguments by a function that loads a computer algebra system, which takes a
    second in a fresh process.

    Args:
        loc: (*batch, dim).
        scale_tril: L, lower triangular with a positive diagonal, (*batch, dim, dim).

    Example:
        >>> import torch
        >>> q = TriangularNormal(torch.zeros(2), torch.eye(2))
        >>> q.entropy() == torch.distributions.MultivariateNormal(torch.zeros(2), torch.eye(2)).entropy()
        tensor(True)
    """

    def __init__(self, loc: Float[Tensor, "*batch dim"], scale_tril: Float[Tensor, "*batch dim dim"]) -> None:
        self.loc = loc
        self.scale_tril = scale_tril  # pyright: ignore[reportAttributeAccessIssue]
        self._unbroadcasted_scale_tril = scale_tril
        Distribution.__init__(self, loc.shape[:-1], loc.shape[-1:], validate_args=False)
