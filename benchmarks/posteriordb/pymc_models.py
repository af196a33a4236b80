"""Ten of the reference posteriors in PyMC's words; arma, garch and hmm_example are not here."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pymc as pm
import pytensor.tensor as pt
from reference import read_data, to_reference

__all__ = ["MODELS", "PARAMETERS", "model", "to_reference"]


def _regression(data: dict[str, Any], beta: Callable[[int], Any], sigma: Callable[[], Any]) -> None:
    coefficients, scale = beta(data["x"].shape[1]), sigma()
    pm.Normal("y", pm.math.dot(data["x"], coefficients), scale, observed=data["y"])


def _flat_beta(columns: int) -> Any:
    return pm.Flat("beta", shape=columns)


def eight_schools(data: dict[str, Any]) -> None:
    mu, tau = pm.Normal("mu", 0, 5), pm.HalfCauchy("tau", 5)
    trans = pm.Normal("theta_trans", 0, 1, shape=8)
    pm.Normal("y", mu + tau * trans, data["sigma"], observed=data["y"])


def kidiq(data: dict[str, Any]) -> None:
    _regression(data, _flat_beta, lambda: pm.HalfCauchy("sigma", 2.5))


def flat_regression(data: dict[str, Any]) -> None:
    _regression(data, _flat_beta, lambda: pm.HalfFlat("sigma"))


def sblrc(data: dict[str, Any]) -> None:
    _regression(
        data, lambda columns: pm.Normal("beta", 0, 10, shape=columns), lambda: pm.HalfNormal("sigma", 10)
    )


def diamonds(data: dict[str, Any]) -> None:
    b = pm.Normal("b", 0, 1, shape=24)
    intercept = pm.StudentT("Intercept", nu=3, mu=8, sigma=10)
    sigma = pm.HalfStudentT("sigma", nu=3, sigma=10)
    pm.Normal("y", intercept + pm.math.dot(data["x"], b), sigma, observed=data["y"])


def ark(data: dict[str, Any]) -> None:
    alpha, beta = pm.Normal("alpha", 0, 10), pm.Normal("beta", 0, 10, shape=5)
    sigma = pm.HalfCauchy("sigma", 2.5)
    pm.Normal("y", alpha + pm.math.dot(data["x"], beta), sigma, observed=data["y"])


def low_dim_gauss_mix(data: dict[str, Any]) -> None:
    ordered = pm.distributions.transforms.ordered
    mu = pm.Normal("mu", 0, 2, shape=2, transform=ordered, initval=np.array([-1.0, 1.0]))
    sigma, theta = pm.HalfNormal("sigma", 2, shape=2), pm.Beta("theta", 5, 5)
    pm.NormalMixture("y", pt.stack([theta, 1 - theta]), mu, sigma=sigma, observed=data["y"])


def gp_pois_regr(data: dict[str, Any]) -> None:
    square = (data["x"][:, None] - data["x"]) ** 2
    rho, alpha = pm.Gamma("rho", alpha=25, beta=4), pm.HalfNormal("alpha", 2)
    f_tilde = pm.Normal("f_tilde", 0, 1, shape=11)
    kernel = alpha**2 * pt.exp(-square / (2 * rho**2)) + 1e-10 * np.eye(11)
    pm.Poisson("k", pt.exp(pt.linalg.cholesky(kernel) @ f_tilde), observed=data["k"])


MODELS: dict[str, Callable[[dict[str, Any]], None]] = {
    "eight_schools": eight_schools,
    "kidiq": kidiq,
    "earnings": flat_regression,
    "mesquite": flat_regression,
    "nes1980": flat_regression,
    "sblrc": sblrc,
    "diamonds": diamonds,
    "arK": ark,
    "low_dim_gauss_mix": low_dim_gauss_mix,
    "gp_pois_regr": gp_pois_regr,
}

PARAMETERS: dict[str, list[str]] = {
    "eight_schools": ["mu", "tau", "theta_trans"],
    "kidiq": ["beta", "sigma"],
    "earnings": ["beta", "sigma"],
    "mesquite": ["beta", "sigma"],
    "nes1980": ["beta", "sigma"],
    "sblrc": ["beta", "sigma"],
    "diamonds": ["b", "Intercept", "sigma"],
    "arK": ["alpha", "beta", "sigma"],
    "low_dim_gauss_mix": ["mu", "sigma", "theta"],
    "gp_pois_regr": ["rho", "alpha", "f_tilde"],
}


def model(name: str) -> pm.Model:
    """The model of a posterior with its data.

    Raises:
        SystemExit: If it isn't written in PyMC here.
    """
    if name not in MODELS:
        raise SystemExit(f"{name} is not written in PyMC here")
    with pm.Model() as made:
        MODELS[name](read_data(name))
    return made
