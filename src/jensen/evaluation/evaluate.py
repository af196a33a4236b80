"""How good a density model is, in numbers with their errors."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import log, prod, sqrt
from typing import Protocol, cast, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from jensen.data import Moments
from jensen.errors import ShapeError
from jensen.evaluation.importance import ImportancePass, importance_pass
from jensen.evaluation.latents import ACTIVE, kl_per_dimension, posterior_means, reconstruction_errors
from jensen.evaluation.memory import MEMORY
from jensen.models import Model

Numbers = dict[str, float | int | list[float] | list[int] | None]


@runtime_checkable
class Exact(Protocol):
    """A model whose density is known."""

    def log_prob(self, x: Tensor, observed: Tensor | None = None) -> Tensor:
        """Log p(x) in nats, (n,)."""
        ...


def evaluate_exact(
    model: Exact,
    x: Float[Tensor, "n *event"] | Iterable[Tensor],
    chunk: int = 100_000,
    *,
    on_data: Callable[[int], None] | None = None,
) -> Numbers:
    """Evaluates a model whose density is known: no sampling, no gap.

    Args:
        model: Has ``log_prob``.
        x: Data, or parts of them, one after the other; NaN where a cell is missing, which is integrated out.
        chunk: Data at once.
        on_data: Called with the number of data done after each chunk.

    Returns:
        What ``evaluate`` returns, as far as it has a meaning here. ``elbo`` is log p(x); nats and bits per dimension
        are those per observed cell.

    Raises:
        ShapeError: If there are no data.
    """
    found: Moments | None = None
    cells = 0
    for part in [x] if isinstance(x, Tensor) else x:
        for some in part.split(chunk):
            with torch.inference_mode():
                values = Moments.of(model.log_prob(some)[:, None].cpu().numpy())
            found = values if found is None else found.merged(values)
            cells += int((~some.isnan()).sum())
            if on_data is not None:
                on_data(len(some))
    if found is None:
        raise ShapeError("there are no data to evaluate; got no parts")
    n = found.count
    nll = -float(found.mean[0])
    error = sqrt(float(found.variance(correction=1)[0]) / n) if n > 1 else None
    return {
        "elbo": -nll,
        "elbo_test_standard_error": error,
        "nll": nll,
        "nll_standard_error": 0.0,
        "nll_test_standard_error": error,
        "gap": 0.0,
        "gap_test_standard_error": 0.0 if n > 1 else None,
        "nats_per_dim": nll * n / cells,
        "bits_per_dim": nll * n / cells / log(2),
        "samples": 0,
        "n": n,
    }


def evaluate(
    model: Model | Exact,
    x: Float[Tensor, "n *event"] | Iterable[Tensor],
    samples: int = 5000,
    *,
    seed: int | None = 0,
    memory: int = MEMORY,
    on_data: Callable[[int], None] | None = None,
) -> Numbers:
    """Evaluates a model on data it hasn't seen.

    Args:
        model: With densities of prior and posterior.
        x: Data in the model's dtype, (n, *event); or parts of them, one after the other, which needs memory for one
            part only.
        samples: Importance samples for each datum.
        seed: Of the draws; each part has noise of its own.
        memory: Bytes of intermediate results at once.
        on_data: Called with the number of data done after each chunk.

    Returns:
        Means over the data, nats a datum unless the name says otherwise: ``elbo``; ``nll`` (minus the
        importance-sampled log p(x), in expectation an upper bound on the true value);
        ``nll_standard_error`` (of importance sampling); ``nll_test_standard_error`` (over data);
        ``elbo_test_standard_error``, ``gap_test_standard_error``, ``log_likelihood_test_standard_error``,
        ``kl_test_standard_error`` and ``reconstruction_error_test_standard_error`` (over data, too; they include
        what the draws add, and are None for a single datum);
        ``gap`` (what importance sampling finds of the gap of the ELBO: a lower bound on it in expectation);
        ``log_likelihood`` and ``kl`` (the ELBO's two terms); ``nats_per_dim``; ``bits_per_dim``; ``samples``;
        ``n``; ``active_units``; ``kl_per_dimension`` (None where there is no closed form);
        ``reconstruction_error`` (mean squared error a cell).

    Raises:
        BoundError: If a density doesn't exist.
        ConfigError: If samples is less than one.
        ShapeError: If there are no data.
    """
    if hasattr(model, "log_prob"):
        return evaluate_exact(cast(Exact, model), x, on_data=on_data)
    model = cast(Model, model)
    totals = _Totals()
    for number, some in enumerate([x] if isinstance(x, Tensor) else x):
        totals.add(
            model,
            some,
            importance_pass(
                model, some, samples, seed=part_seed(seed, number), memory=memory, on_data=on_data
            ),
        )
    return totals.numbers(samples)


def summarise(model: Model, x: Float[Tensor, "n *event"], result: ImportancePass) -> Numbers:
    """The numbers of ``evaluate``, from a pass that was made already.

    Args:
        model: The model of the pass.
        x: Its data, (n, *event).
        result: What the pass gave for each datum.

    Returns:
        See ``evaluate``.
    """
    totals = _Totals()
    totals.add(model, x, result)
    return totals.numbers(result.samples)


def part_seed(seed: int | None, number: int) -> int | None:
    """The seed of the draws for one part of the data; the first part has that of the whole.

    Example:
        >>> part_seed(7, 0)
        7
    """
    return None if seed is None else (seed + 1_000_003 * number) % 2**63


_COLUMNS = ("elbo", "evidence", "gap", "log_likelihood", "kl", "reconstruction_error")


@dataclass
class _Totals:
    """Moments over the data so far."""

    cells: int = 0
    squared_standard_errors: float = 0.0
    data: Moments | None = None
    means: Moments | None = None
    kl: Tensor | None = None

    def add(self, model: Model, x: Tensor, result: ImportancePass) -> None:
        """Takes note of a part."""
        self.cells = prod(x.shape[1:])
        self.squared_standard_errors += float(result.standard_error.square().sum())
        kl = kl_per_dimension(model, x)
        if kl is not None:
            kl = kl.double() * len(x)
            self.kl = kl if self.kl is None else self.kl + kl
        columns = [
            result.elbo,
            result.evidence,
            result.evidence - result.elbo,
            result.log_likelihood,
            result.log_likelihood - result.elbo,
            reconstruction_errors(model, x).to(result.elbo),
        ]
        # Of data that the model gives no density the means are not finite, which says enough.
        with np.errstate(invalid="ignore", over="ignore"):
            data = Moments.of(torch.stack(columns, 1).cpu().numpy())
            self.data = data if self.data is None else self.data.merged(data)
            means = Moments.of(posterior_means(model, x).cpu().numpy())
            self.means = means if self.means is None else self.means.merged(means)

    def numbers(self, samples: int) -> Numbers:
        """What ``evaluate`` returns.

        Raises:
            ShapeError: If there were no data.
        """
        if self.data is None or self.means is None:
            raise ShapeError("there are no data to evaluate; got no parts")
        n = self.data.count
        mean = dict(zip(_COLUMNS, self.data.mean.tolist(), strict=True))
        spread = self.data.variance(correction=1) / n
        error = {
            name: sqrt(value) if n > 1 else None
            for name, value in zip(_COLUMNS, spread.tolist(), strict=True)
        }
        nll = -mean["evidence"]
        return {
            "elbo": mean["elbo"],
            "elbo_test_standard_error": error["elbo"],
            "nll": nll,
            "nll_standard_error": sqrt(self.squared_standard_errors) / n,
            "nll_test_standard_error": error["evidence"],
            "gap": mean["gap"],
            "gap_test_standard_error": error["gap"],
            "log_likelihood": mean["log_likelihood"],
            "log_likelihood_test_standard_error": error["log_likelihood"],
            "kl": mean["kl"],
            "kl_test_standard_error": error["kl"],
            "nats_per_dim": nll / self.cells,
            "bits_per_dim": nll / self.cells / log(2),
            "samples": samples,
            "n": n,
            "active_units": int((self.means.variance(correction=1) > ACTIVE).sum()) if n > 1 else 0,
            "kl_per_dimension": None if self.kl is None else (self.kl / n).tolist(),
            "reconstruction_error": mean["reconstruction_error"],
            "reconstruction_error_test_standard_error": error["reconstruction_error"],
        }
