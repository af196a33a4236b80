"""What a family of components is: an exponential family whose statistics add up over data."""

from typing import Protocol, runtime_checkable

from jaxtyping import Bool, Float
from torch import Tensor

from jensen.models.families.predictive import Predictive
from jensen.models.rows import Columns


@runtime_checkable
class Family(Protocol):
    r"""Components log p(x | theta_k) = eta(theta_k)^T t(x) with a conjugate prior, or none.

    The optimal q(theta_k), or the maximiser, is a function of the sums s_k = sum_n r_nk t(x_n), which is all that EM,
    CAVI, natural-gradient ascent and stochastic VI keep. The last feature is 1, so that the last statistic counts data.

    Attributes:
        feature_count: Length F of t(x).
        needs_covariance: Whether ``prepare`` asks for the data's covariance.
        bounded: Whether the objective is bounded above, were variances not kept from zero.
    """

    feature_count: int
    needs_covariance: bool
    bounded: bool

    def prepare(self, spread: Columns, covariance: Float[Tensor, "d d"] | None) -> None:
        """Sets what the family takes from the data: centre, prior, lowest variance."""
        ...

    def features(
        self, x: Float[Tensor, "n d"], observed: Bool[Tensor, "n d"] | None = None
    ) -> Float[Tensor, "f n"]:
        """t(x) of each datum, (F, n); missing cells of x are zero, and are left out.

        A family whose missing cells depend on the observed ones puts in what is known of them without these; it also
        has ``complete`` (see ``Completes``), which puts in what the observed ones tell.
        """
        ...

    def coefficients(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*batch f"]:
        """E_q[eta(theta_k)], whose inner product with t(x) is E_q[log p(x | theta_k)]; (..., K, F)."""
        ...

    def negative_kl(self, statistics: Float[Tensor, "*batch f"]) -> Float[Tensor, "*any"]:
        """-sum_k KL(q(theta_k) || p(theta_k)) in nats, (...); zero where there is no prior."""
        ...

    def at_floor(self, statistics: Float[Tensor, "k f"]) -> Bool[Tensor, " k"]:
        """Which components have a variance at the lowest value it may take, without which there is no maximum."""
        ...

    def predictive(self, statistics: Float[Tensor, "k f"]) -> Predictive:
        """E_q[p(x | theta_k)] of each component."""
        ...
