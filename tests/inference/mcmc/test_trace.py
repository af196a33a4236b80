"""Draws as they come, and how many there are where their number is left open."""

import sys

import numpy as np
import pytest
import torch
from scipy.signal import lfilter

from jensen.inference import Target, real
from jensen.inference.mcmc import nuts
from jensen.inference.mcmc.trace import Trace, worth_more
from jensen.inference.mcmc.trees import Finished


def chains(correlation: float, draws: int = 1000) -> np.ndarray:
    """Four autoregressive chains of two coordinates, (4, draws, 2)."""
    noise = np.random.default_rng(0).standard_normal((4, draws + 200, 2))
    return lfilter([1.0], [1.0, -correlation], noise, axis=1)[:, 200:]


def finished(rows: list[int], first: float) -> Finished:
    """Transitions of some chains that end at numbers counted from the first."""
    n = len(rows)
    z = first + np.arange(n, dtype=float)
    whole = np.ones(n, dtype=np.int64)
    return Finished(np.array(rows), z[:, None], -z, z, whole, whole, z > 1e9, z)


def test_more_draws_are_worth_it_where_chains_move_slowly() -> None:
    assert not worth_more(chains(0.0))
    assert worth_more(chains(0.95))


def test_and_not_where_chains_rest_in_different_places() -> None:
    apart = chains(0.0)
    apart[2] += 10
    assert not worth_more(apart)


def test_each_chain_keeps_its_first_draws() -> None:
    trace = Trace(2, 1)
    for number in range(300):
        trace.keep(finished([0], number))
    trace.keep(finished([1, 0], 1000))
    assert trace.complete == 1
    assert trace.kept(5) == 6
    assert trace.positions(1).tolist() == [[[0.0]], [[1000.0]]]
    assert trace.stats(1)["log_prob"].tolist() == [[0.0], [-1000.0]]
    assert trace.z[0, :300, 0].tolist() == list(range(300))


def test_a_given_number_is_kept_to_and_an_open_one_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["jensen.inference.mcmc.nuts"], "DRAWS", 40)
    target = Target(lambda p: -0.5 * p["x"].square().sum(), {"x": real(2)})
    heard: list[tuple[int, int]] = []
    grown = nuts(target, chains=8, warmup=50, on_draws=lambda made, wanted: heard.append((made, wanted)))
    # 320 draws are fewer than four hundred effective ones.
    assert grown.draws > 40
    assert grown.draws % 40 == 0
    assert heard[-1] == (8 * grown.draws, 8 * grown.draws)
    same = nuts(target, 40, 8, warmup=50)
    assert same.draws == 40
    assert torch.equal(grown["x"][:, :40], same["x"])


@pytest.mark.slow
def test_a_funnel_is_not_called_improper() -> None:
    """Its chains begin deep in the neck, and their spread grows for a while."""

    def log_joint(p: dict[str, torch.Tensor]) -> torch.Tensor:
        v, x = p["v"], p["x"]
        return -0.5 * (v / 3).square() - 0.5 * (x.square() * torch.exp(-v)).sum() - 2.5 * v

    draws = nuts(Target(log_joint, {"v": real(), "x": real(5)}), 20, 4)
    assert draws["x"].shape == (4, 20, 5)
