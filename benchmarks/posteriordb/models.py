"""The thirteen reference posteriors as log-joints in torch, each written for one point as a user would write it.

``log_joint(parameters) -> scalar`` keeps all constants; densities are on the constrained parameters, without the
log-Jacobian of any transform. The recursions over time of arma, garch and hmm are loops; ``loops=False`` gives the
same densities without a loop.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import log
from typing import Any

import numpy as np
import torch
from reference import POSTERIORS, flat, read_data
from torch import Tensor
from torch.distributions import Beta, Gamma, HalfCauchy, HalfNormal, Normal, Poisson, StudentT
from torch.nn.functional import pad

from jensen.inference import Target, interval, ordered, positive, positive_ordered, real, simplex

Parameters = dict[str, Tensor]
LogJoint = Callable[[Parameters], Tensor]
Data = Mapping[str, Any]


def _sum(*log_densities: Tensor) -> Tensor:
    return torch.stack([density.sum() for density in log_densities]).sum()


def _half_cauchy(value: Tensor, scale: float) -> Tensor:
    return HalfCauchy(_like(scale), validate_args=False).log_prob(value)


def _half_normal(value: Tensor, scale: float) -> Tensor:
    return HalfNormal(_like(scale), validate_args=False).log_prob(value)


def _normal(value: Tensor, loc: Any, scale: Any) -> Tensor:
    return Normal(loc, scale, validate_args=False).log_prob(value)


def _like(value: Any) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)


def eight_schools(data: Data) -> LogJoint:
    """Effects of coaching in eight schools, not centred."""
    y, sigma = _like(data["y"]), _like(data["sigma"])

    def log_joint(p: Parameters) -> Tensor:
        theta = p["mu"] + p["tau"] * p["theta_trans"]
        return _sum(
            _normal(p["theta_trans"], 0.0, 1.0),
            _normal(y, theta, sigma),
            _normal(p["mu"], 0.0, 5.0),
            _half_cauchy(p["tau"], 5.0),
        )

    return log_joint


def linear(data: Data, prior: Callable[[Parameters], list[Tensor]] | None = None) -> LogJoint:
    """Regression: y ~ N(x beta, sigma), flat but for ``prior``."""
    x, y = _like(data["x"]), _like(data["y"])

    def log_joint(p: Parameters) -> Tensor:
        return _sum(_normal(y, x @ p["beta"], p["sigma"]), *([] if prior is None else prior(p)))

    return log_joint


def kidiq(data: Data) -> LogJoint:
    """Children's test scores on their mothers' schooling and IQ."""
    return linear(data, lambda p: [_half_cauchy(p["sigma"], 2.5)])


def sblrc(data: Data) -> LogJoint:
    """A linear regression with strongly correlated columns."""
    return linear(data, lambda p: [_normal(p["beta"], 0.0, 10.0), _half_normal(p["sigma"], 10.0)])


def diamonds(data: Data) -> LogJoint:
    """Log prices of diamonds on 24 centred columns."""
    x, y = _like(data["x"]), _like(data["y"])
    three, ten = _like(3.0), _like(10.0)
    intercept = StudentT(three, _like(8.0), ten, validate_args=False)
    spread = StudentT(three, _like(0.0), ten, validate_args=False)

    def log_joint(p: Parameters) -> Tensor:
        return _sum(
            _normal(y, p["Intercept"] + x @ p["b"], p["sigma"]),
            _normal(p["b"], 0.0, 1.0),
            intercept.log_prob(p["Intercept"]),
            spread.log_prob(p["sigma"]) + log(2),
        )

    return log_joint


def ark(data: Data) -> LogJoint:
    """An autoregression of order five."""
    x, y = _like(data["x"]), _like(data["y"])

    def log_joint(p: Parameters) -> Tensor:
        return _sum(
            _normal(y, p["alpha"] + x @ p["beta"], p["sigma"]),
            _normal(p["alpha"], 0.0, 10.0),
            _normal(p["beta"], 0.0, 10.0),
            _half_cauchy(p["sigma"], 2.5),
        )

    return log_joint


def _filtered(decay: Tensor, inputs: Tensor) -> Tensor:
    """x_t = decay x_{t-1} + inputs_t from x_0 = inputs_0, in log2(T) steps: each doubles the reach."""
    reach = 1
    while reach < len(inputs):
        inputs = inputs + decay * pad(inputs[:-reach], (reach, 0))
        decay, reach = decay * decay, 2 * reach
    return inputs


def arma(data: Data, loops: bool = True) -> LogJoint:
    """An autoregressive moving average of orders one and one."""
    y = _like(data["y"])

    def log_joint(p: Parameters) -> Tensor:
        mu, phi, theta = p["mu"], p["phi"], p["theta"]
        # The error without what is left of the last one.
        fresh = y - mu - phi * torch.cat([mu[None], y[:-1]])
        if loops:
            errors = [fresh[0]]
            for innovation in fresh[1:]:
                errors.append(innovation - theta * errors[-1])
            error = torch.stack(errors)
        else:
            error = _filtered(-theta, fresh)
        return _sum(
            _normal(error, 0.0, p["sigma"]),
            _normal(mu, 0.0, 10.0),
            _normal(phi, 0.0, 2.0),
            _normal(theta, 0.0, 2.0),
            _half_cauchy(p["sigma"], 2.5),
        )

    return log_joint


def garch(data: Data, loops: bool = True) -> LogJoint:
    """Volatility that follows its past; the two coefficients sum to less than one."""
    y, first = _like(data["y"]), _like(data["sigma1"]) ** 2

    def log_joint(p: Parameters) -> Tensor:
        shocks = p["alpha0"] + p["alpha1"] * (y[:-1] - p["mu"]) ** 2
        if loops:
            variances = [first]
            for shock in shocks:
                variances.append(shock + p["beta1"] * variances[-1])
            variance = torch.stack(variances)
        else:
            variance = _filtered(p["beta1"], torch.cat([first[None], shocks]))
        return _normal(y, p["mu"], variance.sqrt()).sum()

    return log_joint


def low_dim_gauss_mix(data: Data) -> LogJoint:
    """A mixture of two normals with ordered locations."""
    y = _like(data["y"])
    share = Beta(_like(5.0), _like(5.0), validate_args=False)

    def log_joint(p: Parameters) -> Tensor:
        theta = p["theta"]
        weights = torch.stack([theta.log(), torch.log1p(-theta)])
        components = weights + _normal(y[:, None], p["mu"], p["sigma"])
        return _sum(
            components.logsumexp(1),
            _normal(p["mu"], 0.0, 2.0),
            _half_normal(p["sigma"], 2.0),
            share.log_prob(theta),
        )

    return log_joint


def hmm_example(data: Data, loops: bool = True) -> LogJoint:
    """A hidden chain of two states, summed out; the forward pass starts with the likelihoods of the first datum."""
    y, locations = _like(data["y"]), _like([3.0, 10.0])

    def log_joint(p: Parameters) -> Tensor:
        # [i, j]: from state i to state j.
        moves = torch.stack([p["theta1"], p["theta2"]]).log()
        emissions = _normal(y[:, None], p["mu"], 1.0)
        if loops:
            forward = emissions[0]
            for emission in emissions[1:]:
                forward = (forward[:, None] + moves).logsumexp(0) + emission
        else:
            forward = (emissions[0][:, None] + _chain(moves + emissions[1:, None])).logsumexp(0)
        return _sum(forward.logsumexp(0), _normal(p["mu"], locations, 1.0))

    return log_joint


def _chain(steps: Tensor) -> Tensor:
    """The product of matrices (T, k, k) in logs, (k, k); neighbours are multiplied at once."""
    while len(steps) > 1:
        pairs = steps[: len(steps) // 2 * 2]
        product = (pairs[0::2, :, :, None] + pairs[1::2, None]).logsumexp(2)
        steps = torch.cat([product, steps[len(pairs) :]])
    return steps[0]


def gp_pois_regr(data: Data) -> LogJoint:
    """Counts with a Gaussian process as their log-rate, not centred."""
    x, k = _like(data["x"]), _like(data["k"])
    square = (x[:, None] - x) ** 2
    jitter = 1e-10 * torch.eye(len(x), dtype=torch.float64)
    length = Gamma(_like(25.0), _like(4.0), validate_args=False)

    def log_joint(p: Parameters) -> Tensor:
        kernel = p["alpha"] ** 2 * torch.exp(-square / (2 * p["rho"] ** 2)) + jitter
        f = torch.linalg.cholesky(kernel) @ p["f_tilde"]
        return _sum(
            Poisson(f.exp(), validate_args=False).log_prob(k),
            length.log_prob(p["rho"]),
            _half_normal(p["alpha"], 2.0),
            _normal(p["f_tilde"], 0.0, 1.0),
        )

    return log_joint


@dataclass(frozen=True)
class Model:
    """One posterior.

    Attributes:
        build: From the data to the log-joint.
        parameters: Name to what jensen calls its kind of parameter.
        loops: Whether ``build`` knows ``loops``.
    """

    build: Callable[..., LogJoint]
    parameters: dict[str, Any]
    loops: bool = False


def _regression(columns: int) -> dict[str, Any]:
    return {"beta": real(columns), "sigma": positive()}


MODELS: dict[str, Model] = {
    "eight_schools": Model(eight_schools, {"theta_trans": real(8), "mu": real(), "tau": positive()}),
    "kidiq": Model(kidiq, _regression(4)),
    "earnings": Model(linear, _regression(4)),
    "mesquite": Model(linear, _regression(7)),
    "nes1980": Model(linear, _regression(9)),
    "sblrc": Model(sblrc, _regression(5)),
    "diamonds": Model(diamonds, {"b": real(24), "Intercept": real(), "sigma": positive()}),
    "arK": Model(ark, {"alpha": real(), "beta": real(5), "sigma": positive()}),
    "arma": Model(arma, {"mu": real(), "phi": real(), "theta": real(), "sigma": positive()}, loops=True),
    "garch": Model(
        garch,
        {
            "mu": real(),
            "alpha0": positive(),
            "alpha1": interval(0, 1),
            "beta1": interval(0, lambda p: 1 - p["alpha1"]),
        },
        loops=True,
    ),
    "low_dim_gauss_mix": Model(
        low_dim_gauss_mix, {"mu": ordered(2), "sigma": positive(2), "theta": interval(0, 1)}
    ),
    "hmm_example": Model(
        hmm_example, {"theta1": simplex(2), "theta2": simplex(2), "mu": positive_ordered(2)}, loops=True
    ),
    "gp_pois_regr": Model(gp_pois_regr, {"rho": positive(), "alpha": positive(), "f_tilde": real(11)}),
}
assert list(MODELS) == list(POSTERIORS)


def log_joint(name: str, loops: bool = True) -> LogJoint:
    """The log-joint of a posterior with its data, for one point."""
    model = MODELS[name]
    return model.build(read_data(name), **({"loops": loops} if model.loops else {}))


def target(name: str, loops: bool = True) -> Target:
    """The posterior as jensen takes it."""
    return Target(log_joint(name, loops), MODELS[name].parameters)


def to_reference(name: str, draws: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Draws of our parameters as draws of the reference's scalars.

    Args:
        name: Of the posterior.
        draws: Parameter to (draws, *shape), constrained.

    Returns:
        Names such as ``"theta[3]"`` to (draws,).
    """
    values = {key: np.asarray(value, float) for key, value in draws.items()}
    if name == "eight_schools":
        theta = values["mu"][:, None] + values["tau"][:, None] * values.pop("theta_trans")
        values = {"theta": theta} | values
    if name == "gp_pois_regr":
        values["f"] = latent_function(values["rho"], values["alpha"], values.pop("f_tilde"))
    return flat(values)


def latent_function(rho: np.ndarray, alpha: np.ndarray, f_tilde: np.ndarray) -> np.ndarray:
    """The log-rates of gp_pois_regr, (draws, 11)."""
    return np.einsum("nij,nj->ni", _kernel_root(rho, alpha), f_tilde)


def from_reference(name: str, draws: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    """The reference's draws as draws of our parameters, (draws, *shape): the inverse of ``to_reference``."""
    values: dict[str, np.ndarray] = {}
    for parameter in dict.fromkeys(key.partition("[")[0] for key in draws):
        columns = [value.reshape(-1) for key, value in draws.items() if key.partition("[")[0] == parameter]
        values[parameter] = columns[0] if f"{parameter}[1]" not in draws else np.stack(columns, 1)
    if name == "eight_schools":
        theta = values.pop("theta")
        values["theta_trans"] = (theta - values["mu"][:, None]) / values["tau"][:, None]
    if name == "gp_pois_regr":
        root = _kernel_root(values["rho"], values["alpha"])
        values["f_tilde"] = np.linalg.solve(root, values.pop("f")[..., None])[..., 0]
    return {key: _like(values[key]) for key in MODELS[name].parameters}


def _kernel_root(rho: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    x = read_data("gp_pois_regr")["x"]
    rho, alpha = rho[:, None, None], alpha[:, None, None]
    kernel = alpha**2 * np.exp(-((x[:, None] - x) ** 2) / (2 * rho**2))
    return np.linalg.cholesky(kernel + 1e-10 * np.eye(len(x)))
