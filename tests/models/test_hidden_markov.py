from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from jensen.errors import DataError, ShapeError, SupportError
from jensen.models.families import (
    CategoricalSymbol,
    Family,
    NormalCells,
    NormalFull,
    NormalWishart,
    PoissonCells,
)
from jensen.models.forward_backward import Smoothed, _in_logarithms, _scaled, forward_backward, viterbi
from jensen.models.hidden_markov import HiddenMarkov, fit_hidden_markov
from jensen.models.sequences import Sequences, padded

K, T = 3, 5
LENGTHS = torch.tensor([5, 3, 1, 4])
GENERATOR = torch.Generator().manual_seed(0)


def random(*shape: int) -> torch.Tensor:
    return torch.rand(shape, generator=GENERATOR, dtype=torch.float64)


START, TRANSITION = random(K).log(), random(K, K).log()
EMISSION = 4 * random(T, 4, K)


def paths(i: int) -> list[tuple[tuple[int, ...], float]]:
    n = int(LENGTHS[i])
    result = []
    for path in product(range(K), repeat=n):
        score = START[path[0]] + sum(EMISSION[t, i, path[t]] for t in range(n))
        score = score + sum(TRANSITION[path[t - 1], path[t]] for t in range(1, n))
        result.append((path, float(score)))
    return result


@pytest.mark.parametrize("method", [_scaled, _in_logarithms])
def test_smoothing_by_enumeration_of_all_paths(method: Callable[..., Smoothed]) -> None:
    mask = torch.arange(T)[:, None] < LENGTHS
    found = method(START, TRANSITION, EMISSION, mask)
    states, transitions = torch.zeros(T, 4, K).double(), torch.zeros(K, K).double()
    for i in range(4):
        logs = np.array([score for _, score in paths(i)])
        total = np.logaddexp.reduce(logs)
        assert float(found.log_prob[i]) == pytest.approx(total, rel=1e-12)
        for path, score in paths(i):
            share = np.exp(score - total)
            for t, state in enumerate(path):
                states[t, i, state] += share
                if t > 0:
                    transitions[path[t - 1], state] += share
    torch.testing.assert_close(found.states, states, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(found.transitions, transitions, rtol=1e-10, atol=1e-12)


def test_viterbi_by_enumeration() -> None:
    path, value = viterbi(START, TRANSITION, EMISSION, LENGTHS)
    for i in range(4):
        best, score = max(paths(i), key=lambda pair: pair[1])
        assert tuple(path[i, : int(LENGTHS[i])].tolist()) == best
        assert float(value[i]) == pytest.approx(score, rel=1e-12)
        assert bool((path[i, int(LENGTHS[i]) :] == -1).all())


def test_impossible_transitions_and_far_observations() -> None:
    # A chain that can only stay, whose second state alone can explain the end: a scaled pass has lost it by then.
    transition = torch.eye(2, dtype=torch.float64).log()
    emission = torch.tensor([[[0.0, -800.0]], [[0.0, 0.0]], [[-2000.0, 0.0]]], dtype=torch.float64)
    half = torch.full((2,), 0.5, dtype=torch.float64).log()
    found = forward_backward(half, transition, emission, torch.tensor([3]))
    assert float(found.log_prob[0]) == pytest.approx(np.log(0.5) - 800, rel=1e-12)
    torch.testing.assert_close(found.states[:, 0, 1], torch.ones(3, dtype=torch.float64))


def made(seed: int = 0, n: int = 30) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sequences = []
    for _ in range(n):
        state, rows = int(rng.integers(2)), []
        for _ in range(int(rng.integers(1, 25))):
            state = 1 - state if rng.random() < 0.2 else state
            rows.append([2 * state + rng.normal(), rng.normal() * (1 + state)])
        sequences.append(rows)
    return padded(sequences)


def fitted(
    family: Family, x: np.ndarray, concentration: float | None = None, **options: Any
) -> tuple[HiddenMarkov, list[float]]:
    model = HiddenMarkov(family, 2, x.shape[1:], concentration)
    settings = {"tolerance": 1e-7, **options}
    steps = fit_hidden_markov(model, Sequences(x), torch.Generator().manual_seed(0), **settings)
    return model, [step.bound * len(x) for step in steps]


COUNTS = np.where(np.isnan(made()[..., 0]), np.nan, np.abs(np.round(made()[..., 0])))


@pytest.mark.parametrize(
    ("family", "x", "concentration"),
    [
        (NormalFull(2), made(), None),
        (NormalCells(2), made(), None),
        (NormalWishart(2), made(), 1.0),
        (NormalCells(2, prior=True), made(), 1.0),
        (PoissonCells(1), COUNTS, None),
        (PoissonCells(1, 1.0), COUNTS, 1.0),
        (CategoricalSymbol(6), COUNTS, None),
        (CategoricalSymbol(6, 0.5), COUNTS, 1.0),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_bound_never_decreases(family: Family, x: np.ndarray, concentration: float | None) -> None:
    model, bounds = fitted(family, x, concentration)
    assert len(bounds) > 2
    assert min(np.diff(bounds)) > -1e-9
    if concentration is None:
        assert float(model.log_prob(torch.from_numpy(x)).sum()) == pytest.approx(bounds[-1], rel=1e-9)
    else:
        assert bounds[-1] < float(model.log_prob(torch.from_numpy(x)).sum())


def test_finds_what_made_the_data() -> None:
    model, _ = fitted(NormalFull(2), made(n=150))
    stay = np.diag(model.transition.numpy())
    # Some 1,800 transitions: a standard error of about 0.02 with known states; states are known in part.
    np.testing.assert_allclose(stay, 0.8, atol=0.12)


def test_one_state_with_priors_is_exact() -> None:
    """With one state there is nothing to sum over: the bound is the evidence of a Dirichlet-categorical."""
    x = np.array([[0.0, 1.0, 1.0, 2.0], [1.0, 1.0, np.nan, np.nan]])
    model = HiddenMarkov(CategoricalSymbol(3, 0.5), 1, (4,), 1.0)
    bounds = [s.bound * 2 for s in fit_hidden_markov(model, Sequences(x), torch.Generator().manual_seed(0))]
    total, counts = 0.0, np.full(3, 0.5)
    for symbol in (0, 1, 1, 2, 1, 1):
        total += np.log(counts[symbol] / counts.sum())
        counts[symbol] += 1
    assert bounds[-1] == pytest.approx(total, rel=1e-12)


def test_a_time_without_observation_is_summed_over() -> None:
    model, _ = fitted(NormalFull(2), made())
    x = torch.from_numpy(made()[:1, :6].copy())
    assert not bool(x.isnan().any())
    x[0, 3] = torch.nan
    start, transition = model.start, model.transition
    density = model.emissions.predictive(model.statistics).log_prob(x[0]).exp()
    alpha = start * density[0]
    for t in range(1, 6):
        alpha = alpha @ transition * (1.0 if t == 3 else density[t])
    assert float(model.log_prob(x)[0]) == pytest.approx(float(alpha.sum().log()), rel=1e-10)
    assert not bool(model.impute(x).isnan().any())


@pytest.mark.parametrize(("family", "concentration"), [(NormalFull(2), None), (NormalWishart(2), 1.0)])
def test_single_cells_may_be_missing(family: Family, concentration: float | None) -> None:
    x = made()
    x[np.random.default_rng(0).random(x.shape) < 0.2] = np.nan
    x = x[~np.isnan(x).all((1, 2))]
    model, bounds = fitted(family, x, concentration)
    assert min(np.diff(bounds)) > -1e-9
    likelihood = float(model.log_prob(torch.from_numpy(x)).sum())
    assert (
        bounds[-1] == pytest.approx(likelihood, rel=1e-9)
        if concentration is None
        else bounds[-1] < likelihood
    )
    seen = ~np.isnan(x)
    filled = model.impute(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(filled[seen], x[seen])
    assert not np.isnan(filled[seen.any(2)]).any()


def test_a_missing_symbol_becomes_the_most_probable_one() -> None:
    """0 and 2 in turn: the mean of what a gap may hold, 1, is a symbol that never comes."""
    x = np.tile([0.0, 2.0], (4, 6))
    x[0, 5], x[1, 6] = np.nan, np.nan
    model, _ = fitted(CategoricalSymbol(3), x)
    filled = model.impute(torch.from_numpy(x))
    assert bool((filled == torch.tensor([0.0, 2.0]).double().repeat(4, 6)).all())
    assert bool((model.expected(model.states(torch.from_numpy(x))) == filled).all())
    with pytest.raises(ShapeError, match=r"\(n, T, 2\)"):
        model.expected(torch.zeros(1, 4, 3))


def test_draws_and_paths_have_their_shapes() -> None:
    x = made()
    model, _ = fitted(NormalFull(2), x)
    assert model.sample(4).shape == (4, *x.shape[1:])
    path, states = model.paths(torch.from_numpy(x)), model.states(torch.from_numpy(x))
    inside = ~np.isnan(x[..., 0])
    assert bool(((path >= 0).numpy() == inside).all())
    np.testing.assert_allclose(states.sum(-1).numpy(), inside.astype(float), atol=1e-12)


def test_bad_sequences() -> None:
    with pytest.raises(DataError, match="length 0"):
        padded([[1.0], []])
    with pytest.raises(DataError, match="length 0"):
        Sequences(np.array([[1.0, 2.0], [np.nan, np.nan]]))
    with pytest.raises(ShapeError, match="same cells"):
        padded([np.zeros((2, 1)), np.zeros((2, 3))])
    model, _ = fitted(NormalFull(2), made())
    with pytest.raises(ShapeError, match="sequences"):
        model.log_prob(torch.zeros(2, 5, dtype=torch.float64))
    symbols = HiddenMarkov(CategoricalSymbol(3), 2, (4,))
    with pytest.raises(SupportError, match=r"symbol 3; .* on 0\.\.2"):
        symbols.log_prob(torch.tensor([[0.0, 1.0, 3.0, torch.nan]], dtype=torch.float64))


def test_sequences_of_length_one() -> None:
    model, bounds = fitted(NormalFull(2), made()[:, :1])
    assert np.isfinite(bounds).all()
    assert model.log_prob(torch.from_numpy(made()[:, :1])).shape == (30,)
