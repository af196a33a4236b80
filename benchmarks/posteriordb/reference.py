"""Thirteen reference posteriors of posteriordb: their data, their draws, and how far other draws are from these.

Only numpy is imported, so that a peer's process doesn't pay for torch. The files lie in ``JENSEN_DATA/posteriordb``:
``data/NAME.json.zip`` and ``draws/NAME-MODEL.json.zip``, from https://github.com/stan-dev/posteriordb (BSD-3-Clause).
"""

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

# The name of the data, and that of the model.
POSTERIORS: dict[str, str] = {
    "eight_schools": "eight_schools_noncentered",
    "kidiq": "kidscore_interaction",
    "earnings": "logearn_interaction",
    "mesquite": "logmesquite",
    "nes1980": "nes",
    "sblrc": "blr",
    "diamonds": "diamonds",
    "arK": "arK",
    "arma": "arma11",
    "garch": "garch11",
    "low_dim_gauss_mix": "low_dim_gauss_mix",
    "hmm_example": "hmm_example",
    "gp_pois_regr": "gp_pois_regr",
}


def folder() -> Path:
    """Where the files lie.

    Raises:
        SystemExit: If they are not there.
    """
    path = Path(os.environ.get("JENSEN_DATA", "")) / "posteriordb"
    if not (path / "draws").is_dir():
        raise SystemExit(
            f"no reference posteriors in {path}: set JENSEN_DATA to the folder that holds posteriordb/"
        )
    return path


def _read(path: Path) -> Any:
    with zipfile.ZipFile(path) as archive:
        return json.loads(archive.read(archive.namelist()[0]))


def read_data(name: str) -> dict[str, Any]:
    """The data of a posterior, with predictors made as its model wants them.

    Args:
        name: A key of ``POSTERIORS``.

    Returns:
        Numbers and float64 arrays; linear regressions have ``x`` (n, k) and ``y`` (n,), arK has its lags as ``x``.
    """
    raw = _read(folder() / "data" / f"{name}.json.zip")
    data: dict[str, Any] = {
        key: np.asarray(value, float) if isinstance(value, list) else value for key, value in raw.items()
    }
    columns: dict[str, Any] = {}
    if name == "kidiq":
        hs, iq = data["mom_hs"], data["mom_iq"]
        columns = {"x": _columns(np.ones_like(hs), hs, iq, hs * iq), "y": data["kid_score"]}
    elif name == "earnings":
        height, male = data["height"], data["male"]
        columns = {
            "x": _columns(np.ones_like(male), height, male, height * male),
            "y": np.log(data["earn"]),
        }
    elif name == "mesquite":
        sizes = [data[key] for key in ("diam1", "diam2", "canopy_height", "total_height", "density")]
        logs = [np.log(size) for size in sizes]
        columns = {"x": _columns(np.ones_like(logs[0]), *logs, data["group"]), "y": np.log(data["weight"])}
    elif name == "nes1980":
        ages = [(data["age_discrete"] == age).astype(float) for age in (2, 3, 4)]
        rest = [data[key] for key in ("educ1", "gender", "income")]
        first = [np.ones_like(rest[0]), data["real_ideo"], data["race_adj"]]
        columns = {"x": _columns(*first, *ages, *rest), "y": data["partyid7"]}
    elif name == "sblrc":
        columns = {"x": data["X"], "y": data["y"]}
    elif name == "diamonds":
        rest = data["X"][:, 1:]
        columns = {"x": rest - rest.mean(0), "y": data["Y"]}
    elif name == "arK":
        y, lags = data["y"], int(data["K"])
        shifted = [y[lags - lag : len(y) - lag] for lag in range(1, lags + 1)]
        columns = {"x": _columns(*shifted), "y": y[lags:]}
    return data | columns


def _columns(*columns: np.ndarray) -> np.ndarray:
    return np.stack(columns, 1)


def read_draws(name: str) -> dict[str, np.ndarray]:
    """The reference's draws of a posterior.

    Returns:
        For each scalar, such as ``"beta[2]"`` (counted from one), an array (10 chains, 1,000).
    """
    chains = _read(folder() / "draws" / f"{name}-{POSTERIORS[name]}.json.zip")
    return {key: np.array([chain[key] for chain in chains]) for key in chains[0]}


def flat(values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Draws of arrays as draws of scalars with the reference's names.

    Args:
        values: For each parameter (draws, *shape) with at most one dimension beside the draws.

    Returns:
        For each scalar (draws,), as in ``"beta[2]"``, counted from one.
    """
    scalars: dict[str, np.ndarray] = {}
    for name, value in values.items():
        array = np.asarray(value, float)
        if array.ndim == 1:
            scalars[name] = array
        else:
            scalars |= {f"{name}[{index + 1}]": array[:, index] for index in range(array.shape[1])}
    return scalars


def to_reference(name: str, draws: dict[str, Any]) -> dict[str, np.ndarray]:
    """Draws of a peer's parameters (draws, *shape) as draws of the reference's scalars."""
    values = {key: np.asarray(value, float) for key, value in draws.items()}
    if name == "eight_schools":
        trans = values.pop("theta_trans")
        values["theta"] = values["mu"][:, None] + values["tau"][:, None] * trans
    if name == "gp_pois_regr":
        x = read_data(name)["x"]
        rho, alpha = values["rho"][:, None, None], values["alpha"][:, None, None]
        kernel = alpha**2 * np.exp(-((x[:, None] - x) ** 2) / (2 * rho**2)) + 1e-10 * np.eye(len(x))
        values["f"] = np.einsum("nij,nj->ni", np.linalg.cholesky(kernel), values.pop("f_tilde"))
    return flat(values)


@dataclass(frozen=True)
class Verdict:
    """How far draws are from the reference, over the posterior's scalars.

    Attributes:
        mean_median: Median distance of means from the reference's in its standard deviations.
        mean_largest: The largest.
        log_sd_median: Median size of log(standard deviation / reference's).
        log_sd_largest: The largest.
    """

    mean_median: float
    mean_largest: float
    log_sd_median: float
    log_sd_largest: float

    @property
    def good(self) -> bool:
        """Whether medians are at most .03 and the largest at most .1."""
        medians = max(self.mean_median, self.log_sd_median)
        return medians <= 0.03 and max(self.mean_largest, self.log_sd_largest) <= 0.1

    def record(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self) | {"good": self.good}


def errors(
    draws: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]
) -> dict[str, tuple[float, float]]:
    """For each scalar of the reference the errors of the mean, in its sds, and of the log standard deviation.

    Args:
        draws: Names of scalars to draws of any shape; all the reference's have to be there.
        reference: Likewise.

    Raises:
        KeyError: If a scalar of the reference has no draws.
    """
    found: dict[str, tuple[float, float]] = {}
    for name, theirs in reference.items():
        ours = draws[name]
        sd = theirs.std()
        found[name] = (float((ours.mean() - theirs.mean()) / sd), float(np.log(ours.std() / sd)))
    return found


def judge(draws: Mapping[str, np.ndarray], reference: Mapping[str, np.ndarray]) -> Verdict:
    """Median and largest errors of means, in reference standard deviations, and of log standard deviations.

    Draws that are not finite are judged infinitely far off.
    """
    table = np.abs(np.array(list(errors(draws, reference).values())))
    table = np.where(np.isnan(table), np.inf, table)
    (mean_median, log_sd_median), (mean_largest, log_sd_largest) = np.median(table, 0), table.max(0)
    return Verdict(float(mean_median), float(mean_largest), float(log_sd_median), float(log_sd_largest))
