import builtins

import numpy as np
import pytest
import torch

from diagnostics.peers import arviz
from jensen.errors import ConfigError
from jensen.inference import Target, positive, real
from jensen.inference.mcmc import Draws, Summary, nuts

TARGET = Target(lambda p: -0.5 * p["x"].square().sum() - p["s"], {"x": real(2), "s": positive()})


def noise(chains: int = 4, draws: int = 500) -> torch.Tensor:
    return torch.randn(chains, draws, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def judged(positions: torch.Tensor, **stats: torch.Tensor) -> Summary:
    return Draws(TARGET, positions, "nuts", stats, {}).summary()


def test_good_draws_are_trusted_and_figures_are_theirs() -> None:
    positions = noise()
    summary = judged(positions, divergent=torch.zeros(4, 500, dtype=torch.bool))
    assert summary.reliable
    assert summary.names == ["x[0]", "x[1]", "s"]
    assert "Trust means and quantiles" in summary.words[0]
    assert "no transition diverged" in summary.words[0]
    s = positions[..., 2].exp().flatten()
    wanted = [s.mean(), s.std(), s.quantile(0.05), s.quantile(0.5), s.quantile(0.95)]
    found = [summary.columns[name][2] for name in ("mean", "sd", "5%", "50%", "95%")]
    torch.testing.assert_close(torch.stack(found), torch.stack(wanted))
    lines = str(summary).splitlines()
    assert lines[0].split()[:2] == ["mean", "sd"]
    assert lines[3].split()[0] == "s"
    assert float(lines[3].split()[1]) == pytest.approx(float(s.mean()), rel=1e-3)


def test_chains_at_different_places_are_several_modes() -> None:
    positions = noise()
    positions[2:, :, 0] += 10
    summary = judged(positions)
    assert not summary.reliable
    assert "rest in different places ('x[0]'" in summary.words[0]


def test_chains_on_their_way_are_slow() -> None:
    positions = noise()
    positions[..., 1] += torch.linspace(0, 3, 500)
    summary = judged(positions)
    assert "Don't trust 'x[1]' yet" in summary.words[0]
    assert "move slowly" in summary.words[0]


def test_a_stuck_chain_is_named() -> None:
    positions = noise()
    positions[2] = positions[2, :1]
    summary = judged(positions)
    assert not summary.reliable
    assert "1 of 4 chains (2, counted from 0) are stuck" in summary.words[0]


@pytest.mark.parametrize(
    ("share", "message"),
    [(0.3, "Trust nothing: 30% of"), (0.01, "means more than the tails: 20 of 2,000")],
)
def test_divergences_are_told(share: float, message: str) -> None:
    divergent = (torch.arange(500) < share * 500).expand(4, -1)
    summary = judged(noise(), divergent=divergent)
    assert not summary.reliable
    assert message in summary.words[0]
    assert summary.divergences == share * 2000


def test_chains_that_drift_off_are_improper() -> None:
    positions = noise()
    positions[..., 2] += 400
    assert "drift off along 's'; the posterior is probably improper" in judged(positions).words[0]


def test_too_few_draws_are_told() -> None:
    assert "Too few draws for quantiles: 's' has 203 effective ones of 240" in " ".join(
        judged(noise(4, 60)).words
    )
    assert "Nothing can be said of chains of 3 draws" in judged(noise(4, 3)).words[0]


def test_a_slow_energy_is_told() -> None:
    energy = torch.randn(4, 500, generator=torch.Generator().manual_seed(1)).cumsum(1)
    assert "E-BFMI" in judged(noise(), energy=energy).words[0]


def test_a_storm_of_divergences_is_told_by_the_sampler_itself() -> None:
    """Every path in a box ends outside of it."""
    box = Target(lambda p: torch.where(p["x"].abs() < 1, 0 * p["x"], -torch.inf), {"x": real()})
    summary = nuts(box, 50, 4, warmup=20, init={"x": 0.1}, max_depth=4).summary()
    assert summary.divergences > 20
    assert "Trust nothing" in summary.words[0]


def test_arviz_sees_the_same_draws() -> None:
    draws = nuts(TARGET, 30, 3, warmup=10)
    import warnings

    arviz()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        data = draws.to_arviz()
    assert data.posterior["x"].shape == (3, 30, 2)
    np.testing.assert_array_equal(data.posterior["s"].values, draws["s"].numpy())
    assert {"lp", "diverging", "acceptance_rate", "n_steps", "tree_depth", "energy"} <= set(data.sample_stats)


def test_without_arviz_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def absent(name: str, *rest: object, **options: object) -> object:
        if name == "arviz":
            raise ImportError(name)
        return real_import(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ConfigError, match=r"pip install 'jensen\[diagnostics\]'"):
        Draws(TARGET, noise(2, 10), "nuts", {}, {}).to_arviz()
