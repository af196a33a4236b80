"""The gap between the ELBO and log p(x), and what it consists of."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.distributions import Distribution

from jensen.bounds import Draw, elbo
from jensen.distributions import select
from jensen.errors import ConfigError
from jensen.evaluation.annealing import Annealing, OnPart
from jensen.evaluation.estimate import exactly, mean
from jensen.evaluation.evidence import evidence
from jensen.evaluation.importance import in_chunks
from jensen.evaluation.joint import can_be_enumerated, enumerated
from jensen.evaluation.memory import MEMORY, part, row_bytes
from jensen.evaluation.refine import Refinement, family_of, refine
from jensen.information import Estimate
from jensen.models import Model
from jensen.seeding import seeded

ELBO_DRAWS = 500
"""Draws for each datum with which ELBOs are compared."""

_DATA_AT_ONCE = 8


@dataclass(frozen=True)
class Gap:
    """How far the ELBO lies below log p(x), datum by datum, in nats, and why.

    Attributes:
        family: The family of the encoder's posteriors, "normal", "full-normal" or "categorical"; None if unknown.
        elbo: With the encoder's posterior.
        refined: By the name of a family, the ELBO with the best posterior that was found in it.
        evidence: Estimate of log p(x), in expectation from below.
        amortisation: What it costs that one network serves all data: the ELBO refined within the encoder's own
            family, less the ELBO. Estimated from shared draws. None where the family is unknown.
        approximation: By the name of a family, what it costs that the posterior comes from it: log p(x) less the
            refined ELBO. In expectation too small by as much as the evidence is, and too large by as much as the
            optimisation has left.
    """

    family: str | None
    elbo: Estimate
    refined: Mapping[str, Estimate]
    evidence: Estimate
    amortisation: Estimate | None
    approximation: Mapping[str, Estimate]

    @property
    def total(self) -> Estimate:
        """Log p(x) less the ELBO: the sum of amortisation and approximation within the encoder's family."""
        return _less(self.evidence, self.elbo)


def gap(
    model: Model,
    x: Float[Tensor, "n *event"],
    samples: int = ELBO_DRAWS,
    *,
    context: Float[Tensor, "n *context"] | None = None,
    observed: Bool[Tensor, "n *event"] | None = None,
    refinement: Refinement | None = None,
    method: str = "ais",
    annealing: Annealing | None = None,
    log_evidence: Estimate | None = None,
    seed: int | None = 0,
    memory: int = MEMORY,
    on_part: OnPart | None = None,
) -> Gap:
    r"""Splits the gap of the ELBO into what amortisation costs and what the family of posteriors costs.

    .. math::
        \log p(x) - \mathcal{L}(q_\phi) = \underbrace{\log p(x) - \mathcal{L}(q^*)}_{\text{approximation}}
        + \underbrace{\mathcal{L}(q^*) - \mathcal{L}(q_\phi)}_{\text{amortisation}}

    with q* the best posterior of the family for this datum alone, which ``refine`` looks for from where the encoder
    is. First among normals with independent latents (normals, where the encoder gives them), then among flows.

    Args:
        model: With densities of prior and posterior.
        x: Data in the model's dtype; cells that weren't observed may hold anything.
        samples: Draws for each datum of each ELBO; all posteriors share their noise.
        context: What the model is conditioned on.
        observed: True where a cell was observed.
        refinement: How posteriors are refined.
        method: How log p(x) is estimated, "is" or "ais".
        annealing: How, for "ais".
        log_evidence: Estimates of log p(x), if they are there already; none are then made.
        seed: Of the draws; None goes on with torch's generators.
        memory: Bytes of intermediate results at once.
        on_part: Called with the share of the work done.

    Returns:
        The gap. Where latents can be enumerated all is exact: a table can hold the posterior itself, so that the
        whole gap is amortisation.

    Raises:
        BoundError: If a density doesn't exist, or the latents can't be refined or annealed.
        ConfigError: If samples is less than two.

    Source: Inference suboptimality in variational autoencoders, 2018, https://arxiv.org/abs/1801.03558.
    """
    if samples < 2:
        raise ConfigError(
            f"an ELBO with its error needs at least 2 draws for each datum, got samples={samples}"
        )
    with seeded(seed):
        with torch.no_grad():
            q = model.encode(x, context, observed)
            if can_be_enumerated(q):
                rows = max(1, memory // row_bytes(model, x, context, observed))
                return _enumerated(model, x, context, observed, q, rows)
        if log_evidence is None:
            log_evidence = evidence(
                model,
                x,
                None,
                method=method,
                annealing=annealing,
                context=context,
                observed=observed,
                seed=None,
                memory=memory,
            )
        own = family_of(q)
        families = ["normal", "flow"] if own != "full-normal" else ["full-normal", "flow"]
        posteriors: dict[str, Distribution] = {}
        for family in families:
            posteriors[family] = refine(
                model,
                x,
                family,
                refinement,
                # The flow goes on from the best normal.
                start=posteriors.get(families[0], q),
                context=context,
                observed=observed,
                seed=None,
                memory=memory,
                on_part=None if on_part is None else _shared(on_part, 1 / len(families)),
            )
        compared = [q, *posteriors.values()]
        found = _elbos(model, (x, context, observed), compared, samples, memory, own is not None)
    elbos, amortisation = found[: len(compared)], found[len(compared) :]
    refined = dict(zip(posteriors, elbos[1:], strict=True))
    return Gap(
        own,
        elbos[0],
        refined,
        log_evidence,
        amortisation[0] if amortisation else None,
        {name: _less(log_evidence, each) for name, each in refined.items()},
    )


def _shared(on_part: OnPart, share: float) -> OnPart:
    return lambda done: on_part(share * done)


def _less(first: Estimate, second: Estimate) -> Estimate:
    """The difference of two independent estimates."""
    error = torch.hypot(first.standard_error, second.standard_error)
    return Estimate(first.value - second.value, error, min(first.samples, second.samples))


def _elbos(
    model: Model,
    batch: tuple[Tensor, Tensor | None, Tensor | None],
    posteriors: list[Distribution],
    samples: int,
    memory: int,
    paired: bool,
) -> list[Estimate]:
    """The ELBO with each posterior from the same noise; behind them, if asked for, the second less the first."""
    x, context, observed = batch
    draw = Draw(closed_form=False)
    found: list[list[Estimate]] = []
    with torch.no_grad():
        at_once = max(1, memory // (row_bytes(model, x, context, observed) * _DATA_AT_ONCE))
        for first in range(0, len(x), _DATA_AT_ONCE):
            few = slice(first, first + _DATA_AT_ONCE)
            state = torch.get_rng_state()
            each: list[Tensor] = []
            for q in posteriors:
                torch.set_rng_state(state)
                passes = in_chunks(
                    model,
                    x[few],
                    part(context, few),
                    part(observed, few),
                    select(q, few),
                    samples,
                    at_once,
                    draw,
                )
                each.append(torch.cat([terms.log_ratio().double() for terms in passes]))
            differences = [each[1] - each[0]] if paired else []
            found.append([mean(values) for values in [*each, *differences]])
    return [
        Estimate(
            torch.cat([chunk[i].value for chunk in found]),
            torch.cat([chunk[i].standard_error for chunk in found]),
            samples,
        )
        for i in range(len(found[0]))
    ]


def _enumerated(
    model: Model, x: Tensor, context: Tensor | None, observed: Tensor | None, q: Distribution, rows: int
) -> Gap:
    """All of it without error, the latents summed out."""
    exact = enumerated(model, x, context, observed, q, rows)
    bound = enumerated(model, x, context, observed, q, rows, elbo)
    none = exactly(torch.zeros_like(exact.value))
    return Gap(
        "categorical",
        bound,
        {"categorical": exact},
        exact,
        exactly(exact.value - bound.value),
        {"categorical": none},
    )
