import numpy as np
import pytest
import torch

from diagnostics.peers import arviz
from jensen import diagnostics
from jensen.errors import DataError, ShapeError


def autoregression(chains: int, draws: int, correlation: float, seed: int = 0) -> torch.Tensor:
    """Stationary chains x_t = a x_(t-1) + sqrt(1 - a^2) e_t."""
    noise = torch.randn(draws, chains, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    values = [noise[0]]
    for fresh in noise[1:]:
        values.append(correlation * values[-1] + (1 - correlation**2) ** 0.5 * fresh)
    return torch.stack(values, 1)


def kinds(chains: int, draws: int) -> dict[str, torch.Tensor]:
    slow, fast, anti = (autoregression(chains, draws, a, i) for i, a in enumerate((0.95, 0.0, -0.6)))
    return {
        "slow": slow,
        "fast": fast,
        "anticorrelated": anti,
        "apart": fast + torch.arange(chains)[:, None],
        "unequally wide": fast * (1 + torch.arange(chains)[:, None]),
        "ties": (2 * slow).round(),
        "heavy": slow.tan(),
    }


@pytest.mark.parametrize(("chains", "draws"), [(4, 250), (2, 31), (5, 8), (64, 60)])
@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("r_hat", "rhat"),
        ("ess_bulk", "ess:bulk"),
        ("ess_tail", "ess:tail"),
        ("ess_mean", "ess:mean"),
        ("mcse_mean", "mcse:mean"),
        ("mcse_sd", "mcse:sd"),
    ],
)
def test_figures_are_those_of_arviz(name: str, peer: str, chains: int, draws: int) -> None:
    function, _, method = peer.partition(":")
    options = {"method": method} if method else {}
    values = kinds(chains, draws)
    # All at once, so that a mix-up of quantities shows too.
    figures = getattr(diagnostics, name)(torch.stack(list(values.values()), -1))
    for kind, figure in zip(values, figures, strict=True):
        wanted = float(getattr(arviz(), function)(values[kind].numpy(), **options))
        assert float(figure) == pytest.approx(wanted, rel=1e-9), kind


def test_energies_as_arviz_sees_them() -> None:
    energy = autoregression(3, 200, 0.8)
    np.testing.assert_allclose(diagnostics.e_bfmi(energy).numpy(), arviz().bfmi(energy.numpy()), rtol=1e-12)


@pytest.mark.parametrize("correlation", [-0.5, 0.0, 0.7])
def test_effective_sizes_of_autoregressions_are_known(correlation: float) -> None:
    """N (1 - a) / (1 + a), known within the spread of its estimate, which 40 repetitions measure."""
    draws = torch.stack([autoregression(4, 2000, correlation, seed) for seed in range(40)], -1)
    sizes = diagnostics.ess_mean(draws)
    wanted = 8000 * (1 - correlation) / (1 + correlation)
    error = float(sizes.std()) / 40**0.5
    # The estimate cuts the sum of correlations off, which biases it by a few per cent.
    assert float(sizes.mean()) == pytest.approx(wanted, abs=3 * error + 0.04 * wanted)


def test_the_error_of_the_mean_is_that_of_repetitions() -> None:
    draws = torch.stack([autoregression(2, 1000, 0.6, seed) for seed in range(200)], -1)
    spread = float(draws.mean((0, 1)).std())
    claimed = float(diagnostics.mcse_mean(draws).mean())
    assert claimed == pytest.approx(spread, rel=3 * (2 * 200) ** -0.5 + 0.05)


def test_one_chain_is_compared_with_itself() -> None:
    still = torch.randn(1, 400, generator=torch.Generator().manual_seed(1))
    assert float(diagnostics.r_hat(still)) < 1.02
    assert float(diagnostics.r_hat(still + torch.linspace(0, 3, 400))) > 1.2


def test_a_quantity_that_does_not_vary() -> None:
    still = torch.ones(4, 100)
    assert float(diagnostics.ess_bulk(still)) == 400
    assert bool(diagnostics.r_hat(still).isnan())


def test_shapes_of_events_are_kept() -> None:
    draws = torch.randn(2, 50, 3, 2, generator=torch.Generator().manual_seed(0))
    assert diagnostics.ess_tail(draws).shape == (3, 2)
    assert diagnostics.r_hat(draws)[1, 1] == diagnostics.r_hat(draws[..., 1, 1])


def test_bad_draws_are_refused() -> None:
    with pytest.raises(ShapeError, match="got 3 draws in each of 4 chains"):
        diagnostics.r_hat(torch.zeros(4, 3))
    draws = torch.zeros(4, 20)
    draws[0, 3] = torch.nan
    with pytest.raises(DataError, match="1 of 80 draws are not finite"):
        diagnostics.ess_bulk(draws)
