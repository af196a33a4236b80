from math import inf

import numpy as np
import pytest
from hypothesis import given, settings

from inference.graphs import brute_force, marginals, random_graph, seeds, spin_glass
from jensen.errors import ConfigError, DataError, JensenError
from jensen.inference import Factor, FactorGraph, exact, exact_log_z, ising_grid, ising_log_z, query


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_log_z_and_marginals_are_those_of_all_configurations(seed: int) -> None:
    graph = random_graph(seed, largest=3, zeros=seed % 2 == 1)
    log_z, table = brute_force(graph)
    found = exact(graph)
    assert found.log_z == pytest.approx(log_z, abs=1e-11)
    assert exact_log_z(graph) == pytest.approx(log_z, abs=1e-11)
    for name, wanted in zip(graph.names, marginals(table), strict=True):
        np.testing.assert_allclose(found.beliefs[name].numpy(), wanted, atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(seeds)
def test_queries_are_slices_of_the_table_of_all_configurations(seed: int) -> None:
    graph = random_graph(seed, largest=3, variables=4)
    _, table = brute_force(graph)
    joint = table[:, graph.variables["v1"] - 1].sum(1).T
    found = query(graph, ["v3", "v0"], {"v1": graph.variables["v1"] - 1})
    np.testing.assert_allclose(found.numpy(), joint / joint.sum(), rtol=1e-10, atol=1e-14)


def test_a_grid_agrees_with_the_transfer_matrix() -> None:
    options = spin_glass(12, 6, seed=0)
    assert exact_log_z(ising_grid(12, 6, **options)) == pytest.approx(
        ising_log_z(12, 6, **options), rel=1e-13
    )


def test_marginals_of_a_grid_are_derivatives_by_the_field() -> None:
    options, step = spin_glass(4, 4, seed=1), 1e-5
    up, down = options["field"].clone(), options["field"].clone()
    up[2, 1] += step
    down[2, 1] -= step
    slope = (
        ising_log_z(4, 4, coupling=options["coupling"], field=up)
        - ising_log_z(4, 4, coupling=options["coupling"], field=down)
    ) / (2 * step)
    belief = exact(ising_grid(4, 4, **options)).beliefs["2,1"]
    # Rounding of log Z, 1e-15 times ten, over the step; the third derivative is below 2.
    assert float(belief[1] - belief[0]) == pytest.approx(slope, abs=5e-9)


def test_a_long_chain_costs_little() -> None:
    log_z = exact_log_z(ising_grid(1000, 1, coupling=0.4), largest_table=4)
    assert log_z == pytest.approx(np.log(2) + 999 * np.log(2 * np.cosh(0.4)), rel=1e-12)


def test_asking_for_nothing_gives_one() -> None:
    assert float(query(FactorGraph({"a": 2}), [])) == 1
    assert exact_log_z(FactorGraph({})) == 0


def test_contradictions_have_no_marginals_but_a_log_z() -> None:
    never = FactorGraph({"a": 2}, [Factor(("a",), [0.0, -inf]), Factor(("a",), [-inf, 0.0])])
    assert exact_log_z(never) == -inf
    with pytest.raises(DataError, match="every configuration is impossible"):
        exact(never)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: exact_log_z(ising_grid(40, 40, coupling=0.4)),
            ConfigError,
            r"more than largest_table=16777216",
        ),
        (lambda: exact(ising_grid(4, 4, coupling=0.4), largest_table=8), ConfigError, "use mean_field"),
        (
            lambda: query(
                FactorGraph({"a": 2, "b": 2}, [Factor(("a", "b"), [[0.0, -inf], [0.0, -inf]])]), "a", {"b": 1}
            ),
            DataError,
            "evidence {'b': 1} has probability zero",
        ),
        (lambda: query(FactorGraph({"a": 2}), "a", {"a": 1}), ConfigError, "'a' is asked for twice"),
        (lambda: query(FactorGraph({"a": 2}), ["a", "a"]), ConfigError, "'a' is asked for twice"),
        (lambda: query(FactorGraph({"a": 2}), "b"), ConfigError, "unknown variable 'b'"),
    ],
)
def test_what_has_no_answer_is_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def test_large_tables_are_refused_before_any_work() -> None:
    graph = FactorGraph({f"v{i}": 2 for i in range(40)}, [])
    assert query(graph, "v3").tolist() == pytest.approx([0.5, 0.5])
    with pytest.raises(ConfigError, match="table over 40 variables"):
        query(graph, list(graph.names))
