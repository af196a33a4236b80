from collections.abc import Callable

import pytest
import torch

from inference.mcmc.targets import COVARIANCE, MEAN, agrees, crooked, crooked_moments, gaussian
from jensen.errors import ConfigError, DataError, FitError, ShapeError
from jensen.inference import Target, discrete, interval, positive, real, simplex
from jensen.inference.mcmc import Draws, hmc, metropolis, metropolis_within_gibbs, nuts

Sampler = Callable[..., Draws]

EXACT = {
    "nuts": lambda target, seed=0: nuts(target, 300, 8, warmup=120, seed=seed),
    "nuts diagonal": lambda target, seed=0: nuts(target, 300, 8, warmup=120, metric="diagonal", seed=seed),
    "hmc": lambda target, seed=0: hmc(target, 400, 8, warmup=120, seed=seed),
    "metropolis": lambda target, seed=0: metropolis(target, 1500, 16, seed=seed),
    "metropolis within gibbs": lambda target, seed=0: metropolis_within_gibbs(target, 1000, 16, seed=seed),
}


@pytest.mark.parametrize("name", EXACT)
def test_means_and_covariances_of_a_normal(name: str) -> None:
    draws = EXACT[name](gaussian())
    x = draws["x"]
    centred = x - MEAN
    assert agrees(x, MEAN)
    assert agrees(centred[..., :, None] * centred[..., None, :], COVARIANCE)


@pytest.mark.parametrize("name", EXACT)
def test_moments_of_a_crooked_density_are_those_of_quadrature(name: str) -> None:
    x = EXACT[name](crooked(), 1)["x"]
    assert agrees(torch.stack([x, x**2, x**3], -1), crooked_moments())


def test_a_simplex_a_share_and_a_scale_of_known_moments() -> None:
    """Dirichlet(2, 3, 4), Beta(2, 5) and Gamma(3, rate 2), by unconstrained coordinates."""
    concentration = torch.tensor([2.0, 3.0, 4.0], dtype=torch.float64)

    def log_joint(p: dict[str, torch.Tensor]) -> torch.Tensor:
        beta = p["b"].log() + 4 * torch.log1p(-p["b"])
        return ((concentration - 1) * p["w"].log()).sum() + beta + 2 * p["s"].log() - 2 * p["s"]

    draws = nuts(Target(log_joint, {"w": simplex(3), "b": interval(0.0, 1.0), "s": positive()}), 400, 8)
    assert agrees(draws["w"], concentration / 9)
    assert agrees(draws["b"], 2 / 7)
    assert agrees(draws["s"], 1.5)
    assert agrees(draws["s"] ** 2, 3.0)
    summary = draws.summary()
    assert summary.reliable
    assert summary.names[0] == "w[0]"


def test_the_masses_know_correlations() -> None:
    """Paths are short where coordinates are whitened, and long where only widths are known."""
    precision = torch.linalg.inv(torch.tensor([[1.0, 0.995], [0.995, 1.0]], dtype=torch.float64))
    target = Target(lambda p: -0.5 * p["x"] @ precision @ p["x"], {"x": real(2)})
    lengths = {
        kind: nuts(target, 60, 4, warmup=80, metric=kind).stats["leapfrogs"].double().mean()
        for kind in ("dense", "diagonal")
    }
    assert 2 < lengths["dense"] < 8
    assert lengths["diagonal"] > 2 * lengths["dense"]


def test_acceptance_is_the_one_wanted() -> None:
    for wanted in (0.7, 0.95):
        draws = nuts(gaussian(), 60, 16, acceptance=wanted)
        assert float(draws.stats["acceptance"].mean()) == pytest.approx(wanted, abs=0.08)


@pytest.mark.parametrize("sampler", [nuts, hmc, metropolis])
def test_the_same_seed_gives_the_same_draws(sampler: Sampler) -> None:
    first, again, other = (sampler(gaussian(), 20, 3, warmup=20, seed=seed).positions for seed in (5, 5, 6))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_nothing_is_left_seeded() -> None:
    torch.manual_seed(3)
    wanted = torch.rand(1)
    torch.manual_seed(3)
    nuts(gaussian(), 5, 2, warmup=5)
    assert torch.equal(torch.rand(1), wanted)


def test_draws_and_chains_are_as_many_as_asked_for() -> None:
    draws = nuts(gaussian(), 7, 3, warmup=10)
    assert draws["x"].shape == (3, 7, 3)
    assert draws.stats["tree_depth"].shape == (3, 7)
    assert draws.sample(torch.Size([2, 5]))["x"].shape == (2, 5, 3)
    chosen = draws.sample(21)["x"]
    assert torch.equal(chosen.sort(0).values, draws["x"].flatten(0, 1).sort(0).values)
    with pytest.raises(ConfigError, match="asked for 22 of 21 draws"):
        draws.sample(22)
    with pytest.raises(ConfigError, match="did you mean 'x'"):
        draws["xx"]


def test_callbacks_hear_of_the_progress(capsys: pytest.CaptureFixture[str]) -> None:
    heard: list[tuple[int, int]] = []
    metropolis(gaussian(), 50, 4, warmup=5, on_draws=lambda done, wanted: heard.append((done, wanted)))
    assert heard[-1] == (200, 200)
    assert capsys.readouterr().err == ""


def test_a_bar_is_shown_where_it_is_wanted(capsys: pytest.CaptureFixture[str], monkeypatch) -> None:
    monkeypatch.setattr("jensen.inference.mcmc.watching._PATIENCE", 0.0)
    metropolis(gaussian(), 50, 4, warmup=5, progress=True)
    assert "metropolis: draws" in capsys.readouterr().err


def test_a_metropolis_target_needs_no_gradient() -> None:
    target = Target(lambda p: torch.where(p["x"].abs() < 1, 0.0, -torch.inf).squeeze(), {"x": real()})
    x = metropolis(target, 1000, 8)["x"]
    assert float(x.abs().max()) < 1
    assert agrees(x**2, 1 / 3)


def test_a_proposal_of_ones_own() -> None:
    x = metropolis(gaussian(), 2000, 8, covariance=COVARIANCE, warmup=200)["x"]
    assert agrees(x, MEAN)
    with pytest.raises(ShapeError, match=r"covariance has shape \(2, 2\)"):
        metropolis(gaussian(), covariance=torch.eye(2))
    with pytest.raises(ConfigError, match="isn't positive definite"):
        metropolis(gaussian(), covariance=-torch.eye(3))


@pytest.mark.parametrize("sampler", [nuts, hmc, metropolis])
def test_bad_starts_are_refused(sampler: Sampler) -> None:
    target = Target(lambda p: -0.5 * p["x"].square() + torch.log(p["x"]), {"x": real()})
    with pytest.raises(DataError, match=r"nan at the starting point of 4 of 4 chains, such as \{'x': -1.0\}"):
        sampler(target, 10, 4, init={"x": -1.0})
    with pytest.raises(DataError, match="init holds 1 numbers that are not finite"):
        sampler(target, 10, 4, init=torch.tensor([torch.nan]))
    with pytest.raises(ShapeError, match=r"init has shape \(3, 1\)"):
        sampler(target, 10, 4, init=torch.ones(3, 1))
    assert sampler(target, 10, 4, warmup=5, init={"x": torch.ones(4)})["x"].shape == (4, 10)


def test_where_no_start_is_finite_it_says_so() -> None:
    with pytest.raises(FitError, match="every starting point"):
        nuts(Target(lambda p: p["x"] * torch.nan, {"x": real()}), 10, 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"draws": 0}, "draws is 0"),
        ({"chains": 0}, "chains is 0"),
        ({"warmup": -1}, "warmup is -1"),
        ({"acceptance": 1.0}, "acceptance is 1.0"),
        ({"max_depth": 0}, "max_depth is 0"),
        ({"metric": "round"}, "unknown metric 'round'"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        nuts(gaussian(), **options)


def test_an_improper_posterior_is_named() -> None:
    """Only the sum of both is known."""
    target = Target(lambda p: -0.5 * (p["a"] + p["b"] - 1).square(), {"a": real(), "b": real()})
    with pytest.raises(FitError, match=r"chains drift off.*'[ab]'.*improper"):
        nuts(target, 50, 4, warmup=60)
    assert not hmc(target, 60, 4, warmup=60).summary().reliable


def test_so_is_a_scale_that_nothing_bounds() -> None:
    target = Target(lambda p: -0.5 * p["x"].square() - 0 * p["s"], {"x": real(), "s": positive()})
    with pytest.raises(FitError, match=r"chains drift off.*'s'"):
        nuts(target, 50, 4, warmup=60)


def test_blocks_that_drift_off_are_improper() -> None:
    target = Target(lambda p: -0.5 * p["x"].square() - 0 * p["s"], {"x": real(), "s": positive()})
    found = metropolis_within_gibbs(target, 300, 4, warmup=300)
    assert "drift off along 's'" in found.summary().words[0]


def test_discrete_parameters_are_drawn_along():
    y = torch.tensor([-2.0, 2.5], dtype=torch.float64)

    def log_joint(p):
        centre = torch.where(p["z"] == 1, p["mu"], -p["mu"])
        return -0.5 * (p["mu"] - 2) ** 2 - 0.5 * ((y - centre) ** 2).sum()

    found = nuts(Target(log_joint, {"mu": real(), "z": discrete(2, 2)}), draws=200, chains=4)
    assert found["z"].shape == (4, 200, 2)
    assert float(found["z"][..., 1].double().mean()) > 0.95
    assert float(found["z"][..., 0].double().mean()) < 0.05
    assert "z[1]" in str(found.summary())
