from itertools import product
from math import inf

import numpy as np
import pytest
import torch
from hypothesis import given, settings

from inference.graphs import seeds
from jensen.errors import ConfigError, DataError, JensenError, ShapeError, SupportError
from jensen.inference import BayesianNetwork, ConditionalTable, exact_log_z
from testbed import assert_mean


def sprinkler() -> BayesianNetwork:
    return BayesianNetwork(
        {
            "wet": ConditionalTable(
                ["sprinkler", "rain"], [[[1.0, 0.0], [0.2, 0.8]], [[0.1, 0.9], [0.01, 0.99]]]
            ),
            "sprinkler": ConditionalTable(["rain"], [[0.6, 0.4], [0.99, 0.01]]),
            "rain": ConditionalTable([], [0.8, 0.2]),
        }
    )


def alarm() -> BayesianNetwork:
    return BayesianNetwork(
        {
            "burglary": ConditionalTable([], [0.999, 0.001]),
            "earthquake": ConditionalTable([], [0.998, 0.002]),
            "alarm": ConditionalTable(
                ["burglary", "earthquake"], [[[0.999, 0.001], [0.71, 0.29]], [[0.06, 0.94], [0.05, 0.95]]]
            ),
            "john": ConditionalTable(["alarm"], [[0.95, 0.05], [0.1, 0.9]]),
            "mary": ConditionalTable(["alarm"], [[0.99, 0.01], [0.3, 0.7]]),
        }
    )


def test_was_it_the_rain() -> None:
    """By hand: p(rain, wet) = .2 (.01 .99 + .99 .8) and p(dry, wet) = .8 .4 .9."""
    rain, dry = 0.2 * (0.01 * 0.99 + 0.99 * 0.8), 0.8 * 0.4 * 0.9
    assert float(sprinkler().query("rain", {"wet": 1})[1]) == pytest.approx(rain / (rain + dry), rel=1e-13)


def test_the_alarm_rang() -> None:
    """The answer in the textbooks, .284, to more digits."""
    found = alarm().query("burglary", {"john": 1, "mary": 1})
    assert float(found[1]) == pytest.approx(0.2841718, abs=5e-8)
    # Explaining away: an earthquake clears the burglar.
    assert float(alarm().query("burglary", {"john": 1, "mary": 1, "earthquake": 1})[1]) < 0.01


def random_network(seed: int) -> BayesianNetwork:
    rng = np.random.default_rng(seed)
    states = {f"v{i}": int(rng.integers(1, 4)) for i in range(5)}
    tables = {}
    for i, name in enumerate(states):
        parents = [f"v{j}" for j in range(i) if rng.random() < 0.5]
        rows = rng.dirichlet(np.ones(states[name]), [states[p] for p in parents])
        tables[name] = ConditionalTable(parents, rows)
    return BayesianNetwork(dict(reversed(tables.items())))


@settings(deadline=None, max_examples=30)
@given(seeds)
def test_queries_agree_with_all_configurations(seed: int) -> None:
    network = random_network(seed)
    names, states = list(network.tables), [t.probabilities.shape[-1] for t in network.tables.values()]
    table = np.zeros(states)
    for values in product(*(range(n) for n in states)):
        named = dict(zip(names, values, strict=True))
        table[values] = np.prod(
            [
                float(t.probabilities[(*(named[p] for p in t.parents), named[name])])
                for name, t in network.tables.items()
            ]
        )
        assert float(network.log_prob(named).exp()) == pytest.approx(table[values], rel=1e-12)
    assert exact_log_z(network.graph) == pytest.approx(0, abs=1e-12)
    # Names are v4, v3, v2, v1, v0.
    slices = table[:, 0].sum(axis=(1, 2)).T
    np.testing.assert_allclose(
        network.query(["v0", "v4"], {"v3": 0}).numpy(), slices / slices.sum(), rtol=1e-10, atol=1e-14
    )


def test_what_nobody_asks_about_costs_nothing() -> None:
    """Forty children of one coin, each the parent of one table that would be too large with all."""
    tables = {"coin": ConditionalTable([], [0.5, 0.5])}
    tables |= {f"child{i}": ConditionalTable(["coin"], [[0.9, 0.1], [0.2, 0.8]]) for i in range(8)}
    tables["all"] = ConditionalTable([f"child{i}" for i in range(8)], torch.full((2,) * 9, 0.5))
    network = BayesianNetwork(tables)
    found = network.query("coin", {"child3": 1}, largest_table=8)
    assert float(found[1]) == pytest.approx(0.8 / 0.9, rel=1e-13)
    with pytest.raises(ConfigError, match="more than largest_table=8"):
        network.query("all", largest_table=8)


def test_draws_have_the_probabilities() -> None:
    network = sprinkler()
    draws = network.sample(20_000)
    assert list(draws) == list(network.tables)
    for name in network.tables:
        assert_mean(draws[name].double(), network.query(name)[1])
    both = (draws["wet"] * draws["rain"]).double()
    assert_mean(both, network.query(["wet", "rain"])[1, 1])
    # What is impossible is never drawn: wet grass without rain and sprinkler.
    assert not bool(((draws["wet"] == 1) & (draws["rain"] == 0) & (draws["sprinkler"] == 0)).any())


def test_draws_repeat_and_may_be_none() -> None:
    state = torch.get_rng_state()
    first, second, other = (sprinkler().sample(50, seed=seed)["wet"] for seed in (0, 0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    assert torch.equal(state, torch.get_rng_state())
    assert sprinkler().sample(0)["rain"].shape == (0,)


def test_impossible_configurations_have_log_probability_minus_infinity() -> None:
    assert float(sprinkler().log_prob({"wet": 1, "sprinkler": 0, "rain": 0})) == -inf


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: BayesianNetwork(
                {name: ConditionalTable([parent], [[0.5, 0.5]] * 2) for name, parent in ("ab", "bc", "ca")}
            ),
            ConfigError,
            "in a cycle: .* -> ",
        ),
        (
            lambda: BayesianNetwork({"a": ConditionalTable(["b"], [[1.0]])}),
            ConfigError,
            "'a' has the parent: unknown",
        ),
        (
            lambda: BayesianNetwork(
                {"a": ConditionalTable([], [0.5, 0.5]), "b": ConditionalTable(["a"], [[1.0]] * 3)}
            ),
            ShapeError,
            r"have \(2,\) states",
        ),
        (lambda: ConditionalTable(["a"], [0.5, 0.5]), ShapeError, "one axis for each parent"),
        (lambda: ConditionalTable([], [0.5, 0.4]), DataError, "sums to 0.9"),
        (lambda: ConditionalTable([], [1.5, -0.5]), DataError, "negative"),
        (lambda: sprinkler().query("rian"), ConfigError, "did you mean 'rain'"),
        (lambda: sprinkler().query("rain", {"wet": 2}), SupportError, "got 2"),
        (lambda: sprinkler().query("rain", {"we": 2}), ConfigError, "did you mean 'wet'"),
        (
            lambda: sprinkler().query([], {"wet": 1, "sprinkler": 0, "rain": 0}),
            DataError,
            "has probability zero",
        ),
        (lambda: sprinkler().sample(-1), ConfigError, "negative"),
    ],
)
def test_bad_networks_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
