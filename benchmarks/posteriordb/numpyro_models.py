"""The thirteen reference posteriors in NumPyro's words: the same densities, loops over time as ``lax.scan``."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpyro
from jax import lax
from jax.scipy.special import logsumexp
from numpyro import distributions as dist
from numpyro.distributions import constraints
from reference import read_data, to_reference


def _flat(name: str, support: Any, shape: tuple[int, ...] = ()) -> Any:
    improper = dist.ImproperUniform(support, (), event_shape=shape)
    return numpyro.sample(name, improper)


def _regression(data: dict[str, Any], beta: Callable[[int], Any], sigma: Callable[[], Any]) -> None:
    x = jnp.asarray(data["x"])
    coefficients, scale = beta(x.shape[1]), sigma()
    numpyro.sample("y", dist.Normal(x @ coefficients, scale), obs=jnp.asarray(data["y"]))


def _flat_beta(columns: int) -> Any:
    return _flat("beta", constraints.real_vector, (columns,))


def _flat_sigma() -> Any:
    return _flat("sigma", constraints.positive)


def eight_schools(data: dict[str, Any]) -> None:
    mu = numpyro.sample("mu", dist.Normal(0, 5))
    tau = numpyro.sample("tau", dist.HalfCauchy(5))
    theta_trans = numpyro.sample("theta_trans", dist.Normal(0, 1).expand([8]).to_event(1))
    theta = mu + tau * theta_trans
    numpyro.sample("y", dist.Normal(theta, jnp.asarray(data["sigma"])), obs=jnp.asarray(data["y"]))


def kidiq(data: dict[str, Any]) -> None:
    _regression(data, _flat_beta, lambda: numpyro.sample("sigma", dist.HalfCauchy(2.5)))


def flat_regression(data: dict[str, Any]) -> None:
    _regression(data, _flat_beta, _flat_sigma)


def sblrc(data: dict[str, Any]) -> None:
    _regression(
        data,
        lambda columns: numpyro.sample("beta", dist.Normal(0, 10).expand([columns]).to_event(1)),
        lambda: numpyro.sample("sigma", dist.HalfNormal(10)),
    )


def diamonds(data: dict[str, Any]) -> None:
    x = jnp.asarray(data["x"])
    b = numpyro.sample("b", dist.Normal(0, 1).expand([24]).to_event(1))
    intercept = numpyro.sample("Intercept", dist.StudentT(3, 8, 10))
    sigma = numpyro.sample("sigma", dist.FoldedDistribution(dist.StudentT(3, 0, 10)))
    numpyro.sample("y", dist.Normal(intercept + x @ b, sigma), obs=jnp.asarray(data["y"]))


def ark(data: dict[str, Any]) -> None:
    alpha = numpyro.sample("alpha", dist.Normal(0, 10))
    beta = numpyro.sample("beta", dist.Normal(0, 10).expand([5]).to_event(1))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    x = jnp.asarray(data["x"])
    numpyro.sample("y", dist.Normal(alpha + x @ beta, sigma), obs=jnp.asarray(data["y"]))


def arma(data: dict[str, Any]) -> None:
    y = jnp.asarray(data["y"])
    mu = numpyro.sample("mu", dist.Normal(0, 10))
    phi = numpyro.sample("phi", dist.Normal(0, 2))
    theta = numpyro.sample("theta", dist.Normal(0, 2))
    sigma = numpyro.sample("sigma", dist.HalfCauchy(2.5))
    first = y[0] - (mu + phi * mu)

    def step(error: Any, pair: Any) -> Any:
        before, now = pair
        error = now - (mu + phi * before + theta * error)
        return error, error

    _, rest = lax.scan(step, first, (y[:-1], y[1:]))
    error = jnp.concatenate([first[None], rest])
    numpyro.factor("errors", dist.Normal(0, sigma).log_prob(error).sum())


def garch(data: dict[str, Any]) -> None:
    y = jnp.asarray(data["y"])
    mu = _flat("mu", constraints.real)
    alpha0 = _flat("alpha0", constraints.positive)
    alpha1 = _flat("alpha1", constraints.unit_interval)
    beta1 = _flat("beta1", constraints.interval(0.0, 1.0 - alpha1))

    def step(variance: Any, before: Any) -> Any:
        variance = alpha0 + alpha1 * (before - mu) ** 2 + beta1 * variance
        return variance, variance

    first = jnp.asarray(data["sigma1"]) ** 2
    _, rest = lax.scan(step, first, y[:-1])
    variance = jnp.concatenate([first[None], rest])
    numpyro.sample("y", dist.Normal(mu, jnp.sqrt(variance)), obs=y)


def low_dim_gauss_mix(data: dict[str, Any]) -> None:
    mu = _flat("mu", constraints.ordered_vector, (2,))
    numpyro.factor("prior_mu", dist.Normal(0, 2).log_prob(mu).sum())
    sigma = numpyro.sample("sigma", dist.HalfNormal(2).expand([2]).to_event(1))
    theta = numpyro.sample("theta", dist.Beta(5, 5))
    weights = jnp.stack([jnp.log(theta), jnp.log1p(-theta)])
    y = jnp.asarray(data["y"])
    numpyro.factor("y", logsumexp(weights + dist.Normal(mu, sigma).log_prob(y[:, None]), 1).sum())


def hmm_example(data: dict[str, Any]) -> None:
    theta1 = _flat("theta1", constraints.simplex, (2,))
    theta2 = _flat("theta2", constraints.simplex, (2,))
    mu = _flat("mu", constraints.positive_ordered_vector, (2,))
    numpyro.factor("prior_mu", dist.Normal(jnp.array([3.0, 10.0]), 1).log_prob(mu).sum())
    emissions = dist.Normal(mu, 1).log_prob(jnp.asarray(data["y"])[:, None])
    moves = jnp.log(jnp.stack([theta1, theta2]))

    def step(forward: Any, emission: Any) -> Any:
        return logsumexp(forward[:, None] + moves, 0) + emission, None

    forward, _ = lax.scan(step, emissions[0], emissions[1:])
    numpyro.factor("y", logsumexp(forward))


def gp_pois_regr(data: dict[str, Any]) -> None:
    x = jnp.asarray(data["x"])
    rho = numpyro.sample("rho", dist.Gamma(25, 4))
    alpha = numpyro.sample("alpha", dist.HalfNormal(2))
    f_tilde = numpyro.sample("f_tilde", dist.Normal(0, 1).expand([11]).to_event(1))
    kernel = alpha**2 * jnp.exp(-((x[:, None] - x) ** 2) / (2 * rho**2)) + 1e-10 * jnp.eye(11)
    f = jnp.linalg.cholesky(kernel) @ f_tilde
    numpyro.sample("k", dist.Poisson(jnp.exp(f)), obs=jnp.asarray(data["k"]))


__all__ = ["MODELS", "read_data", "to_reference"]

MODELS: dict[str, Callable[[dict[str, Any]], None]] = {
    "eight_schools": eight_schools,
    "kidiq": kidiq,
    "earnings": flat_regression,
    "mesquite": flat_regression,
    "nes1980": flat_regression,
    "sblrc": sblrc,
    "diamonds": diamonds,
    "arK": ark,
    "arma": arma,
    "garch": garch,
    "low_dim_gauss_mix": low_dim_gauss_mix,
    "hmm_example": hmm_example,
    "gp_pois_regr": gp_pois_regr,
}
