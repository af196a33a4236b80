"""Factor analysis: a noise variance for each cell, by EM."""

from collections.abc import Iterator

from jensen.errors import ConfigError
from jensen.models.linear_gaussian import LinearGaussian
from jensen.models.linear_gaussian_em import em
from jensen.models.progress import Iteration
from jensen.models.rows import Rows


def factor_analysis(
    latent_dim: int,
    event_shape: tuple[int, ...],
    rows: Rows,
    *,
    iterations: int = 1000,
    tolerance: float = 1e-8,
) -> tuple[LinearGaussian, Iterator[Iteration]]:
    """A factor analyser and the iterations that fit it; missing cells are integrated out.

    Args:
        latent_dim: Number of factors.
        event_shape: Shape of a datum.
        rows: Data.
        iterations: At most.
        tolerance: In nats a datum and cell.

    Returns:
        The model, and its iterations, to be gone through.

    Raises:
        ConfigError: If there are as many factors as cells.

    Example:
        >>> import numpy as np
        >>> x = np.random.default_rng(0).normal(size=(50, 3))
        >>> model, iterations = factor_analysis(1, (3,), Rows(x))
        >>> bounds = [iteration.bound for iteration in iterations]
        >>> bounds == sorted(bounds)
        True
    """
    check_latent_dim(latent_dim, rows.dim)
    model = LinearGaussian(latent_dim, event_shape, shared_noise=False)
    return model, em(model, rows, iterations=iterations, tolerance=tolerance)


def check_latent_dim(latent_dim: int, cells: int) -> None:
    """Refuses a number of latents that leaves no noise.

    Raises:
        ConfigError: If it isn't between 1 and the number of cells less one.
    """
    if not 1 <= latent_dim < cells:
        raise ConfigError(
            f"the number of latents has to be at least 1 and less than that of a datum's cells, got {latent_dim} for "
            f"{cells} feature(s); with as many latents as cells no noise is left"
        )
