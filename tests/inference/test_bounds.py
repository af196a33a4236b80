from math import inf, log

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from inference.graphs import brute_force, marginals, random_graph, random_tree, seeds, spin_glass
from jensen.errors import ConfigError, DataError, JensenError, ShapeError
from jensen.inference import (
    Factor,
    FactorGraph,
    belief_propagation,
    exact,
    exact_log_z,
    ising_grid,
    ising_log_z,
    mean_field,
    torus_log_z,
    tree_reweighted,
    variational_free_energy,
)

ROUNDING = 1e-9


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_bounds_are_in_order(seed: int) -> None:
    """Also with impossible configurations, and before the messages converged."""
    graph = random_graph(seed, zeros=seed % 3 == 0)
    log_z = exact_log_z(graph)
    lower = mean_field(graph)
    assert lower.lower_bound <= log_z + ROUNDING
    assert bool((lower.history.nan_to_num(neginf=-1e9).diff() >= -ROUNDING).all())
    for iterations in (1, 5, 300):
        assert tree_reweighted(graph, iterations=iterations, trees=3).upper_bound >= log_z - ROUNDING


@pytest.mark.parametrize("graphs", [range(30), pytest.param(range(30, 200), marks=pytest.mark.slow)])
def test_binary_graphs_are_bracketed(graphs: range) -> None:
    """Up to 16 variables, sparse to dense, weak to strong; log Z by adding up the tables of all configurations."""
    for seed in graphs:
        rng = np.random.default_rng(seed)
        count, density = int(rng.integers(2, 17)), rng.uniform(0.1, 0.6)
        names = [f"v{i}" for i in range(count)]
        scores, factors = np.zeros((2,) * count), []
        scopes = [(i, j) for i in range(count) for j in range(i, count) if i == j or rng.random() < density]
        for i, j in scopes:
            shape = (2,) * len({i, j})
            table = rng.choice([0.5, 1.0, 3.0]) * rng.normal(size=shape)
            factors.append(Factor(tuple(dict.fromkeys((names[i], names[j]))), table))
            scores += np.expand_dims(table, [axis for axis in range(count) if axis not in (i, j)])
        graph = FactorGraph(dict.fromkeys(names, 2), factors)
        log_z = float(np.logaddexp.reduce(scores, axis=None))
        assert mean_field(graph).lower_bound <= log_z + ROUNDING
        assert tree_reweighted(graph, iterations=20).upper_bound >= log_z - ROUNDING


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_the_free_energy_is_the_divergence_less_log_z(seed: int) -> None:
    graph = random_graph(seed, largest=3)
    log_z, table = brute_force(graph)
    rng = np.random.default_rng(seed)
    q = {name: rng.dirichlet(np.ones(n)) for name, n in graph.variables.items()}
    product = np.ones(())
    for each in q.values():
        product = product[..., None] * each
    divergence = (product * (np.log(product) - np.log(table))).sum()
    assert float(variational_free_energy(graph, q)) == pytest.approx(divergence - log_z, abs=1e-10)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_mean_field_is_stationary_and_its_bound_is_its_free_energy(seed: int) -> None:
    graph = random_graph(seed, largest=3)
    found = mean_field(graph, tolerance=1e-13, sweeps=5000)
    beliefs = {name: table.numpy() for name, table in found.beliefs.items()}
    assert found.converged
    assert -float(variational_free_energy(graph, beliefs)) == pytest.approx(found.lower_bound, abs=1e-9)
    rng = np.random.default_rng(seed)
    for name, states in graph.variables.items():
        for share in (0.01, 0.3):
            other = (1 - share) * beliefs[name] + share * rng.dirichlet(np.ones(states))
            assert -float(variational_free_energy(graph, beliefs | {name: other})) <= found.lower_bound + 1e-9


def test_independent_variables_leave_no_gap() -> None:
    graph = FactorGraph({"a": 2, "b": 3}, [Factor(("a",), [0.0, 1.0]), Factor(("b",), [0.0, -inf, 2.0])])
    log_z, _ = brute_force(graph)
    assert mean_field(graph).lower_bound == pytest.approx(log_z, abs=1e-13)
    assert tree_reweighted(graph).upper_bound == pytest.approx(log_z, abs=1e-13)
    assert float(mean_field(graph).beliefs["b"][1]) == 0


def test_random_starts_get_out_of_what_is_impossible() -> None:
    """Two coins that must differ: the uniform start lies on a contradiction, and can't choose."""
    differ = FactorGraph({"a": 2, "b": 2}, [Factor(("a", "b"), [[-inf, 0.0], [0.0, -inf]])])
    assert mean_field(differ, restarts=1).lower_bound == -inf
    found = mean_field(differ, restarts=4)
    assert found.lower_bound == pytest.approx(0.0, abs=1e-12)
    assert sorted(found.beliefs["a"].tolist()) == [0.0, 1.0]


def test_mean_field_of_a_ferromagnet_solves_its_equation() -> None:
    """On a torus every spin has four neighbours: m = tanh(4 K m), and the bound is that of one m for all."""
    coupling = 0.4
    found = mean_field(ising_grid(6, 8, coupling=coupling, periodic=True), tolerance=1e-14)
    m = 1.0
    for _ in range(500):
        m = np.tanh(4 * coupling * m)
    p = (1 + m) / 2
    bound = 48 * (2 * coupling * m**2 - p * log(p) - (1 - p) * log(1 - p))
    assert found.lower_bound == pytest.approx(bound, rel=1e-12)
    belief = found.beliefs["3,4"]
    assert abs(float(belief[1] - belief[0])) == pytest.approx(m, rel=1e-6)


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_belief_propagation_is_exact_on_trees(seed: int) -> None:
    graph = random_tree(seed, zeros=seed % 2 == 1)
    log_z, table = brute_force(graph)
    found = belief_propagation(graph)
    assert found.converged
    assert found.log_z_estimate == pytest.approx(log_z, abs=1e-10)
    for name, wanted in zip(graph.names, marginals(table), strict=True):
        np.testing.assert_allclose(found.beliefs[name].numpy(), wanted, atol=1e-10)


@settings(deadline=None, max_examples=15)
@given(seeds)
def test_the_tree_bound_is_exact_on_trees(seed: int) -> None:
    rng = np.random.default_rng(seed)
    states = {f"v{i}": int(rng.integers(1, 4)) for i in range(6)}
    edges = [(f"v{i}", f"v{rng.integers(i)}") for i in range(1, 6)]
    graph = FactorGraph(states, [Factor(ab, rng.normal(0, 2, [states[n] for n in ab])) for ab in edges])
    log_z, table = brute_force(graph)
    found = tree_reweighted(graph, trees=2, tolerance=1e-12)
    assert found.upper_bound == pytest.approx(log_z, abs=1e-9)
    for name, wanted in zip(graph.names, marginals(table), strict=True):
        np.testing.assert_allclose(found.beliefs[name].numpy(), wanted, atol=1e-8)
    assert set(found.edge_probabilities.values()) == {1.0}


def test_belief_propagation_and_the_tree_bound_of_a_cycle_agree_with_their_functionals() -> None:
    """On a cycle of n spins without field all messages say nothing, which gives both in closed form."""
    n, coupling = 5, 0.8
    table = coupling * torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).double()
    cycle = FactorGraph(
        {f"{i}": 2 for i in range(n)}, [Factor((f"{i}", f"{(i + 1) % n}"), table) for i in range(n)]
    )
    bethe = n * (log(2) + log(np.cosh(coupling)))
    assert belief_propagation(cycle).log_z_estimate == pytest.approx(bethe, rel=1e-12)
    found = tree_reweighted(cycle, trees=5)
    rho = 1 - 1 / n
    assert set(np.round(list(found.edge_probabilities.values()), 12)) == {rho}
    assert found.upper_bound == pytest.approx(n * (log(2) + rho * log(np.cosh(coupling / rho))), rel=1e-12)


@pytest.mark.parametrize("widths", [(4, 8), pytest.param((12, 16, 20), marks=pytest.mark.slow)])
def test_strips_are_bracketed_and_added_trees_tighten(widths: tuple[int, ...]) -> None:
    for columns in widths:
        options = spin_glass(4, columns, seed=columns)
        graph, log_z = ising_grid(4, columns, **options), ising_log_z(4, columns, **options)
        upper = tree_reweighted(graph)
        assert upper.converged
        assert mean_field(graph).lower_bound < log_z < upper.upper_bound
        better = tree_reweighted(graph, tree_updates=15).upper_bound
        assert log_z < better < upper.upper_bound
        assert abs(belief_propagation(graph).log_z_estimate - log_z) < upper.upper_bound - log_z


def test_factors_over_one_pair_count_once_as_an_edge() -> None:
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(2, 2, 3))
    twice = FactorGraph(
        {"a": 2, "b": 3}, [Factor(("a", "b"), tables[0]), Factor(("b", "a"), tables[1].T.copy())]
    )
    found = tree_reweighted(twice)
    assert found.upper_bound == pytest.approx(brute_force(twice)[0], abs=1e-9)
    assert found.edge_probabilities == {("a", "b"): 1.0}


def test_extreme_tables_do_not_vanish() -> None:
    """Products of exp(-800) are zero in double precision; in logarithms they are no trouble."""
    table = 400.0 * torch.tensor([[1.0, -1.0], [-1.0, 1.0]])
    chain = FactorGraph(
        {"a": 2, "b": 2, "c": 2},
        [
            Factor(("a", "b"), table),
            Factor(("b", "c"), table),
            Factor(("a",), [900.0, 0.0]),
            Factor(("c",), [0.0, 1200.0]),
        ],
    )
    log_z, table = brute_force(chain)
    assert belief_propagation(chain).log_z_estimate == pytest.approx(log_z, rel=1e-13)
    assert exact(chain).log_z == pytest.approx(log_z, rel=1e-13)
    assert tree_reweighted(chain).upper_bound >= log_z - 1e-9


@pytest.mark.parametrize("coupling", [0.2, 0.5])
def test_a_large_grid_is_bracketed(coupling: float) -> None:
    grid = ising_grid(100, 100, coupling=coupling, periodic=True)
    log_z = torus_log_z(100, 100, coupling=coupling)
    lower = mean_field(grid, restarts=3).lower_bound
    assert lower < log_z < tree_reweighted(grid, trees=8).upper_bound
    # Mean field is good at strong couplings, and belief propagation better than it at any.
    estimate = belief_propagation(grid, tolerance=1e-6).log_z_estimate
    assert abs(estimate - log_z) < 0.6 * (log_z - lower)


def test_seeds_repeat_and_leave_nothing_behind() -> None:
    graph = ising_grid(4, 4, **spin_glass(4, 4, seed=3))
    state = torch.get_rng_state()
    first, second = mean_field(graph, restarts=6, seed=1), mean_field(graph, restarts=6, seed=1)
    assert torch.equal(first.history, second.history)
    assert torch.equal(state, torch.get_rng_state())
    assert tree_reweighted(graph, seed=2).upper_bound == tree_reweighted(graph, seed=2).upper_bound


def test_what_did_not_converge_says_so() -> None:
    graph = ising_grid(5, 5, **spin_glass(5, 5, seed=0))
    assert not mean_field(graph, sweeps=1).converged
    assert not belief_propagation(graph, iterations=2).converged
    found = tree_reweighted(graph, iterations=2)
    assert not found.converged
    assert found.residual > 1e-7


@pytest.mark.parametrize("solve", [mean_field, belief_propagation, tree_reweighted])
def test_an_empty_graph_and_one_without_factors(solve) -> None:
    bounds = {
        "MeanField": "lower_bound",
        "BeliefPropagation": "log_z_estimate",
        "TreeReweighted": "upper_bound",
    }
    for variables, log_z in (({}, 0.0), ({"a": 2, "b": 3}, log(6))):
        found = solve(FactorGraph(variables))
        assert getattr(found, bounds[type(found).__name__]) == pytest.approx(log_z, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda g: mean_field(g, restarts=0), ConfigError, "at least one start"),
        (lambda g: belief_propagation(g, damping=1.0), ConfigError, "less than 1"),
        (lambda g: tree_reweighted(g, trees=0), ConfigError, "at least one iteration and one tree"),
        (lambda g: variational_free_energy(g, {"a": [0.5, 0.5]}), ConfigError, "for the variable 'b'"),
        (lambda g: variational_free_energy(g, {"a": [1.0], "b": [1.0]}), ShapeError, "'a' has 2 states"),
        (lambda g: variational_free_energy(g, {"a": [2.0, -1.0], "b": [0.5, 0.5]}), DataError, "negative"),
        (lambda g: variational_free_energy(g, {"c": [1.0]}), ConfigError, "unknown variable 'c'"),
        (
            lambda g: tree_reweighted(
                FactorGraph({"a": 2, "b": 2, "c": 2}, [Factor(tuple("abc"), torch.zeros(2, 2, 2))])
            ),
            ConfigError,
            "a factor has 3 variables",
        ),
        (
            lambda g: belief_propagation(
                FactorGraph({"a": 2}, [Factor(("a",), [0.0, -inf]), Factor(("a",), [-inf, 0.0])])
            ),
            DataError,
            "contradict",
        ),
    ],
)
def test_bad_options_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call(FactorGraph({"a": 2, "b": 2}, [Factor(("a", "b"), torch.zeros(2, 2))]))
