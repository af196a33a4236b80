"""All that the sections of a report draw from, computed once."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from math import prod
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch.distributions import OneHotCategorical

from jensen.data import Dataset, check_matches, take
from jensen.data.subsets import permutation
from jensen.errors import RunError
from jensen.evaluation import evaluate, kl_per_dimension, posterior_means
from jensen.evaluation.latents import ACTIVE
from jensen.report.pictures import Floats, Form, form_of
from jensen.runs import Run

SHOWN = 1000
"""Data that are encoded for the pictures, at most."""

EVALUATED = 500
"""Data that the report evaluates itself where nobody has, at most."""

_SHOWN = (
    "elbo",
    "nll",
    "nll_standard_error",
    "gap",
    "log_likelihood",
    "kl",
    "nats_per_dim",
    "bits_per_dim",
    "samples",
    "n",
    "active_units",
    "reconstruction_error",
)
"""Numbers of an evaluation that the sections show."""


@dataclass(frozen=True)
class Material:
    """What the sections draw from; arrays are on the CPU, data flattened to (n, cells).

    Attributes:
        run: The Run.
        dataset: The data of the pictures, in a random order.
        origin: Where these data come from, in words.
        data: They as the model takes them, (n, cells).
        means: Their posterior means, (n, latent_dim).
        numbers: The evaluation that the report is about.
        own_numbers: Whether the report computed them itself.
        kl: KL of each latent in nats, (latent_dim,); None where there is no closed form.
        active: Whether each latent counts as active on these data, (latent_dim,).
        order: The latents, those that say most first.
        prior_mean: Of each latent, (latent_dim,).
        prior_scale: Standard deviation of each latent under the prior, (latent_dim,).
        discrete: Whether the latent is one class of several.
        form: How a datum is shown as an image; None where it is none.
        names: Of the cells.
        seed: Of all that is drawn.
        written: When.
    """

    run: Run
    dataset: Dataset
    origin: str
    data: Floats
    means: Floats
    numbers: Mapping[str, Any]
    own_numbers: bool
    kl: Floats | None
    active: NDArray[np.bool_]
    order: list[int]
    prior_mean: Floats
    prior_scale: Floats
    discrete: bool
    form: Form | None
    names: tuple[str, ...]
    seed: int
    written: datetime

    def decode(self, z: Floats) -> Floats:
        """The expected data of latents.

        Args:
            z: (..., latent_dim).

        Returns:
            E[x|z], (..., cells).
        """
        weight = next(self.run.model.parameters())
        flat = torch.as_tensor(z.reshape(-1, z.shape[-1])).to(weight.device, weight.dtype)
        with torch.inference_mode():
            means = torch.cat([self.run.model.decode(some).mean for some in flat.split(256)])
        return _flat(means).reshape(*z.shape[:-1], -1)

    @property
    def shown_kl(self) -> Floats:
        """What latents are ordered by: their KL, else the variance of their posterior mean in units of the prior."""
        return self.means.var(0) / self.prior_scale**2 if self.kl is None else self.kl


def gather(run: Run, dataset: Dataset | None, samples: int, seed: int) -> Material:
    """Computes what the sections need.

    Args:
        run: A fitted Run.
        dataset: Data for the pictures; None takes the Run's examples.
        samples: Importance samples for each datum, where there is no evaluation yet.
        seed: Of all that is drawn.

    Returns:
        The material.

    Raises:
        DataError: If the data don't match the Run.
        RunError: If there are no data.
    """
    chosen, origin = _chosen(run, dataset, seed)
    x = run.prepare(chosen, seed)
    usable = [e for e in run.evaluations if _is_evaluation(e)]
    known = [e for e in usable if dataset is not None and e.get("data") == dataset.name]
    known = known or usable
    if known:
        numbers = known[-1]
    else:
        computed = evaluate(run.model, x[:EVALUATED], samples, seed=seed)
        numbers = {"data": chosen.name, "seed": seed, **computed}
    data, means = _flat(x), posterior_means(run.model, x).double().cpu().numpy()
    kl = _kl(run, numbers, x)
    with torch.inference_mode():
        prior = run.model.prior()
        prior_mean, prior_variance = (part.double().cpu().numpy() for part in (prior.mean, prior.variance))
    prior_scale = np.sqrt(np.maximum(prior_variance, 1e-12))
    varies = means.var(0, ddof=1) if len(means) > 1 else np.zeros(means.shape[1])
    said = means.var(0) / prior_scale**2 if kl is None else kl
    return Material(
        run=run,
        dataset=chosen,
        origin=origin,
        data=data,
        means=means,
        numbers=numbers,
        own_numbers=not known,
        kl=kl,
        active=varies > ACTIVE,
        order=[int(i) for i in np.argsort(-said, kind="stable")],
        prior_mean=prior_mean,
        prior_scale=prior_scale,
        discrete=isinstance(prior, OneHotCategorical),
        form=form_of(run.schema, data),
        names=_names(run),
        seed=seed,
        written=datetime.now(UTC),
    )


def _is_evaluation(found: Any) -> bool:
    """Whether a record has the numbers that the sections show, all of them finite."""
    return isinstance(found, dict) and all(
        isinstance(cast("dict[str, Any]", found).get(key), int | float) for key in _SHOWN
    )


def _chosen(run: Run, dataset: Dataset | None, seed: int) -> tuple[Dataset, str]:
    """The data of the pictures, and where they come from."""
    if dataset is not None:
        matching = check_matches(run.schema, dataset)
        order = permutation(len(matching), seed)[:SHOWN]
        return take(matching, order), f"{matching.name}, given for this report"
    if run.examples is None:
        raise RunError(
            f"{run.folder or 'this Run'} keeps no examples, so there is nothing to show; "
            "give data: jensen report RUN --data DATA, or build(run, dataset)"
        )
    chosen = take(run.examples, slice(SHOWN))
    if run.about.get("n_valid"):
        return chosen, f"validation data of {chosen.name}: not trained on, but they chose the weights"
    return chosen, f"training data of {chosen.name}: the Run kept no others"


def _kl(run: Run, numbers: Mapping[str, Any], x: torch.Tensor) -> Floats | None:
    """The evaluation's KL of each latent; computed on the data of the pictures if it is missing there."""
    if "kl_per_dimension" in numbers:
        values = numbers["kl_per_dimension"]
        return None if values is None else np.array(values, dtype=float)
    computed = kl_per_dimension(run.model, x)
    return None if computed is None else computed.double().cpu().numpy()


def _names(run: Run) -> tuple[str, ...]:
    columns = run.schema.columns
    return tuple(f"cell {i}" for i in range(prod(run.schema.event_shape))) if columns is None else columns


def _flat(values: torch.Tensor) -> Floats:
    return values.reshape(len(values), -1).double().cpu().numpy()
