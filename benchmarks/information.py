"""Mutual information, entropy and divergence from samples: error against closed forms, and speed.

Run with ``python benchmarks/information.py``; it writes ``benchmarks/results/information.json`` and prints tables in
Markdown. The peer is scikit-learn's ``mutual_info_regression``, the same estimator for one column each.
"""

import argparse
import statistics
from math import e, log, pi, sqrt

import numpy as np
from sklearn.feature_selection import mutual_info_regression

from common import in_turn, keep, ratio, timed
from jensen.information import entropy_from_samples, kl_from_samples, mutual_information_from_samples

RHO = 0.6


def errors(sizes: list[int], dimensions: list[int], repeats: int) -> list[dict]:
    """Bias and spread over repetitions, in nats, for correlated normals."""
    rows = []
    for n in sizes:
        for d in dimensions:
            found: dict[str, list[float]] = {"entropy": [], "divergence": [], "ksg1": [], "ksg2": []}
            for seed in range(repeats):
                x, noise, other = np.random.default_rng(seed).normal(size=(3, n, d))
                y = RHO * x + sqrt(1 - RHO**2) * noise
                found["entropy"].append(float(entropy_from_samples(x)) - 0.5 * d * log(2 * pi * e))
                divergence = float(kl_from_samples(x + 0.5, other))
                found["divergence"].append(divergence - d * 0.125)
                for method in ("ksg1", "ksg2"):
                    information = float(mutual_information_from_samples(x, y, method=method))
                    found[method].append(information + 0.5 * d * log(1 - RHO**2))
            row = {"n": n, "dimensions": d}
            for name, values in found.items():
                row |= {f"{name} bias": statistics.fmean(values), f"{name} spread": statistics.stdev(values)}
            rows.append(row)
    return rows


def speed(sizes: list[int], rounds: int) -> list[dict]:
    """Seconds for one pair of columns, and the median of the ratios."""
    rows = []
    for n in sizes:
        x, noise = np.random.default_rng(0).normal(size=(2, n))
        y = RHO * x + sqrt(1 - RHO**2) * noise
        times = in_turn(
            {
                "jensen": lambda x=x, y=y: timed(lambda: mutual_information_from_samples(x, y)),
                "scikit-learn": lambda x=x, y=y: timed(lambda: mutual_info_regression(x[:, None], y)),
            },
            rounds,
        )
        medians = {name: statistics.median(values) for name, values in times.items()}
        rows.append({"n": n, **medians, "times as fast": ratio(times, "scikit-learn", "jensen")})
    return rows


def table(rows: list[dict]) -> str:
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---:|" * len(rows[0])]
    lines += ["| " + " | ".join(f"{value:.4g}" for value in row.values()) + " |" for row in rows]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    found = {
        "errors": errors([300, 3000], [1, 3, 10], arguments.repeats),
        "speed": speed([1000, 10_000, 50_000], arguments.rounds),
    }
    keep("information", {"rho": RHO, "neighbours": 3, **vars(arguments), **found})
    print(table(found["errors"]), "\n")
    print(table(found["speed"]))


if __name__ == "__main__":
    main()
