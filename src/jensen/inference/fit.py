"""Variational inference on a user's own log-joint: one function, a registry of methods."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from inspect import signature
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jensen.errors import ConfigError, FitError, unknown
from jensen.garbage import older_set_aside
from jensen.inference.automatic import around, automatic
from jensen.inference.factorised import FAMILIES as BESIDE_SITES
from jensen.inference.factorised import factorised
from jensen.inference.families import FullRank, LowRank, MeanField
from jensen.inference.families.family import Family
from jensen.inference.fitted import POOL, Fit, judged
from jensen.inference.fixed import fit_fixed, linear_response
from jensen.inference.found import Found
from jensen.inference.pathfinder import pathfinder
from jensen.inference.start import find_modes, left_out, others
from jensen.inference.stein import stein
from jensen.inference.stochastic_methods import FAMILIES, GRADIENTS, climbed, flow, mixture
from jensen.inference.target import Target
from jensen.registry import Registry

Starts = Float[Tensor, "starts dim"]


@dataclass(frozen=True)
class Method:
    """A way to a posterior.

    Attributes:
        run: Called with the target, starting points (starts, dim), the seed by name, and options by name.
        weighted: Whether draws are resampled by importance weights unless the user says otherwise.
    """

    run: Callable[..., Found]
    weighted: bool

    @property
    def options(self) -> list[str]:
        """Names of what it takes beyond target, starts and seed."""
        return [name for name in signature(self.run).parameters if name not in _GIVEN]


_GIVEN = {"target", "starts", "seed", "family", "gradient"}


def mean_field(
    target: Target,
    starts: Starts,
    *,
    draws: int = 64,
    linear_response: bool = False,
    seed: int | None = 0,
) -> Found:
    """Independent normals in the target's own coordinates, with fixed draws.

    Args:
        target: A differentiable one.
        starts: (starts, dim).
        draws: Fixed draws, even.
        linear_response: Give the normal its linear-response covariances; else it is too narrow where parameters are
            correlated, as the mean field is.
        seed: Of the draws.
    """
    modes, notes = around(target, starts, draws, seed)
    family = MeanField.around(modes[0].point, modes[0].independent_scale)
    fitted = fit_fixed(target, family, draws=draws, seed=seed)
    q: Family = _linear_response(target, fitted) if linear_response else fitted.family
    return Found(q(None), None, fitted.history, (*notes, *others(modes)), tuple(modes), left_out(modes))


_linear_response = linear_response


def full_rank(target: Target, starts: Starts, *, draws: int | None = None, seed: int | None = 0) -> Found:
    """A normal with any covariance, with fixed draws: eight times as many as coordinates, at least 64.

    Args:
        target: A differentiable one.
        starts: (starts, dim).
        draws: Fixed draws, even; with few of them a full covariance overfits.
        seed: Of the draws.
    """
    modes, notes = around(target, starts, 64, seed)
    family = FullRank.around(modes[0].point, modes[0].scale_tril)
    fitted = fit_fixed(target, family, draws=draws, seed=seed)
    notes += others(modes)
    return Found(fitted.family(None), None, fitted.history, tuple(notes), tuple(modes), left_out(modes))


def low_rank(
    target: Target, starts: Starts, *, rank: int = 2, draws: int | None = None, seed: int | None = 0
) -> Found:
    """A normal whose covariance is a diagonal and a few directions, with fixed draws.

    Args:
        target: A differentiable one.
        starts: (starts, dim).
        rank: Directions.
        draws: Fixed draws, even; None takes 64 or eight times as many as coordinates.
        seed: Of the draws.
    """
    modes, notes = around(target, starts, 64, seed)
    family = LowRank.around(modes[0].point, modes[0].independent_scale, rank=rank)
    draws = draws or max(64, 8 * family.noise_dim)
    fitted = fit_fixed(target, family, draws=draws, seed=seed)
    notes += others(modes)
    return Found(fitted.family(None), None, fitted.history, tuple(notes), tuple(modes), left_out(modes))


def laplace(target: Target, starts: Starts, *, seed: int | None = 0) -> Found:
    """The normal at the heaviest mode whose precision is the negative Hessian there.

    Args:
        target: A differentiable one.
        starts: (starts, dim).
        seed: Of nothing: no draws are needed.

    Raises:
        FitError: If no mode is found, or the Hessian isn't negative definite there.
    """
    modes, trouble = find_modes(target, starts)
    if not modes:
        raise FitError(f"Laplace's approximation needs a mode: {trouble}; use method='auto'")
    if not modes[0].definite:
        raise FitError(
            "Laplace's approximation needs a negative definite Hessian at the mode, and there are flat directions: "
            "give proper priors, or use method='auto'"
        )
    q = FullRank.around(modes[0].point, modes[0].scale_tril)
    return Found(q(None), None, (modes[0].log_mass,), tuple(others(modes)), tuple(modes), left_out(modes))


METHODS: Registry[Method] = Registry(
    "method",
    {
        "auto": Method(automatic, weighted=True),
        "mean-field": Method(mean_field, weighted=False),
        "full-rank": Method(full_rank, weighted=False),
        "low-rank": Method(low_rank, weighted=False),
        "mixture": Method(mixture, weighted=False),
        "flow": Method(flow, weighted=True),
        "laplace": Method(laplace, weighted=False),
        "pathfinder": Method(pathfinder, weighted=True),
        "stein": Method(stein, weighted=False),
    },
)
"""Methods of ``fit`` by their names."""


def fit(
    target: Target,
    method: str | nn.Module = "auto",
    *,
    gradient: str | None = None,
    init: Mapping[str, Any] | None = None,
    starts: int = 4,
    weighted: bool | None = None,
    pool: int = POOL,
    seed: int | None = 0,
    **options: Any,
) -> Fit:
    r"""A posterior of a log-joint, with what is known of how good it is.

    .. math:: \log p(x) \ge E_q[\log p(x, \theta) - \log q(\theta)]

    Args:
        target: The log-joint with its parameters.
        method: A name in ``METHODS``, or a posterior of one's own: a module that gives a distribution over the
            unconstrained coordinates (dim,) for the context None. Beside discrete parameters that the target keeps,
            "auto", "mean-field", "full-rank", "low-rank", "flow" or one's own are for the others, and the discrete ones
            get independent probabilities.
        gradient: "fixed" for fixed draws and second-order steps, "pathwise" or "score" for stochastic gradients, with
            ``batch_size`` on minibatches; "score" asks nothing of the log-joint but its value. None: fixed draws where
            the method has them, else path-wise.
        init: Values of all parameters to start from, but those that are summed over, or several of each, along a
            first dimension; None starts from several random points, so that a second mode is noticed.
        starts: How many of these.
        weighted: Resample draws by smoothed importance weights; None: if the method's promise is the posterior
            itself ("auto") rather than a member of a named family.
        pool: Draws that judge the fit.
        seed: Of all randomness.
        **options: Of the method.

    Returns:
        Draws, bound, evidence, k-hat and words.

    Raises:
        ConfigError: If the method or an option is unknown.
        FitError: If the log-joint can't be used; the message says why.

    Source: Automatic differentiation variational inference, 2017, https://jmlr.org/papers/v18/16-107.html;
    Black Box Variational Inference with a Deterministic Objective, 2024, https://jmlr.org/papers/v25/23-1015.html;
    Pareto smoothed importance sampling, 2024, https://www.jmlr.org/papers/v25/19-556.html.

    Example:
        >>> import jensen as jn
        >>> target = jn.inference.Target(lambda p: -0.5 * (p["x"] - 3) ** 2, {"x": jn.inference.real()})
        >>> posterior = jn.inference.fit(target)
        >>> round(float(posterior.evidence), 6)  # log sqrt(2 pi)
        0.918939
    """
    chosen, label = _chosen(target, method, gradient)
    for name in options:
        if name == "batch_size" and name not in chosen.options:
            raise ConfigError(
                f"the method '{label}' takes all rows at every step; beside batch_size give gradient='pathwise' "
                "or 'score'"
            )
        if name not in chosen.options:
            raise ConfigError(unknown(f"option of the method '{label}'", name, chosen.options))
    if starts < 1 or pool < 200:
        raise ConfigError(f"fit needs starts >= 1 and pool >= 200, got {starts} and {pool}")
    if weighted and label == "stein":
        raise ConfigError("particles have no density to weigh by; leave weighted out, or take another method")
    resampled = chosen.weighted if weighted is None else weighted
    with older_set_aside():
        found = chosen.run(target, starting_points(target, init, starts, seed), seed=seed, **options)
        return judged(
            target, label, found, weighted=resampled, pool=pool, seed=None if seed is None else seed + 1
        )


STOCHASTIC_ONLY = ("mixture", "flow")
"""Methods that have stochastic gradients alone."""

FULL_DIM = 15
"""With stochastic gradients "auto" is a normal with any covariance up to so many dimensions, else the mean field."""


def _chosen(target: Target, method: str | nn.Module, gradient: str | None) -> tuple[Method, str]:
    """How to run a method with a gradient, and what the method is called."""
    if not isinstance(method, str | nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(
            f"method is a name or a posterior, a torch module that gives a distribution for None; got {method!r}"
        )
    if target.sites is not None:
        return _beside_sites(target, method, gradient)
    if isinstance(method, nn.Module) and gradient == "fixed":
        raise ConfigError(
            "a posterior of one's own is fitted by stochastic gradients; leave gradient out, or give 'score'"
        )
    if isinstance(method, nn.Module):
        run = partial(climbed, family=method, gradient=gradient or "pathwise")
        return Method(run, weighted=False), type(method).__name__
    chosen = METHODS[method]
    if gradient is None or (gradient == "fixed" and method not in (*STOCHASTIC_ONLY, "pathfinder", "stein")):
        return chosen, method
    if gradient not in ("fixed", *GRADIENTS):
        raise ConfigError(unknown("gradient", gradient, ("fixed", *GRADIENTS)))
    if method == "auto":
        family = "full-rank" if target.dim <= FULL_DIM else "mean-field"
        return Method(partial(climbed, family=family, gradient=gradient), weighted=False), family
    if method not in FAMILIES or gradient == "fixed":
        raise ConfigError(f"the method '{method}' doesn't take gradient='{gradient}'; leave gradient out")
    return Method(partial(climbed, family=method, gradient=gradient), weighted=chosen.weighted), method


def _beside_sites(target: Target, method: str | nn.Module, gradient: str | None) -> tuple[Method, str]:
    """The same for a target that keeps discrete parameters: a family for the others, times categoricals."""
    assert target.sites is not None
    if isinstance(method, str) and method != "auto" and method not in BESIDE_SITES:
        METHODS[method]
        raise target.sites.refusal(f"the method '{method}'")
    if gradient == "fixed":
        raise target.sites.refusal("gradient='fixed'")
    found = Method(partial(factorised, family=method, gradient=gradient), weighted=False)
    if not target.continuous:
        return found, "categorical"
    if isinstance(method, nn.Module):
        return found, f"{type(method).__name__} and categoricals"
    if method == "auto":
        method = "full-rank" if target.continuous <= FULL_DIM else "mean-field"
    return found, f"{method} and categoricals"


def starting_points(target: Target, init: Mapping[str, Any] | None, starts: int, seed: int | None) -> Starts:
    """Where a fit starts: at given values, or at random points.

    Args:
        target: The log-joint.
        init: Values of all parameters, or None.
        starts: Random points.
        seed: Of these.

    Raises:
        FitError: If the log-joint isn't finite there.
    """
    if init is None:
        return target.starting_points(starts, seed)
    if not isinstance(init, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise ConfigError(f"init is a dict with a value of each parameter, got {type(init).__name__}")
    points = target.unconstrain(init).reshape(-1, target.dim)
    values = target.plain_log_prob(points)
    wrong = values[~torch.isfinite(values)]
    if len(wrong):
        raise FitError(f"the log-joint is {float(wrong[0])} at init; give values where it is finite")
    return points
