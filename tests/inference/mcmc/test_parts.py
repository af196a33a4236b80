import numpy as np
import pytest
import torch
from scipy.linalg import eigh

from inference.mcmc.targets import COVARIANCE, gaussian
from jensen.inference import Target, real
from jensen.inference.mcmc.density import Density, Metric
from jensen.inference.mcmc.leapfrog import energy, leapfrog
from jensen.inference.mcmc.starting import find_start
from jensen.inference.mcmc.step_size import DualAveraging, first_guess
from jensen.inference.mcmc.trees import Trees
from jensen.inference.mcmc.warm_up import relearnt

Array = np.ndarray


def quartic(z: Array) -> tuple[Array, Array]:
    """A density whose paths aren't ellipses."""
    return -0.25 * (z**4).sum(1) - 0.5 * z[:, 0] * z[:, 1], -(z**3) - 0.5 * z[:, [1, 0]]


def path(z: Array, momentum: Array, step: float, leaps: int) -> tuple[Array, Array]:
    slope = quartic(z)[1]
    for _ in range(leaps):
        z, momentum, _, slope = leapfrog(quartic, z, momentum, slope, np.full((len(z), 1), step))
    return z, momentum


def test_a_path_is_undone_by_turning_its_momentum() -> None:
    generator = np.random.default_rng(0)
    z, momentum = generator.standard_normal((2, 5, 2))
    there, speed = path(z, momentum, 0.1, 30)
    assert np.abs(there - z).max() > 0.1
    back, turned = path(there, -speed, 0.1, 30)
    np.testing.assert_allclose(back, z, atol=1e-12)
    np.testing.assert_allclose(-turned, momentum, atol=1e-12)


def test_a_path_keeps_volumes() -> None:
    """The Jacobian of a path's end in its start has determinant one."""

    def end(start: Array) -> Array:
        return np.concatenate(path(start[None, :2], start[None, 2:], 0.2, 7), 1)[0]

    start, width = np.array([0.3, -0.8, 0.5, 1.1]), 1e-6
    jacobian = np.stack([(end(start + w) - end(start - w)) / (2 * width) for w in width * np.eye(4)], 1)
    assert abs(jacobian[0, 2]) > 0.1
    assert np.linalg.det(jacobian) == pytest.approx(1, abs=1e-8)


def test_the_energy_error_falls_with_the_square_of_the_step() -> None:
    z, momentum = np.random.default_rng(1).standard_normal((2, 20, 2))
    errors = []
    for step, leaps in ((0.1, 8), (0.05, 16)):
        there, speed = path(z, momentum, step, leaps)
        errors.append(np.abs(energy(quartic(there)[0], speed) - energy(quartic(z)[0], momentum)).mean())
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)


@pytest.mark.parametrize("step", [0.4, 1.4])
def test_no_u_turn_transitions_leave_a_density_alone(step: float) -> None:
    """Many chains that begin in a normal distribution are in it after one transition, and after several."""
    generator = np.random.default_rng(2)
    z = generator.standard_normal((4000, 3))
    trees = Trees(lambda z: (-0.5 * (z**2).sum(1), -z), z, generator, max_depth=5)
    trees.begin(step)
    first, done = np.empty_like(z), np.zeros(len(z), dtype=bool)
    while not done.all():
        finished = trees.advance(step)
        if finished is not None:
            new = ~done[finished.rows]
            first[finished.rows[new]] = finished.z[new]
            done[finished.rows] = True
    correlation = (first * z).mean(0)
    assert np.abs(correlation).max() < 0.6
    for moment, wanted, spread in ((1, 0, 1), (2, 1, 2), (4, 3, 96)):
        error = np.abs((first**moment).mean(0) - wanted) / (spread / len(z)) ** 0.5
        assert error.max() < 4


def test_where_all_coordinates_turn_alike_paths_are_about_half_a_turn() -> None:
    """A whole turn would pass the check of both ends alone."""
    generator = np.random.default_rng(3)
    trees = Trees(lambda z: (-0.5 * (z**2).sum(1), -z), generator.standard_normal((50, 40)), generator)
    trees.begin(0.9)
    lengths = [finished.leapfrogs for _ in range(200) if (finished := trees.advance(0.9)) is not None]
    assert np.concatenate(lengths).max() <= 7


def test_divergent_paths_end_and_their_chains_stay() -> None:
    generator = np.random.default_rng(4)
    z = generator.standard_normal((6, 2))
    trees = Trees(lambda z: (-0.5e6 * (z**2).sum(1), -1e6 * z), z, generator)
    trees.begin(1.0)
    finished = trees.advance(1.0)
    assert finished is not None
    assert finished.divergent.all()
    np.testing.assert_array_equal(finished.z, z)


def test_a_start_knows_the_curvature() -> None:
    start = find_start(gaussian(), 16, True, np.random.default_rng(0))
    assert start.curved
    np.testing.assert_allclose(start.metric.covariance, COVARIANCE.numpy(), rtol=1e-4, atol=1e-5)
    # Chains begin wider apart than the posterior.
    spread = start.metric.inward(start.points)
    assert 1.2 < spread.std() < 1.9


def test_chains_begin_at_each_mode() -> None:
    target = Target(
        lambda p: torch.logaddexp(-50 * (p["x"] - 1) ** 2, -50 * (p["x"] + 1) ** 2), {"x": real()}
    )
    start = find_start(target, 32, True, np.random.default_rng(0))
    assert 4 < (start.points > 0).sum() < 28


def test_coordinates_that_were_known_to_be_correlated_stay_so() -> None:
    """Few draws of an almost degenerate posterior don't blur what the curvature has told."""
    covariance = np.array([[1.0, 0.9999], [0.9999, 1.0]])
    metric = Metric(np.zeros(2), np.linalg.cholesky(covariance))
    draws = metric.outward(np.random.default_rng(0).standard_normal((40, 2)))
    learnt = relearnt(metric, draws, True)
    widths = eigh(learnt.covariance, covariance, eigvals_only=True)
    assert 0.4 < widths.min() < widths.max() < 2


@pytest.mark.parametrize("dense", [True, False])
def test_coordinates_there_and_back(dense: bool) -> None:
    factor = np.linalg.cholesky(COVARIANCE.numpy()) if dense else np.array([1.0, 2.0, 3.0])
    metric = Metric(np.array([1.0, 2.0, 3.0]), factor)
    points = np.random.default_rng(0).standard_normal((4, 5, 3))
    np.testing.assert_allclose(metric.inward(metric.outward(points)), points, atol=1e-12)
    target = gaussian()
    density, z = Density(target, metric), points[:, 0]
    value, slope = density(z)
    for i in range(3):
        shift = np.zeros_like(z)
        shift[:, i] = 1e-5
        numeric = (density(z + shift)[0] - density(z - shift)[0]) / 2e-5
        np.testing.assert_allclose(slope[:, i], numeric, rtol=1e-5, atol=1e-6)
    assert value.shape == (4,)


def test_the_step_size_settles_where_the_acceptance_is_as_wanted() -> None:
    steps = DualAveraging(10.0, 0.8)
    for _ in range(300):
        steps.update(float(np.exp(-steps.current)))
    assert steps.average == pytest.approx(-np.log(0.8), rel=0.1)


@pytest.mark.parametrize("start", [1e-3, 1.0, 1e3])
def test_a_first_step_size_is_at_the_border(start: float) -> None:
    found = first_guess(lambda step: np.exp(-np.array([step])), start)
    assert np.exp(-found) >= 0.8 > np.exp(-2 * found)
