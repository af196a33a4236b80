from math import log

import numpy as np
import pytest
import torch

from inference.graphs import spin_glass
from jensen.errors import ConfigError, JensenError, ShapeError
from jensen.inference import (
    CRITICAL_COUPLING,
    enumerated_log_z,
    ising_grid,
    ising_log_z,
    onsager_log_z_per_spin,
    onsager_magnetisation,
    torus_log_z,
)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (4, 1), (3, 4), (5, 2)])
def test_the_transfer_matrix_agrees_with_all_configurations(rows: int, columns: int) -> None:
    options = spin_glass(rows, columns, seed=rows)
    wanted = enumerated_log_z(ising_grid(rows, columns, **options))
    assert ising_log_z(rows, columns, **options) == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize(("rows", "columns"), [(3, 4), (4, 3), (2, 3), (2, 2)])
def test_so_it_does_on_a_torus(rows: int, columns: int) -> None:
    generator = torch.Generator().manual_seed(0)
    across, along, field = torch.randn(3, rows, columns, generator=generator, dtype=torch.float64)
    options = {"coupling": (across, along), "field": field, "periodic": True}
    wanted = enumerated_log_z(ising_grid(rows, columns, **options))
    assert ising_log_z(rows, columns, **options) == pytest.approx(wanted, rel=1e-13)


@pytest.mark.parametrize("coupling", [0.01, 0.3, CRITICAL_COUPLING, 0.5, 2.0])
@pytest.mark.parametrize(("rows", "columns"), [(2, 3), (5, 3), (4, 8)])
def test_the_formula_of_the_torus_agrees_with_the_transfer_matrix(
    rows: int, columns: int, coupling: float
) -> None:
    wanted = ising_log_z(rows, columns, coupling=coupling, periodic=True)
    assert torus_log_z(rows, columns, coupling=coupling) == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("coupling", [0.1, 0.3, 0.6, 1.0])
def test_large_tori_tend_to_the_infinite_lattice(coupling: float) -> None:
    """Away from the critical point what is left falls exponentially; below it two phases add log 2."""
    size = 200
    two_phases = log(2) / size**2 if coupling > CRITICAL_COUPLING else 0.0
    wanted = onsager_log_z_per_spin(coupling) + two_phases
    assert torus_log_z(size, size, coupling=coupling) / size**2 == pytest.approx(wanted, abs=1e-10)


def test_at_the_critical_point_it_is_a_known_number() -> None:
    """Log 2 / 2 + 2 G / pi with Catalan's constant G."""
    catalan = 0.915965594177219015
    assert onsager_log_z_per_spin(CRITICAL_COUPLING) == pytest.approx(
        log(2) / 2 + 2 * catalan / np.pi, abs=1e-12
    )
    # The finite size adds about .6 / n^2 there.
    assert torus_log_z(300, 300, coupling=CRITICAL_COUPLING) / 300**2 == pytest.approx(
        onsager_log_z_per_spin(CRITICAL_COUPLING), abs=1e-5
    )


def test_large_couplings_do_not_overflow() -> None:
    assert onsager_log_z_per_spin(500.0) == pytest.approx(1000.0, rel=1e-14)
    assert onsager_log_z_per_spin(-0.3) == onsager_log_z_per_spin(0.3)
    assert onsager_magnetisation(300.0) == 1
    assert ising_log_z(3, 3, coupling=300.0) == pytest.approx(12 * 300.0 + log(2), rel=1e-14)


def test_magnetisation_starts_at_the_critical_coupling() -> None:
    assert onsager_magnetisation(CRITICAL_COUPLING) == 0
    assert 0 < onsager_magnetisation(CRITICAL_COUPLING + 1e-6) < 0.3
    assert np.sinh(2 * CRITICAL_COUPLING) == pytest.approx(1, rel=1e-14)


def test_a_strong_field_aligns_all() -> None:
    assert ising_log_z(10, 10, coupling=0.0, field=0.7) == pytest.approx(
        100 * log(2 * np.cosh(0.7)), rel=1e-13
    )


def test_names_are_rows_and_columns() -> None:
    grid = ising_grid(2, 3, coupling=0.5, field=torch.arange(6.0).reshape(2, 3))
    assert grid.names[4] == "1,1"
    aligned = dict.fromkeys(grid.names, 1)
    assert float(grid.log_score(aligned)) == pytest.approx(7 * 0.5 + 15)
    assert float(grid.log_score(aligned | {"0,0": 0})) == pytest.approx(3 * 0.5 + 15)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: ising_grid(0, 3, coupling=0.1), ConfigError, "at least 1 x 1"),
        (lambda: ising_grid(1, 3, coupling=0.1, periodic=True), ConfigError, "at least 2 x 2"),
        (lambda: ising_grid(2, 3, coupling=(torch.zeros(2, 3), 0.0)), ShapeError, r"\(2, 2\)"),
        (lambda: ising_grid(2, 3, coupling=0.1, field=torch.zeros(3, 2)), ShapeError, "field"),
        (lambda: ising_grid(2, 3, coupling=float("nan")), ConfigError, "isn't finite"),
        (lambda: ising_log_z(30, 30, coupling=0.1), ConfigError, "30 spins across"),
        (lambda: ising_log_z(14, 12, coupling=0.1, periodic=True), ConfigError, "12 spins across"),
        (lambda: torus_log_z(4, 4, coupling=-0.1), ConfigError, "above 0"),
    ],
)
def test_bad_grids_are_named(call, error: type[JensenError], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
