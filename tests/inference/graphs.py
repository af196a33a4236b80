"""Small factor graphs with answers by brute force, made apart from what is tested."""

from itertools import product

import numpy as np
import torch
from hypothesis import strategies as st

from jensen.inference import Factor, FactorGraph


def brute_force(graph: FactorGraph) -> tuple[float, np.ndarray]:
    """Log Z, and the normalised table of all configurations, from the list of factors."""
    states = list(graph.variables.values())
    scores = np.zeros(states)
    for values in product(*(range(n) for n in states)):
        named = dict(zip(graph.names, values, strict=True))
        for factor in graph.factors:
            scores[values] += float(factor.log_table[tuple(named[name] for name in factor.variables)])
    top = scores.max()
    weights = np.exp(scores - top)
    return float(top + np.log(weights.sum())), weights / weights.sum()


def marginals(table: np.ndarray) -> list[np.ndarray]:
    return [table.sum(axis=tuple(a for a in range(table.ndim) if a != axis)) for axis in range(table.ndim)]


def random_graph(
    seed: int, *, largest: int = 2, zeros: bool = False, variables: int | None = None
) -> FactorGraph:
    """Up to five variables of up to three states and up to seven factors of up to so many of them."""
    rng = np.random.default_rng(seed)
    count = variables or int(rng.integers(1, 6))
    graph = {f"v{i}": int(rng.integers(1, 4)) for i in range(count)}
    names, allowed = list(graph), {name: int(rng.integers(n)) for name, n in graph.items()}
    factors = []
    for _ in range(int(rng.integers(1, 8))):
        scope = [names[i] for i in rng.permutation(count)[: rng.integers(1, largest + 1)]]
        table = rng.normal(0, 2, [graph[name] for name in scope])
        if zeros:
            # One configuration is always possible.
            drop = rng.random(table.shape) < 0.3
            drop[tuple(allowed[name] for name in scope)] = False
            table[drop] = -np.inf
        factors.append(Factor(scope, table))
    return FactorGraph(graph, factors)


def random_tree(seed: int, *, zeros: bool = False) -> FactorGraph:
    """Seven variables: triples, pairs and single ones without a cycle, in two parts."""
    rng = np.random.default_rng(seed)
    graph = {name: int(rng.integers(1, 4)) for name in "abcdefg"}
    factors = []
    for scope in (("b", "a", "c"), ("d", "c"), ("c", "e"), ("d",), ("g", "f"), ("a",)):
        table = rng.normal(0, 2, [graph[name] for name in scope])
        if zeros:
            drop = rng.random(table.shape) < 0.3
            drop[(0,) * table.ndim] = False
            table[drop] = -np.inf
        factors.append(Factor(scope, table))
    return FactorGraph(graph, factors)


def spin_glass(rows: int, columns: int, seed: int, strength: float = 0.7) -> dict:
    """Options of an Ising grid with random couplings and fields."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> torch.Tensor:
        return strength * torch.randn(shape, generator=generator, dtype=torch.float64)

    return {
        "coupling": (normal(rows, columns - 1), normal(rows - 1, columns)),
        "field": normal(rows, columns),
    }


seeds = st.integers(0, 10_000)
