"""Whether fresh momenta carry a Hamiltonian sampler over all energies."""

from jaxtyping import Float
from torch import Tensor

from jensen.diagnostics.chains import columns


def e_bfmi(energy: Float[Tensor, "chains draws"]) -> Float[Tensor, " chains"]:
    r"""The share of an energy's variance that one fresh momentum moves through.

    .. math::
        \frac{\sum_t (E_t - E_{t-1})^2 / (N - 1)}{\mathrm{var}(E)}

    Args:
        energy: The negative log-density plus the kinetic energy of each draw in nats, (chains, draws).

    Returns:
        Of each chain, float64 (chains,). Below 0.3 the tails are hardly explored; about 1 to 2 is good.

    Raises:
        ShapeError: If there are fewer than four draws a chain.
        DataError: If an energy isn't finite.

    Source: Diagnosing suboptimal cotangent disintegrations in Hamiltonian Monte Carlo, 2016,
    https://arxiv.org/abs/1604.00695.
    """
    energy = columns(energy)[..., 0]
    return energy.diff(dim=1).square().mean(1) / energy.var(1)
