"""Bounds on log Z of a large Ising grid: how long they take and how tight they are.

Run with ``python benchmarks/factor_graphs.py``; it writes ``benchmarks/results/factor_graphs.json`` and prints two
tables in Markdown. Times are medians over rounds in which all methods take turns, on one thread. There is no peer: the
mean field sweep is held against a loop over spins in plain Python, which makes the same updates of the same grid and
computes the same bound. Where the grid is periodic and without a field the exact log Z is known, and so is the gap of
every bound.
"""

import argparse
import statistics
from collections.abc import Callable
from math import log, tanh

import torch

from common import in_turn, keep, timed
from jensen.inference import (
    FactorGraph,
    belief_propagation,
    ising_grid,
    mean_field,
    torus_log_z,
    tree_reweighted,
)

COUPLINGS = (0.2, 0.3, 0.4, 0.5)
SWEEPS_BY_HAND = 3


def random_grid(size: int) -> FactorGraph:
    """Couplings and fields of both signs."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return 0.5 * torch.randn(shape, generator=generator, dtype=torch.float64)

    return ising_grid(
        size, size, coupling=(normal(size, size - 1), normal(size - 1, size)), field=normal(size, size)
    )


def by_hand(size: int) -> float:
    """Seconds that a sweep with its bound takes in a loop over the spins of the same grid."""
    grid = random_grid(size)
    pairs, single = grid.groups
    strength, field = pairs.log_tables[:, 0, 0].tolist(), single.log_tables[:, 1].tolist()
    ends = pairs.variables.tolist()
    near: list[list[tuple[int, float]]] = [[] for _ in field]
    for (a, b), j in zip(ends, strength, strict=True):
        near[a].append((b, j))
        near[b].append((a, j))
    mean = [0.1] * len(field)

    def sweeps() -> None:
        for _ in range(SWEEPS_BY_HAND):
            for spin, around in enumerate(near):
                mean[spin] = tanh(field[spin] + sum(j * mean[other] for other, j in around))
            bound = sum(j * mean[a] * mean[b] for (a, b), j in zip(ends, strength, strict=True))
            bound += sum(h * m for h, m in zip(field, mean, strict=True))
            for m in mean:
                p, q = (1 + m) / 2, (1 - m) / 2
                bound -= (p * log(p) if p > 0 else 0.0) + (q * log(q) if q > 0 else 0.0)

    return timed(sweeps) / SWEEPS_BY_HAND


def speed(size: int, rounds: int) -> dict:
    """Seconds of each method on each grid, medians."""
    grids = {f"coupling {k}": ising_grid(size, size, coupling=k, periodic=True) for k in COUPLINGS}
    grids["random couplings and fields"] = random_grid(size)
    methods: dict[str, Callable[[FactorGraph], object]] = {
        "mean field, 3 starts": lambda grid: mean_field(grid, restarts=3),
        "belief propagation": lambda grid: belief_propagation(grid, tolerance=1e-6),
        "tree-reweighted": lambda grid: tree_reweighted(grid, tolerance=1e-5),
    }
    found = {}
    for name, grid in grids.items():
        contenders = {
            method: (lambda grid=grid, solve=solve: timed(lambda: solve(grid)))
            for method, solve in methods.items()
        }
        found[name] = {
            method: statistics.median(times) for method, times in in_turn(contenders, rounds).items()
        }
    grid = grids["random couplings and fields"]
    sweep = in_turn(
        {
            "jensen": lambda: (
                timed(lambda: mean_field(random_grid(size), restarts=1, sweeps=50, tolerance=0.0)) / 50
            ),
            "loop over spins": lambda: by_hand(size),
        },
        rounds,
    )
    return {
        "seconds": found,
        "seconds a sweep": {name: statistics.median(times) for name, times in sweep.items()},
    }


def gaps(size: int) -> dict:
    """Nats a spin that each method is off on a periodic grid."""
    found = {}
    for coupling in COUPLINGS:
        grid, exact = (
            ising_grid(size, size, coupling=coupling, periodic=True),
            torus_log_z(size, size, coupling=coupling),
        )
        values = {
            "mean field": mean_field(grid, restarts=3).lower_bound,
            "belief propagation": belief_propagation(grid, tolerance=1e-6).log_z_estimate,
            "tree-reweighted": tree_reweighted(grid).upper_bound,
        }
        found[f"coupling {coupling}"] = {name: (value - exact) / size**2 for name, value in values.items()}
    return found


def table(title: str, rows: dict[str, dict[str, float]], form: str) -> str:
    names = list(next(iter(rows.values())))
    lines = [f"| {title} | {' | '.join(names)} |", "|---|" + "---:|" * len(names)]
    lines += [
        f"| {row} | {' | '.join(form.format(value) for value in values.values())} |"
        for row, values in rows.items()
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=100, help="spins on a side")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    times, off = speed(arguments.size, arguments.rounds), gaps(arguments.size)
    keep("factor_graphs", {"size": arguments.size, "rounds": arguments.rounds, **times, "nats a spin": off})
    print(table("seconds", times["seconds"], "{:.2f}"), "\n")
    print(table("nats a spin above the exact log Z", off, "{:+.4f}"), "\n")
    sweep = times["seconds a sweep"]
    print(f"one sweep: {1e3 * sweep['jensen']:.1f} ms, in a loop {1e3 * sweep['loop over spins']:.1f} ms")


if __name__ == "__main__":
    main()
