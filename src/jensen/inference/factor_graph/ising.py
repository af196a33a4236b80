"""Ising models on a grid: their factor graph, and what is known of them exactly."""

from dataclasses import dataclass
from math import asinh, cosh, exp, log, log1p, pi, sin, sinh, sqrt, tanh

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import ArrayLike
from scipy.integrate import quad
from torch import Tensor

from jensen.errors import ConfigError, ShapeError
from jensen.inference.factor_graph.graph import FactorGraph, Group

CRITICAL_COUPLING = 0.5 * asinh(1.0)
"""Where the infinite square lattice without a field starts to be magnetised, 0.4407."""

Coupling = float | tuple[float | ArrayLike | Tensor, float | ArrayLike | Tensor]

_LARGEST_STATE = 2**22
_SPINS = torch.tensor([-1.0, 1.0], dtype=torch.float64)


@dataclass(frozen=True)
class _Grid:
    """Couplings (rows, columns - 1) and (rows - 1, columns), or (rows, columns) if periodic, and fields."""

    horizontal: Tensor
    vertical: Tensor
    field: Tensor
    periodic: bool


def ising_grid(
    rows: int,
    columns: int,
    *,
    coupling: Coupling,
    field: float | ArrayLike | Tensor = 0.0,
    periodic: bool = False,
) -> FactorGraph:
    r"""Spins on a square grid, :math:`\log p^*(s) = \sum_{ij} J_{ij} s_i s_j + \sum_i h_i s_i` with s = -1 or 1.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        coupling: J of all pairs of neighbours (inverse temperature included), or a pair of arrays: to the right,
            (rows, columns - 1), and down, (rows - 1, columns); (rows, columns) both if periodic.
        field: h, one number or (rows, columns).
        periodic: Whether the last row and column neighbour the first ones; each side then needs two spins, and
            where it has just two, these are joined twice.

    Returns:
        A graph with the variables "r,c"; state 0 is the spin -1 and state 1 the spin +1.

    Raises:
        ConfigError: If a side is too short.
        ShapeError: If an array has another shape.

    Example:
        >>> grid = ising_grid(100, 100, coupling=0.4)
        >>> len(grid.names), [len(group.variables) for group in grid.groups]
        (10000, [19800, 10000])
    """
    grid = _grid(rows, columns, coupling, field, periodic)
    place = torch.arange(rows * columns).reshape(rows, columns)
    right, down = place.roll(-1, 1), place.roll(-1, 0)
    across = torch.stack([place, right], -1)[:, : grid.horizontal.shape[1]].reshape(-1, 2)
    along = torch.stack([place, down], -1)[: grid.vertical.shape[0]].reshape(-1, 2)
    strength = torch.cat([grid.horizontal.flatten(), grid.vertical.flatten()])
    groups = [
        Group(torch.cat([across, along]), strength[:, None, None] * _SPINS[:, None] * _SPINS),
        Group(place.reshape(-1, 1), grid.field.reshape(-1, 1) * _SPINS),
    ]
    names = [f"{r},{c}" for r in range(rows) for c in range(columns)]
    states = torch.full((rows * columns,), 2, dtype=torch.int64)
    return FactorGraph.from_groups(names, states, [group for group in groups if len(group.variables)])


def ising_log_z(
    rows: int,
    columns: int,
    *,
    coupling: Coupling,
    field: float | ArrayLike | Tensor = 0.0,
    periodic: bool = False,
) -> float:
    """The exact log Z of an Ising grid by a transfer matrix that adds one spin at a time.

    Time is linear in the longer side and exponential in the shorter: 2 to its power, or 4 if periodic.

    Args:
        rows: Number of rows.
        columns: Number of columns.
        coupling: As for ``ising_grid``.
        field: As for ``ising_grid``.
        periodic: As for ``ising_grid``.

    Returns:
        Nats.

    Raises:
        ConfigError: If a side is too short, or the shorter one is longer than 22, or 11 if periodic.
        ShapeError: If an array has another shape.

    Source: Crystal statistics I, 1944, https://doi.org/10.1103/PhysRev.65.117.

    Example:
        >>> round(ising_log_z(1, 2, coupling=1.0), 6)  # log(2 e + 2 / e)
        1.820075
    """
    grid = _grid(rows, columns, coupling, field, periodic)
    if columns > rows:
        grid = _Grid(grid.vertical.T, grid.horizontal.T, grid.field.T, periodic)
        rows, columns = columns, rows
    size = 2**columns
    if size ** (2 if periodic else 1) > _LARGEST_STATE:
        raise ConfigError(
            f"a transfer matrix for {columns} spins across needs {size ** (2 if periodic else 1):.3g} numbers; "
            f"the limit is {_LARGEST_STATE}. Use tree_reweighted and mean_field for bounds"
        )
    # Logarithms of bonds and rows are kept apart from the weights, which then lie in 0..1.
    log_z = float(grid.vertical.abs().sum())
    log_rows = [_log_row(grid, row, columns) for row in range(rows)]
    log_z += float(sum(log_row.max() for log_row in log_rows))
    # For each state of the first row (if periodic) the weights of the states of the current one.
    weights = (log_rows[0] - log_rows[0].max()).exp()
    weights = torch.diag(weights) if periodic else weights[None]
    for row in range(1, rows):
        for column in range(columns):
            weights = _replaced(weights, grid.vertical[row - 1, column], column)
        weights = weights * (log_rows[row] - log_rows[row].max()).exp()
        top = weights.sum()
        log_z += float(top.log())
        weights = weights / top
    if periodic:
        # Closing the torus joins the last row to the first, spin by spin.
        for column in range(columns):
            weights = _replaced(weights, grid.vertical[rows - 1, column], column)
        return log_z + float(weights.trace().log())
    return log_z + float(weights.sum().log())


def _log_row(grid: _Grid, row: int, columns: int) -> Float[Tensor, " states"]:
    """The logarithm of the factors within one row for each of its states, the first spin slowest."""
    log_weight = torch.zeros([2] * columns, dtype=torch.float64)

    def spin(column: int) -> Tensor:
        return _SPINS.reshape([2 if other == column else 1 for other in range(columns)])

    for column in range(columns):
        log_weight = log_weight + grid.field[row, column] * spin(column)
    for column in range(grid.horizontal.shape[1]):
        log_weight = log_weight + grid.horizontal[row, column] * spin(column) * spin((column + 1) % columns)
    return log_weight.flatten()


def _replaced(weights: Tensor, coupling: Tensor, column: int) -> Tensor:
    """Sums over the spin at one column and puts the one below it into its place."""
    bond = (coupling * _SPINS[:, None] * _SPINS - coupling.abs()).exp()
    split = weights.reshape(len(weights) * 2**column, 2, -1)
    return torch.einsum("asb,st->atb", split, bond).reshape(weights.shape)


def _grid(
    rows: int,
    columns: int,
    coupling: Coupling,
    field: float | ArrayLike | Tensor,
    periodic: bool,
) -> _Grid:
    least = 2 if periodic else 1
    if min(rows, columns) < least:
        raise ConfigError(f"a grid of {rows} x {columns} spins; wanted at least {least} x {least}")
    cut = 0 if periodic else 1
    across, along = coupling if isinstance(coupling, tuple) else (coupling, coupling)
    return _Grid(
        _array(across, (rows, columns - cut), "coupling to the right"),
        _array(along, (rows - cut, columns), "coupling down"),
        _array(field, (rows, columns), "field"),
        periodic,
    )


def _array(values: float | ArrayLike | Tensor, shape: tuple[int, int], name: str) -> Tensor:
    array = torch.as_tensor(values, dtype=torch.float64)
    if array.ndim and array.shape != shape:
        raise ShapeError(f"the {name} has shape {tuple(array.shape)}; wanted one number or {shape}")
    if not bool(torch.isfinite(array).all()):
        raise ConfigError(f"the {name} isn't finite; wanted finite numbers")
    return array.expand(shape)


def torus_log_z(rows: int, columns: int, *, coupling: float) -> float:
    r"""The exact log Z of a periodic Ising grid of any size with one ferromagnetic coupling and no field.

    .. math::
        Z = \tfrac12 (2 \sinh 2K)^{RC/2} \Big[ \prod_r 2 \cosh \tfrac C2 \gamma_{2r+1}
        + \prod_r 2 \sinh \tfrac C2 \gamma_{2r+1} + \prod_r 2 \cosh \tfrac C2 \gamma_{2r}
        + \prod_r 2 \sinh \tfrac C2 \gamma_{2r} \Big]

    with :math:`\cosh \gamma_l = \cosh 2K \coth 2K - \cos(\pi l / R)` and :math:`\gamma_0 = 2K + \log \tanh K`.

    Args:
        rows: R, at least 2.
        columns: C, at least 2.
        coupling: K, above 0.

    Returns:
        Nats.

    Raises:
        ConfigError: If a side is too short or the coupling isn't above 0.

    Source: Crystal statistics II, 1949, https://doi.org/10.1103/PhysRev.76.1232.

    Example:
        >>> abs(torus_log_z(4, 4, coupling=0.3) - ising_log_z(4, 4, coupling=0.3, periodic=True)) < 1e-10
        True
    """
    if min(rows, columns) < 2 or coupling <= 0:
        raise ConfigError(
            f"the formula is for at least 2 x 2 spins and a coupling above 0; got {rows} x {columns}, {coupling}"
        )
    level = cosh(2 * coupling) / tanh(2 * coupling) - np.cos(pi * np.arange(2 * rows) / rows)
    gamma = np.arccosh(np.maximum(level, 1.0))
    gamma[0] = 2 * coupling + log(tanh(coupling))
    half = 0.5 * columns * np.abs(gamma)
    log_cosh = half + np.log1p(np.exp(-2 * half))
    sign = np.sign(gamma[0])
    with np.errstate(divide="ignore"):
        log_sinh = half + np.log(-np.expm1(-2 * half))
    logs = np.array([log_cosh[1::2].sum(), log_sinh[1::2].sum(), log_cosh[::2].sum(), log_sinh[::2].sum()])
    top = logs.max()
    total = (np.exp(logs - top) * [1, 1, 1, sign]).sum()
    return float(0.5 * rows * columns * log(2 * sinh(2 * coupling)) - log(2) + top + np.log(total))


def onsager_log_z_per_spin(coupling: float) -> float:
    r"""The log Z of the infinite square lattice without a field, for each spin.

    .. math::
        \log 2 \cosh 2K + \frac1\pi \int_0^{\pi/2} \log \tfrac12 \Big(1 + \sqrt{1 - \kappa^2 \sin^2 \phi}\Big) d\phi,
        \quad \kappa = \frac{2 \sinh 2K}{\cosh^2 2K}

    Args:
        coupling: K.

    Returns:
        Nats a spin.

    Source: Crystal statistics I, 1944, https://doi.org/10.1103/PhysRev.65.117.

    Example:
        >>> round(onsager_log_z_per_spin(0.0), 6)  # log 2
        0.693147
    """
    size = abs(coupling)
    # log(2 cosh 2K) and kappa without the overflow of large couplings.
    log_cosh = 2 * size + log1p(exp(-4 * size))
    kappa = min(2 * tanh(2 * size) * 2 * exp(-2 * size) / (1 + exp(-4 * size)), 1.0)

    def integrand(angle: float) -> float:
        return log(0.5 * (1 + sqrt(max(1 - (kappa * sin(angle)) ** 2, 0.0))))

    # At the critical point the integrand has a corner at the end, where quad puts no trouble.
    return log_cosh + quad(integrand, 0, pi / 2, epsabs=1e-13, epsrel=1e-13, limit=200)[0] / pi


def onsager_magnetisation(coupling: float) -> float:
    r"""The spontaneous magnetisation of the infinite square lattice, :math:`(1 - \sinh^{-4} 2K)^{1/8}`.

    Args:
        coupling: K.

    Returns:
        The mean spin, 0 at and below the critical coupling.

    Source: The spontaneous magnetization of a two-dimensional Ising model, 1952,
    https://doi.org/10.1103/PhysRev.85.808.

    Example:
        >>> onsager_magnetisation(0.4), round(onsager_magnetisation(1.0), 4)
        (0.0, 0.9993)
    """
    if coupling <= CRITICAL_COUPLING:
        return 0.0
    return (1 - sinh(2 * coupling) ** -4) ** 0.125
