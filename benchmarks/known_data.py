"""Mixtures on known data, beside scikit-learn's from as many starts and beside published values.

Run with JENSEN_DATA set. Likelihoods are maxima found, nats for all data, each computed by scipy's normal from the
parameters; bounds of variational Bayes are judged by one function with all constants.
"""

import argparse
import csv
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from sklearn.datasets import load_iris
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as PeerMixture

import jensen as jn
from common import keep
from jensen.data import data_folders
from jensen.models.families import Dirichlet, NormalWishart
from jensen.models.mixture_solver import bound_and_statistics
from jensen.models.rows import Rows

PUBLISHED = {("iris", "full", 3): -180.1858, ("iris", "tied", 3): -256.3547, ("iris", "diag", 3): -307.1808}
"""Log-likelihoods of mclust and Mplus, as the tests of tidyLPA hold them (github.com/data-edu/tidyLPA)."""


def data() -> dict[str, np.ndarray]:
    """Old Faithful (272 x 2), the velocities of galaxies in 1,000 km/s (82 x 1), iris (150 x 4)."""
    found = {"iris": load_iris().data}
    for name, file, columns, unit in (
        ("faithful", "datasets__faithful.csv", ("eruptions", "waiting"), 1.0),
        ("galaxies", "MASS__galaxies.csv", ("dat",), 1000.0),
    ):
        paths = [folder / "small" / file for folder in data_folders()]
        path = next((path for path in paths if path.exists()), None)
        if path is None:
            print(f"{file} isn't in JENSEN_DATA's folder small and is left out")
            continue
        with path.open(encoding="utf8", newline="") as lines:
            rows = list(csv.DictReader(lines))
        found[name] = np.array([[float(row[column]) / unit for column in columns] for row in rows])
    return found


def likelihood(x: np.ndarray, weights: Any, means: Any, covariances: Any) -> float:
    """Log-likelihood of a mixture's parameters, by scipy."""
    parts = [
        np.log(w) + multivariate_normal(m, c, allow_singular=True).logpdf(x)
        for w, m, c in zip(weights, means, covariances, strict=True)
        if w > 0
    ]
    return float(logsumexp(parts, axis=0).sum())


def dense(peer: Any, k: int, d: int) -> np.ndarray:
    """scikit-learn's covariances as K matrices."""
    shapes: dict[str, Callable[[Any], np.ndarray]] = {
        "full": lambda c: c,
        "tied": lambda c: np.broadcast_to(c, (k, d, d)),
        "diag": lambda c: np.stack([np.diag(row) for row in c]),
        "spherical": lambda c: c[:, None, None] * np.eye(d),
    }
    return shapes[peer.covariance_type](peer.covariances_)


def maxima(x: np.ndarray, covariance: str, k: int, starts: int) -> dict[str, float]:
    """Highest likelihoods found from as many starts; scikit-learn with the floor of its default."""
    ours = jn.GaussianMixture(
        k, "em", covariance_type=covariance, n_init=starts, tol=1e-9, max_iter=5000, random_state=0
    ).fit(x)
    peer = PeerMixture(
        k, covariance_type=covariance, n_init=starts, tol=1e-9, max_iter=5000, random_state=0
    ).fit(x)
    return {
        "jensen": likelihood(x, ours.weights_, ours.means_, ours.covariances_),
        "scikit-learn": likelihood(x, peer.weights_, peer.means_, dense(peer, k, x.shape[1])),
    }


def bounds(x: np.ndarray, k: int, starts: int) -> dict[str, float]:
    """Bounds on the log evidence with scikit-learn's priors, one function for both."""
    ours = jn.GaussianMixture(k, n_init=starts, tol=1e-10, max_iter=5000, random_state=0).fit(x)
    peer = BayesianGaussianMixture(
        n_components=k,
        weight_concentration_prior_type="dirichlet_distribution",
        n_init=starts,
        tol=1e-10,
        max_iter=5000,
        reg_covar=0,
        random_state=0,
        covariance_prior=np.atleast_2d(np.cov(x.T, bias=True)),
    ).fit(x)
    model = ours.run_.model
    assert isinstance(model.components, NormalWishart)
    assert isinstance(model.weight_family, Dirichlet)
    features = model.components.features(torch.from_numpy(x))
    theirs = torch.from_numpy(peer.predict_proba(x)).T @ features.T
    judged = [
        float(bound_and_statistics(model.components, model.weight_family, given[None], Rows(x))[0])
        for given in (model.statistics.data, theirs)
    ]
    return {"jensen": judged[0], "scikit-learn": judged[1]}


def main() -> None:
    """Reads the arguments, measures, writes, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=20)
    starts = parser.parse_args().starts
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore", message=".*converge.*")
    rows: list[dict[str, Any]] = []
    for name, x in data().items():
        for k in (2, 3, 4, 6):
            for covariance in ("full", "tied", "diag", "spherical") if x.shape[1] > 1 else ("full", "tied"):
                value = PUBLISHED.get((name, covariance, k))
                found = maxima(x, covariance, k, starts)
                rows.append({"data": name, "k": k, "what": covariance, **found, "published": value})
            rows.append({"data": name, "k": k, "what": "bound", **bounds(x, k, starts), "published": None})
    keep("known_data", {"starts": starts, "rows": rows})
    print("| data | K | | jensen | scikit-learn | published |\n|---|---:|---|---:|---:|---:|")
    for row in rows:
        published = "" if row["published"] is None else f"{row['published']:.3f}"
        print(
            f"| {row['data']} | {row['k']} | {row['what']} | {row['jensen']:.3f} | {row['scikit-learn']:.3f} "
            f"| {published} |"
        )


if __name__ == "__main__":
    main()
