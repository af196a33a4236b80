from math import inf

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from inference.graphs import brute_force, random_graph, seeds
from jensen.errors import ConfigError, DataError, JensenError, ShapeError, SupportError
from jensen.inference import Factor, FactorGraph, enumerated_log_z, ising_grid


def pair() -> FactorGraph:
    return FactorGraph(
        {"first": 2, "second": 3},
        [Factor(("first", "second"), torch.arange(6.0).reshape(2, 3)), Factor(("second",), [0.0, -inf, 1.0])],
    )


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_scores_are_those_of_the_table(seed: int) -> None:
    graph = random_graph(seed, largest=3, zeros=True)
    log_z, table = brute_force(graph)
    every = torch.tensor(list(np.ndindex(*table.shape)))
    scores = graph.log_score(every).exp().reshape(table.shape)
    np.testing.assert_allclose(scores.numpy() / np.exp(log_z), table, rtol=1e-11, atol=1e-300)
    assert enumerated_log_z(graph) == pytest.approx(log_z, abs=1e-12)


@settings(deadline=None, max_examples=20)
@given(seeds)
def test_conditioning_takes_a_slice(seed: int) -> None:
    graph = random_graph(seed, largest=3)
    log_z, table = brute_force(graph)
    observed = {name: n - 1 for name, n in list(graph.variables.items())[::2]}
    part = table[tuple(observed.get(name, slice(None)) for name in graph.names)].sum()
    rest = graph.condition(observed)
    assert set(rest.names) == set(graph.names) - set(observed)
    assert enumerated_log_z(rest) == pytest.approx(log_z + np.log(part), abs=1e-10)


def test_conditioning_on_everything_gives_the_score() -> None:
    values = {"first": 1, "second": 2}
    assert pair().condition(values).log_constant == float(pair().log_score(values)) == 6.0
    assert pair().condition({"second": 1}).log_constant == -inf
    graph = pair()
    assert graph.condition({}) is graph


def test_factors_come_back_and_constants_count() -> None:
    graph = FactorGraph({"a": 2}, [Factor((), 1.5), Factor((), 0.5), Factor(("a",), [0.0, 0.0])])
    assert graph.log_constant == 2.0
    again = FactorGraph(graph.variables, graph.factors)
    assert enumerated_log_z(again) == pytest.approx(2 + np.log(2))


def test_a_variable_that_nobody_mentions_is_uniform() -> None:
    assert enumerated_log_z(FactorGraph({"a": 2, "alone": 5}, [Factor(("a",), [0.0, 0.0])])) == pytest.approx(
        np.log(10)
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: FactorGraph({"rain": 2}, [Factor(("rian",), [0.0, 0.0])]),
            ConfigError,
            "did you mean 'rain'",
        ),
        (lambda: FactorGraph({"a": 2}, [Factor(("a",), [0.0] * 3)]), ShapeError, r"have \(2,\) states"),
        (lambda: FactorGraph({"a": 0}), ConfigError, "'a' has 0 states"),
        (lambda: Factor(("a", "b"), [0.0, 0.0]), ShapeError, "one axis for each of its 2 variables"),
        (lambda: Factor(("a", "a"), [[0.0, 0.0]] * 2), ConfigError, "named twice"),
        (lambda: Factor(("a",), [0.0, float("nan")]), DataError, "NaN"),
        (lambda: Factor(("a",), [0.0, inf]), DataError, r"\+inf"),
        (lambda: Factor(("a",), [-inf, -inf]), DataError, "zero everywhere"),
        (lambda: Factor.from_table(("a",), [0.5, -0.5]), DataError, "negative number -0.5"),
        (lambda: pair().condition({"first": 2}), SupportError, r"states 0\.\.1; got 2"),
        (lambda: pair().condition({"secnd": 0}), ConfigError, "did you mean 'second'"),
        (lambda: pair().log_score({"first": 0}), ConfigError, "no state is given for the variable 'second'"),
        (lambda: pair().log_score(torch.tensor([[0, 3]])), SupportError, "less than its variable's"),
        (lambda: ising_grid(40, 40, coupling=0.1).index(["1;2"]), ConfigError, "1600 variables in all"),
        (lambda: enumerated_log_z(ising_grid(9, 9, coupling=0.1)), ConfigError, "use exact_log_z"),
    ],
)
def test_bad_graphs_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
