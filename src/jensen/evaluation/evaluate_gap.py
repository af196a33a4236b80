"""The gap in numbers: the bracket on simulated data, the bounds on real data, and the split."""

from collections.abc import Callable
from functools import partial
from math import sqrt

from jaxtyping import Float
from torch import Tensor

from jensen.errors import ShapeError
from jensen.evaluation.annealing import Annealing, OnPart
from jensen.evaluation.bracket import bracket
from jensen.evaluation.curve import COUNTS, BoundCurve, bound_curve
from jensen.evaluation.evaluate import Numbers
from jensen.evaluation.evidence import evidence
from jensen.evaluation.gap import gap
from jensen.evaluation.memory import MEMORY
from jensen.evaluation.refine import Refinement
from jensen.information import Estimate
from jensen.models import Model

GAP_DATA = 100
"""Data on which the gap is measured, and as many that are simulated, where nobody says how many."""

OnStage = Callable[[str, float], object]
"""Called with what is being done and the share of it that was done since the last call."""


def evaluate_gap(
    model: Model,
    x: Float[Tensor, "n *event"],
    n: int = GAP_DATA,
    *,
    chains: int = 8,
    annealing: Annealing | None = None,
    refinement: Refinement | None = None,
    counts: tuple[int, ...] = COUNTS,
    seed: int | None = 0,
    memory: int = MEMORY,
    on_stage: OnStage | None = None,
) -> Numbers:
    """Measures how far the bounds lie below log p(x), and why.

    Args:
        model: With ``simulate`` and densities of its parts.
        x: Data in the model's dtype, the first n of which are used.
        n: Data, real and simulated.
        chains: Annealed chains for each datum.
        annealing: How.
        refinement: How posteriors are refined.
        counts: Numbers of draws K for which the bound is taken.
        seed: Of the draws.
        memory: Bytes of intermediate results at once.
        on_stage: Called with the share done of each of five stages.

    Returns:
        Means over the data in nats a datum. ``gap_simulated_lower``, ``gap_simulated_upper``: bounds on log p(x) of
        simulated data, and ``gap_simulated_width`` between them. ``gap_data_elbo``, ``gap_data_iwae``,
        ``gap_data_ais``: lower bounds on log p(x) of the data given. ``gap_curve_samples`` with
        ``gap_curve_simulated`` and ``gap_curve_data``: the bound against K. ``gap_amortisation`` and
        ``gap_approximation_*``: the split of the gap on the data given. ``*_standard_error``: of sampling, but that
        of the width over data.

    Raises:
        BoundError: If the model can't be annealed or refined.
        ShapeError: If there are no data.
    """
    if len(x) == 0:
        raise ShapeError("there are no data to evaluate; got an array of length 0")
    some = x[:n]

    def stage(name: str) -> OnPart | None:
        return None if on_stage is None else partial(on_stage, name)

    found = bracket(
        model,
        len(some),
        chains,
        annealing,
        seed=seed,
        memory=memory,
        on_part=stage("bracketing simulated data"),
    )
    simulated = bound_curve(
        model, found.x, counts, seed=seed, memory=memory, on_part=stage("bounds on simulated data")
    )
    real = bound_curve(model, some, counts, seed=seed, memory=memory, on_part=stage("bounds on the data"))
    annealed = evidence(
        model,
        some,
        chains,
        method="ais",
        annealing=annealing,
        seed=seed,
        memory=memory,
        on_part=stage("annealing on the data"),
    )
    split = gap(
        model,
        some,
        refinement=refinement,
        log_evidence=annealed,
        seed=seed,
        memory=memory,
        on_part=stage("refining posteriors"),
    )
    return {
        "gap_n": len(some),
        "gap_chains": chains,
        "gap_steps": (Annealing() if annealing is None else annealing).steps,
        "gap_exact": found.exact,
        "gap_acceptance": float(found.acceptance.mean()),
        **_mean("gap_simulated_lower", found.lower, found.lower_standard_error),
        **_mean("gap_simulated_upper", found.upper, found.upper_standard_error),
        "gap_simulated_width": found.width,
        "gap_simulated_width_standard_error": found.width_standard_error,
        **_estimate("gap_data_elbo", split.elbo),
        "gap_data_iwae": float(real.value[-1].mean()),
        "gap_data_iwae_standard_error": _error(real.standard_error[-1]),
        **_estimate("gap_data_ais", annealed),
        "gap_curve_samples": list(counts),
        **_curve("gap_curve_simulated", simulated),
        **_curve("gap_curve_data", real),
        **_estimate("gap_total", split.total),
        **({} if split.amortisation is None else _estimate("gap_amortisation", split.amortisation)),
        **{
            key: value
            for family, each in split.approximation.items()
            for key, value in _estimate(f"gap_approximation_{family.replace('-', '_')}", each).items()
        },
    }


def _error(errors: Tensor) -> float:
    """Of a mean over data with independent errors."""
    return sqrt(float(errors.square().sum())) / len(errors)


def _mean(name: str, value: Tensor, errors: Tensor) -> Numbers:
    return {name: float(value.mean()), f"{name}_standard_error": _error(errors)}


def _estimate(name: str, estimate: Estimate) -> Numbers:
    return _mean(name, estimate.value, estimate.standard_error)


def _curve(name: str, curve: BoundCurve) -> Numbers:
    errors = curve.standard_error.square().sum(1).sqrt() / curve.value.shape[1]
    return {
        name: [float(value) for value in curve.value.mean(1)],
        f"{name}_standard_error": [float(error) for error in errors],
    }
