"""log p(x) of simulated data from both sides: bidirectional Monte Carlo."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from jensen.errors import ConfigError
from jensen.evaluation.annealing import CHAINS, Annealing, OnPart, annealing_pass, in_dtype
from jensen.evaluation.joint import simulator
from jensen.evaluation.memory import MEMORY
from jensen.models import Model
from jensen.seeding import seeded


@dataclass(frozen=True)
class Bracket:
    """Simulated data with bounds on log p(x) from both sides, in nats, float64.

    Attributes:
        x: The data, (n, *event), drawn from the model.
        lower: A lower bound on log p(x) in expectation, (n,).
        lower_standard_error: Of its Monte Carlo estimate, (n,).
        upper: An upper bound in expectation, (n,).
        upper_standard_error: Likewise; chains share their exact start, whose part it can't see.
        acceptance: The part of the moves that was accepted, (n,).
        chains: For each datum and side.
        exact: Whether the latents were enumerated, so that both sides are log p(x) itself.
    """

    x: Float[Tensor, "n *event"]
    lower: Float[Tensor, " n"]
    lower_standard_error: Float[Tensor, " n"]
    upper: Float[Tensor, " n"]
    upper_standard_error: Float[Tensor, " n"]
    acceptance: Float[Tensor, " n"]
    chains: int
    exact: bool

    @property
    def width(self) -> float:
        """Mean over the data of upper less lower, in nats; at least zero in expectation."""
        return float((self.upper - self.lower).mean())

    @property
    def width_standard_error(self) -> float:
        """Of the width, from its spread over data, so that all that is random is in it; infinite for one datum."""
        if len(self.lower) < 2:
            return float("inf")
        return float((self.upper - self.lower).std()) / len(self.lower) ** 0.5


def bracket(
    model: Model,
    n: int = 100,
    chains: int = CHAINS,
    annealing: Annealing | None = None,
    *,
    context: Float[Tensor, "n *context"] | None = None,
    observed: Bool[Tensor, "n *event"] | None = None,
    seed: int | None = 0,
    memory: int = MEMORY,
    dtype: torch.dtype | None = None,
    on_part: OnPart | None = None,
) -> Bracket:
    """Simulates data with their latents, and bounds their log p(x) from below and from above.

    Annealing from the encoder (or the prior) to p(x, z) gives the lower side. Whoever simulates x knows the z that
    it came from, and this z is an exact draw of the true posterior p(z|x); annealing back from it gives the upper
    side. **There is no upper side without such a draw**, so none for real data: an approximate draw, also one of a
    long Markov chain, gives a number that bounds nothing. Nor is an estimate of a chi or Rényi bound a side of a
    bracket; it lies below its target. See ``annealing_pass``.

    Args:
        model: With ``simulate``, densities of its parts and one group of latents.
        n: Data to simulate.
        chains: Chains for each datum and side.
        annealing: How; None takes the defaults.
        context: What the model is conditioned on, one for each of the n data.
        observed: Which cells of them count as observed; the bracket is of log p(x_observed).
        seed: Of data and chains; None goes on with torch's generators.
        memory: Bytes of intermediate results at once.
        dtype: Simulates and computes in this precision on a copy of the model; None in the model's own.
        on_part: Called with the share of the work done.

    Returns:
        The data and both sides; where latents can be enumerated, both are log p(x) itself.

    Raises:
        BoundError: If the model can't simulate, a density doesn't exist, log p(x, z) has no gradient in z, or the
            latents are shared by all data.
        ConfigError: If n or chains is less than one.

    Source: Sandwiching the marginal likelihood using bidirectional Monte Carlo, 2015,
    https://arxiv.org/abs/1511.02543; On the quantitative analysis of decoder-based generative models, 2016,
    https://arxiv.org/abs/1611.04273.

    Example:
        >>> from jensen.likelihoods import Normal
        >>> from jensen.models import LatentVariableModel
        >>> from jensen.nets import MLP
        >>> from jensen.posteriors import DiagonalNormal
        >>> from jensen.priors import StandardNormal
        >>> model = LatentVariableModel(
        ...     StandardNormal(2), DiagonalNormal(MLP((3,), (2, 2))), Normal(MLP((2,), (1, 3)), (3,))
        ... )
        >>> found = bracket(model, n=5, chains=4, annealing=Annealing(steps=10))
        >>> found.x.shape, found.upper.shape
        (torch.Size([5, 3]), torch.Size([5]))
    """
    if n < 1:
        raise ConfigError(f"a bracket needs at least one simulated datum, got n={n}")
    with seeded(seed):
        if dtype is not None:
            model, cast = in_dtype(model, dtype)
            context = None if context is None else cast(context)
        x, z = simulator(model).simulate(n, context)
        x = x.to(z.dtype)
        found = annealing_pass(
            model,
            x,
            chains,
            annealing,
            latents=z,
            context=context,
            observed=observed,
            seed=None,
            memory=memory,
            on_part=on_part,
        )
    lower, upper = found.lower, found.upper
    assert upper is not None
    return Bracket(
        x,
        lower.value,
        lower.standard_error,
        upper.value,
        upper.standard_error,
        found.acceptance,
        chains,
        exact=bool((upper.value == lower.value).all()) and not bool(lower.standard_error.any()),
    )
