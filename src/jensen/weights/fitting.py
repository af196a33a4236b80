"""From a network and data to a posterior over its weights, by any method."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jensen.errors import ConfigError, RunError, ShapeError
from jensen.registry import Registry
from jensen.seeding import seeded
from jensen.weights import likelihoods, priors, storage
from jensen.weights.backprop import BackpropOptions, fit_backprop
from jensen.weights.dropout import DropoutOptions, DropoutPosterior, fit_dropout
from jensen.weights.ensemble import EnsembleOptions, fit_ensemble
from jensen.weights.laplace import LaplaceOptions, LaplacePosterior, fit_laplace
from jensen.weights.likelihoods import Likelihood, NoiseScale
from jensen.weights.map import MapOptions, fit_map
from jensen.weights.members import MembersPosterior
from jensen.weights.network import FunctionalNetwork, tensor_of
from jensen.weights.normal import NormalPosterior
from jensen.weights.options import Options, parse
from jensen.weights.pbp import PbpOptions, PbpPosterior, fit_pbp
from jensen.weights.posterior import Posterior, matches
from jensen.weights.priors import PriorScale
from jensen.weights.problem import Problem
from jensen.weights.sgld import SghmcOptions, SgldOptions, fit_sgld
from jensen.weights.swag import SwagOptions, fit_swag


@dataclass(frozen=True)
class Method:
    """A way to a posterior.

    Attributes:
        options: What it can be told.
        fit: From a problem and options to the posterior; called with torch's generators seeded.
        learns_scales: Whether it can fit the scales of the prior, having a bound on the evidence.
        tunes_scales: Whether it does so unless they are given.
    """

    options: type[Options]
    fit: Callable[[Problem, Any], Posterior]
    learns_scales: bool = False
    tunes_scales: bool = False


METHODS: Registry[Method] = Registry(
    "method",
    {
        "map": Method(MapOptions, fit_map),
        "laplace": Method(LaplaceOptions, fit_laplace, learns_scales=True, tunes_scales=True),
        "sgld": Method(SgldOptions, fit_sgld),
        "sghmc": Method(SghmcOptions, fit_sgld),
        "pbp": Method(PbpOptions, fit_pbp, learns_scales=True, tunes_scales=True),
        "dropout": Method(DropoutOptions, fit_dropout),
        "ensemble": Method(EnsembleOptions, fit_ensemble),
        "swag": Method(SwagOptions, fit_swag),
        "bayes-by-backprop": Method(BackpropOptions, fit_backprop, learns_scales=True),
    },
)
"""The methods by name; each is one file."""

KINDS: Registry[type[Posterior]] = Registry(
    "kind of posterior",
    {
        kind.kind: kind
        for kind in (MembersPosterior, NormalPosterior, DropoutPosterior, LaplacePosterior, PbpPosterior)
    },
)
"""The forms of posteriors that files hold."""


def fit(
    network: nn.Module,
    X: Any,
    y: Any,
    *,
    method: str = "laplace",
    likelihood: str | Likelihood = "auto",
    prior: str = "normal",
    prior_scale: PriorScale | None = None,
    noise_scale: NoiseScale | None = None,
    seed: int = 0,
    on_epoch: Callable[[int, int], None] | None = None,
    **options: Any,
) -> Posterior:
    r"""Fits a posterior over the weights of a network, which is left as it is.

    .. math::
        p(w \mid X, y) \propto p(w) \prod_{i=1}^n p(y_i \mid f_w(x_i))

    Args:
        network: Any module that returns (n, outputs), or (n,), for n data. Frozen parameters keep their values.
        X: Data (n, \*event), on any device; floating point, or integers for embeddings.
        y: Targets: class numbers (n,), or (n,) for one output, (n, outputs) for several.
        method: One of ``METHODS``.
        likelihood: "categorical", "bernoulli", "normal" or "poisson"; "auto" takes whole-number dtypes for classes (one
            output: "bernoulli") and others for numbers with normal noise.
        prior: "normal", "scale-mixture" or "laplace".
        prior_scale: A standard deviation (of a Laplace prior its scale), one by layer as in
            ``{"0": 0.5, "2": 1.0}``, or "learned", one a tensor, by methods that have a bound on the evidence. None:
            "learned" by methods "laplace" and "pbp", else 1.
        noise_scale: Of the normal likelihood: a standard deviation, "learned" (default), or "network".
        seed: Of all that is random; the same seed gives the same posterior on the same machine.
        on_epoch: Called after each epoch of training with the number done and the number planned.
        **options: Of the method, as ``METHODS[method].options`` lists them; "scale-mixture" also takes
            ``mixture_weight`` and ``scale_ratio``.

    Returns:
        The posterior: ``sample``, ``predict``, ``log_prob`` where there is a density, ``update``, ``save``.

    Raises:
        ConfigError: If a name or option doesn't exist or doesn't go with another one, or the network has nothing to
            learn.
        ShapeError: If targets don't fit the outputs, or the data the network.
        DataError: If data or targets hold NaN, or all targets are of one class.
        FitError: If training can't go on.

    Example:
        >>> x = torch.linspace(-1, 1, 20)[:, None]
        >>> posterior = fit(nn.Linear(1, 1), x, 2 * x[:, 0], method="map", noise_scale=0.1, epochs=20)
        >>> posterior.predict(x).mean.shape
        torch.Size([20])
    """
    chosen = METHODS[method]
    mixture = {
        {"scale_ratio": "ratio"}.get(key, key): options.pop(key)
        for key in ("mixture_weight", "scale_ratio")
        if key in options
    }
    parsed = parse(chosen.options, options, method)
    function = FunctionalNetwork(network)
    if prior_scale is None:
        prior_scale = "learned" if chosen.tunes_scales and prior == "normal" else 1.0
    found_prior = priors.prior(prior, function.weights, prior_scale, **mixture)
    if found_prior.learned and not chosen.learns_scales:
        able = [name for name, other in METHODS.items() if other.learns_scales]
        raise ConfigError(
            f"method='{method}' has no bound on the evidence to learn prior_scale by; give a number, or use "
            f"{' or '.join(able)}"
        )
    problem = problem_of(function, X, y, likelihood, noise_scale, found_prior, seed, on_epoch)
    with seeded(seed):
        return chosen.fit(problem, parsed)


def problem_of(
    network: FunctionalNetwork,
    X: Any,
    y: Any,
    likelihood: str | Likelihood,
    noise_scale: NoiseScale | None,
    prior: priors.Prior,
    seed: int = 0,
    on_epoch: Callable[[int, int], None] | None = None,
    *,
    several: bool = True,
) -> Problem:
    """Data, likelihood and prior together, checked; see ``fit``.

    Args:
        network: As a function.
        X: Data.
        y: Targets.
        likelihood: By name, or as a value.
        noise_scale: Of the normal likelihood.
        prior: Of the unknown weights.
        seed: Of all that is random.
        on_epoch: Called after each epoch.
        several: Whether targets of one class are refused; data that come bit by bit may be of one.

    Raises:
        ShapeError: If targets don't fit the outputs, or the data the network.
        DataError: If data or targets hold NaN, or all targets are of one class.
    """
    x = network.inputs(X)
    with torch.no_grad():
        outputs = network({name: value[None] for name, value in network.weights.items()}, x[:1]).shape[-1]
    targets = tensor_of(y, "y")
    if likelihood == "auto":
        likelihood = _suiting(targets, outputs)
    family = likelihoods.likelihood(likelihood, noise_scale)
    checked = family.targets(targets, outputs)
    if len(checked) != len(x):
        raise ShapeError(f"X has {len(x)} data and y {len(checked)} targets; give one target for each datum")
    if several:
        family.trainable(checked)
    checked = checked.to(network.device, network.dtype if checked.is_floating_point() else None)
    return Problem(network, x, checked, family, prior, seed, on_epoch)


def _suiting(y: torch.Tensor, outputs: int) -> str:
    """The likelihood that "auto" takes."""
    if y.is_floating_point():
        return "normal"
    return "bernoulli" if outputs == 1 else "categorical"


def load(folder: str | Path, network: nn.Module | None = None) -> Posterior:
    """Gives back a posterior that ``save`` wrote.

    Args:
        folder: Where.
        network: The network that it was fitted for, of any weights: code isn't kept in files.

    Raises:
        ConfigError: If no network is given.
        ShapeError: If its parameters have other names or shapes.
        RunError: If the folder holds no posterior, or a damaged one.

    Example:
        >>> import tempfile
        >>> x = torch.linspace(-1, 1, 20)[:, None]
        >>> posterior = fit(nn.Linear(1, 1), x, 2 * x[:, 0], method="map", noise_scale=0.1, epochs=20)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     posterior.save(folder)
        ...     again = load(folder, network=nn.Linear(1, 1))
        >>> bool((again.predict(x).mean == posterior.predict(x).mean).all())
        True
    """
    if network is None:
        raise ConfigError(
            "a user's network can't be made again from its file; give it: load(folder, network=net)"
        )
    tensors, about = storage.read(Path(folder))
    try:
        return unpacked(tensors, about, network, folder)
    except KeyError as error:
        raise RunError(f"{folder} holds something else than a posterior over weights ({error})") from None


def unpacked(
    tensors: Mapping[str, torch.Tensor], about: Mapping[str, Any], network: nn.Module, place: str | Path
) -> Posterior:
    """The posterior that ``Posterior.packed`` was taken of, on the network's device.

    Args:
        tensors: By name.
        about: What JSON held.
        network: That it was fitted for, of any weights.
        place: Where they come from, for messages.

    Raises:
        ShapeError: If the network's parameters have other names or shapes.
    """
    parts: dict[str, dict[str, torch.Tensor]] = {"posterior": {}, "prior": {}, "parameter": {}, "buffer": {}}
    for key, value in tensors.items():
        part, _, name = key.partition("/")
        parts[part][name] = value
    function = FunctionalNetwork(network, frozen_too=True)
    matches(function, {name: value.shape for name, value in parts["parameter"].items()}, place)
    device = function.device
    parts = {part: {name: v.to(device) for name, v in values.items()} for part, values in parts.items()}
    function = function.changed(parts["parameter"], about["unknown"], parts["buffer"])
    noise = about.get("noise_scale")
    common = {
        "network": function,
        "likelihood": likelihoods.likelihood(about["likelihood"], noise),
        "prior": priors.restored(parts["prior"], about["prior"]),
        "method": about["method"],
        "options": about["options"],
        "history": about["history"],
    }
    return KINDS[about["kind"]].restored(common, parts["posterior"], about["posterior"])
