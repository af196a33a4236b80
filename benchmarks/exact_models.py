"""Speed of the exact models beside scikit-learn's and hmmlearn's, on the same data, threads and float64.

Run it with the peers' Python; hmmlearn is measured where it is installed. By default the sizes are small; ``--full``
takes those of the targets.
"""

import argparse
import statistics
import warnings
from collections.abc import Callable
from itertools import islice
from typing import Any

import numpy as np
import torch
from sklearn.decomposition import PCA
from sklearn.mixture import BayesianGaussianMixture
from sklearn.mixture import GaussianMixture as PeerMixture

import jensen as jn
from common import in_turn, keep, kept, ratio, timed
from jensen.models.families import Dirichlet, Family, NormalFull, NormalWishart, WeightFamily, Weights
from jensen.models.hidden_markov import HiddenMarkov, fit_hidden_markov
from jensen.models.mixture import Mixture
from jensen.models.mixture_solver import Settings, bound_and_statistics, climb
from jensen.models.rows import Rows
from jensen.models.sequences import Sequences

TARGETS = {"ppca": 1.0, "cavi": 3.0, "em": 3.0, "hmm, log": 3.0, "hmm, scaling": 1.0}


def ppca(n: int, d: int, rounds: int) -> dict[str, Any]:
    """Seconds of fit and score; scikit-learn's fastest solver for such data is the covariance's."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 20)) @ rng.normal(size=(20, d)) + rng.normal(size=(n, d))
    fits: dict[str, Any] = {
        "jensen": jn.PPCA(10),
        "scikit-learn, covariance_eigh": PCA(10, svd_solver="covariance_eigh"),
        "scikit-learn, randomized": PCA(10, svd_solver="randomized", random_state=0),
    }
    scores: dict[str, float] = {}

    def work(name: str) -> Callable[[], float]:
        def run() -> None:
            scores[name] = float(fits[name].fit(x).score(x))

        return lambda: timed(run)

    figures = in_turn({name: work(name) for name in fits}, rounds)
    return summary(figures, {"n": n, "d": d, "mean_log_likelihood": scores})


def mixtures(n: int, d: int, k: int, iterations: int, rounds: int) -> dict[str, Any]:
    """Seconds an iteration from starts of each library's own, and the bound that both posteriors reach."""
    rng = np.random.default_rng(0)
    x = 3 * rng.normal(size=(k, d))[rng.integers(0, k, n)] + rng.normal(size=(n, d))
    result: dict[str, Any] = {}
    pairs: dict[str, tuple[Callable[[], Family], WeightFamily, Any]] = {
        "cavi": (
            lambda: NormalWishart(d),
            Dirichlet(),
            BayesianGaussianMixture(
                n_components=k,
                weight_concentration_prior_type="dirichlet_distribution",
                reg_covar=0,
                random_state=0,
            ),
        ),
        "em": (lambda: NormalFull(d), Weights(), PeerMixture(n_components=k, reg_covar=0, random_state=0)),
    }
    for name, (family, weights, peer) in pairs.items():
        # Differences of two lengths leave out the start, which the libraries do differently.
        def ours(count: int, family: Any = family, weights: Any = weights) -> float:
            mixture = Mixture(family(), weights, k, (d,))
            steps = climb(mixture, Rows(x), Settings(tolerance=-1e300), torch.Generator().manual_seed(0))
            return timed(lambda: list(islice(steps, count)))

        def theirs(count: int, peer: Any = peer) -> float:
            peer.set_params(max_iter=count, tol=0, init_params="random")
            return timed(lambda: peer.fit(x))

        racing = {
            "jensen": lambda ours=ours: (ours(1 + iterations) - ours(1)) / iterations,
            "scikit-learn": lambda theirs=theirs: (theirs(1 + iterations) - theirs(1)) / iterations,
        }
        figures = in_turn(racing, rounds)
        result[name] = summary(
            figures, {"n": n, "d": d, "k": k, "whole fit": _whole(name, peer, x, k, rounds)}
        )
    return result


def _whole(name: str, peer: Any, x: Any, k: int, rounds: int) -> dict[str, Any]:
    """Seconds of fits with each library's defaults, the best of jensen's five starts against scikit-learn's k-means."""
    peer.set_params(max_iter=200, tol=1e-3, init_params="kmeans")
    mine = jn.GaussianMixture(k, name, random_state=0)
    fits = {"jensen": mine, "scikit-learn": peer}
    work = {which: lambda which=which: timed(lambda: fits[which].fit(x)) for which in fits}
    iterations = {"jensen": lambda: mine.n_iter_, "scikit-learn": lambda: int(peer.n_iter_)}
    figures = in_turn(work, rounds)
    return summary(
        figures,
        {
            "iterations": {which: count() for which, count in iterations.items()},
            **_judged(mine.run_.model, peer, x),
        },
    )


def _judged(mixture: Mixture, peer: Any, x: Any) -> dict[str, float]:
    """One bound with all constants for both: of the statistics that each one's final responsibilities have."""
    shares = torch.from_numpy(peer.predict_proba(x))
    theirs = sum(
        share.T @ mixture.components.features(torch.from_numpy(some)).T
        for share, some in zip(
            shares.split(10_000), np.array_split(x, range(10_000, len(x), 10_000)), strict=True
        )
    )
    values = []
    for statistics_ in (mixture.statistics.data, theirs):
        bound, _ = bound_and_statistics(
            mixture.components, mixture.weight_family, torch.as_tensor(statistics_)[None], Rows(x)
        )
        values.append(float(bound) / len(x))
    return {"bound_a_datum_jensen": values[0], "bound_a_datum_scikit_learn": values[1]}


def hmm(n: int, steps: int, d: int, k: int, rounds: int) -> dict[str, Any] | None:
    """Seconds of one EM iteration, from the same parameters; the likelihoods of both."""
    try:
        from hmmlearn.hmm import GaussianHMM
    except ImportError:
        print("hmmlearn is not installed here and is not measured; see benchmarks/README.md")
        return None
    rng = np.random.default_rng(0)
    x = 2 * rng.normal(size=(k, d))[rng.integers(0, k, (n, steps))] + rng.normal(size=(n, steps, d))
    model = HiddenMarkov(NormalFull(d), k, (steps, d))
    found = fit_hidden_markov(
        model, Sequences(x), torch.Generator().manual_seed(0), iterations=3, tolerance=-1e300
    )
    for _ in found:
        pass
    predictive = model.emissions.predictive(model.statistics.data)
    flat, lengths = x.reshape(-1, d), [steps] * n

    def peer(implementation: str) -> Any:
        other = GaussianHMM(
            n_components=k,
            covariance_type="full",
            n_iter=1,
            tol=-1e300,
            init_params="",
            implementation=implementation,
            min_covar=0,
        )
        other.startprob_, other.transmat_ = model.start.numpy(), model.transition.numpy()
        other.means_, other.covars_ = predictive.mean.numpy(), np.asarray(predictive.covariance)
        return other

    def ours() -> float:
        from jensen.models.hidden_markov import _pass

        state = (model.statistics.data, model.starts.data, model.transitions.data)
        return timed(lambda: _pass(model, Sequences(x), state))

    figures = in_turn(
        {
            "jensen": ours,
            "hmmlearn, log": lambda: timed(lambda: peer("log").fit(flat, lengths)),
            "hmmlearn, scaling": lambda: timed(lambda: peer("scaling").fit(flat, lengths)),
        },
        rounds,
    )
    mine = float(model.log_prob(torch.from_numpy(x)).sum())
    return summary(
        figures,
        {
            "sequences": n,
            "length": steps,
            "d": d,
            "k": k,
            "log_likelihood": mine,
            "relative_difference_to_hmmlearn": abs(peer("scaling").score(flat, lengths) / mine - 1),
        },
    )


def summary(figures: dict[str, list[float]], facts: dict[str, Any]) -> dict[str, Any]:
    """Medians in seconds, and how many times faster jensen is than each peer."""
    return {
        **facts,
        "seconds": {name: statistics.median(values) for name, values in figures.items()},
        "times_faster": {name: ratio(figures, name, "jensen") for name in figures if name != "jensen"},
        "figures": figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--full", action="store_true", help="the sizes of the targets")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--only", choices=("ppca", "mixtures", "hmm"), help="one part; the others' results stay"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    warnings.filterwarnings("ignore", message=".*converge.*")
    if args.full:
        sizes: tuple[Any, ...] = ((60_000, 784), (200_000, 16, 20, 5), (2_000, 500, 4, 10))
    else:
        sizes = ((10_000, 784), (20_000, 16, 20, 5), (200, 500, 4, 10))
    found = kept("exact_models")
    result = (
        found if found.get("full") == args.full and args.only else {"targets": TARGETS, "full": args.full}
    )
    parts: dict[str, Callable[[], Any]] = {
        "ppca": lambda: ppca(*sizes[0], args.rounds),
        "mixtures": lambda: mixtures(*sizes[1], args.rounds),
        "hmm": lambda: hmm(*sizes[2], args.rounds),
    }
    for name, measure in parts.items():
        if args.only in (None, name):
            result[name] = measure()
            print(keep("exact_models", result), name, flush=True)
            several = result[name] if name == "mixtures" else {name: result[name]}
            for kind, part in several.items():
                if part is not None:
                    print(kind, part["seconds"], part["times_faster"], part.get("whole fit", ""))


if __name__ == "__main__":
    main()
