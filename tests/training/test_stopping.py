import math

import pytest
import torch

from jensen.training import EarlyStopping

N = 400


def noise(generator: torch.Generator) -> torch.Tensor:
    return torch.randn(N, generator=generator)


def validations(stopping: EarlyStopping, slope: float, seed: int, most: int, spread: float = 20.0) -> int:
    """Validations until it stops; the data differ by ``spread`` nats, and the mean grows by ``slope`` each time."""
    generator = torch.Generator().manual_seed(seed)
    level = spread * noise(generator) - 100
    for count in range(1, most + 1):
        stopping.update(level + slope * count + noise(generator))
        if stopping.stop:
            return count
    return most + 1


@pytest.mark.parametrize("seed", range(10))
def test_stops_on_noise_around_a_plateau(seed: int) -> None:
    count = validations(EarlyStopping(patience=10), slope=0.0, seed=seed, most=100)
    assert 11 <= count <= 60


@pytest.mark.parametrize("seed", range(10))
def test_goes_on_while_slow_steps_add_up(seed: int) -> None:
    # Smoothing leaves a third of the variance, so the difference of two validations has a standard error of
    # (2/3 / 400)^1/2 = .04: a step is less than what would count alone, and ten are more than six of them.
    assert validations(EarlyStopping(patience=10), slope=0.025, seed=seed, most=300) == 301


def test_stops_when_it_gets_worse() -> None:
    assert validations(EarlyStopping(patience=4), slope=-1.0, seed=0, most=100) == 5


def test_never_stops_without_patience() -> None:
    assert validations(EarlyStopping(patience=None), slope=-1.0, seed=0, most=100) == 101


def test_says_which_smoothed_mean_is_the_best() -> None:
    stopping = EarlyStopping(patience=None)
    values = [0.0, 4.0, 1.0, 3.0, 3.0, -8.0, 9.0]
    smoothed = [0.0, 2.0, 1.5, 2.25, 2.625, -2.6875, 3.15625]
    best = [True, True, False, True, True, False, True]
    for value, mean, improved in zip(values, smoothed, best, strict=True):
        assert stopping.update(torch.full((5,), value)) is improved
        assert stopping.smoothed is not None
        assert stopping.smoothed.tolist() == [mean] * 5
    assert stopping.best_mean == 3.15625


def test_significance_is_that_of_paired_differences() -> None:
    """Data of very different difficulty, each of which improves by the same: certain, however small."""
    stopping = EarlyStopping(patience=3, smoothing=0.0)
    level = torch.linspace(-1e4, 0, N, dtype=torch.float64)
    for count in range(20):
        stopping.update(level + 1e-3 * count)
        assert stopping.waited == 0
    for _ in range(2):
        stopping.update(level + 1e-3 * 19)
    assert stopping.waited == 2
    assert not stopping.stop
    stopping.update(level)
    assert stopping.stop


def test_an_improvement_below_the_standard_error_does_not_count() -> None:
    change = torch.tensor([1.0, -1.0] * (N // 2))
    error = float(change.double().std()) / math.sqrt(N)
    for factor, waited in ((0.9, 1), (1.1, 0)):
        stopping = EarlyStopping(patience=3, smoothing=0.0)
        stopping.update(torch.zeros(N))
        stopping.update(change + factor * error)
        assert stopping.waited == waited


def test_a_single_datum_is_enough() -> None:
    stopping = EarlyStopping(patience=1, smoothing=0.0)
    stopping.update(torch.tensor([1.0]))
    stopping.update(torch.tensor([2.0]))
    assert not stopping.stop
    stopping.update(torch.tensor([2.0]))
    assert stopping.stop


@pytest.mark.parametrize("odd", [math.nan, -math.inf])
@pytest.mark.parametrize("when", [0, 3])
def test_a_bound_that_was_not_finite_is_forgotten(odd: float, when: int) -> None:
    stopping = EarlyStopping(patience=4)
    for count in range(30):
        bounds = torch.full((5,), float(count))
        if count == when:
            bounds[2] = odd
        improved = stopping.update(bounds)
        assert improved is (count != when)
        assert not stopping.stop
    assert stopping.smoothed is not None
    assert stopping.smoothed.isfinite().all()


def test_stops_where_bounds_stay_non_finite() -> None:
    stopping = EarlyStopping(patience=4)
    assert not any(stopping.update(torch.full((5,), math.nan)) for _ in range(5))
    assert stopping.stop


@pytest.mark.parametrize("after", [0, 1, 7])
def test_goes_on_from_its_state(after: int) -> None:
    generator = torch.Generator().manual_seed(0)
    bounds = [noise(generator) for _ in range(20)]
    one = EarlyStopping(patience=5)
    for some in bounds[:after]:
        one.update(some)
    other = EarlyStopping(patience=5)
    other.load_state_dict(one.state_dict())
    for some in bounds[after:]:
        assert one.update(some) is other.update(some)
        assert one.stop is other.stop
        assert one.waited == other.waited
    assert one.best_mean == other.best_mean
