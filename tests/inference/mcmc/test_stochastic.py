import pytest
import torch
from torch.distributions import Normal

from inference.mcmc.targets import agrees
from jensen.errors import ConfigError, FitError
from jensen.inference import Target, real
from jensen.inference.mcmc import kept_steps, sghmc, sgld, step_sizes
from jensen.inference.mcmc.minibatches import Minibatches

PRECISION = torch.tensor([1.0, 4.0], dtype=torch.float64)
DATA = torch.randn(400, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 2 + 1


def normal() -> Target:
    return Target(lambda p: -0.5 * (PRECISION * p["x"].square()).sum(), {"x": real(2)})


def regression() -> Target:
    """The mean of normal data of scale 2 under a normal prior of scale 3."""
    return Target(
        lambda p: Normal(0.0, 3.0).log_prob(p["mu"]),
        {"mu": real()},
        log_likelihood=lambda p, x: Normal(p["mu"], 2.0).log_prob(x),
        data=(DATA,),
    )


def posterior() -> tuple[float, float]:
    precision = 1 / 9 + len(DATA) / 4
    return float(DATA.sum()) / 4 / precision, 1 / precision


@pytest.mark.parametrize("step", [0.1, 0.4])
def test_the_stationary_variance_of_constant_steps_is_known(step: float) -> None:
    draws = sgld(normal(), 200, 64, step_size=step, preconditioner="none", warmup=60, thin=4)
    wanted = 1 / (PRECISION * (1 - 0.25 * step * PRECISION))
    assert agrees(draws["x"] ** 2, wanted)
    # Far enough from the exact variance to tell both apart.
    assert not agrees(draws["x"] ** 2, 1 / PRECISION)


@pytest.mark.parametrize("friction", [0.5, 3.0])
def test_so_it_is_of_steps_with_inertia(friction: float) -> None:
    step = 0.5
    draws = sghmc(
        normal(), 400, 32, step_size=step, friction=friction, preconditioner="none", warmup=100, thin=5
    )
    assert agrees(draws["x"] ** 2, 1 / (PRECISION * (1 - 0.25 * step**2 * PRECISION)))
    # As far from the exact variance as the summary says.
    assert "by about 33.3% by discretisation" in draws.notes[0]


def test_decreasing_steps_come_nearer_than_constant_ones() -> None:
    errors = {}
    for schedule in ("constant", "decreasing"):
        draws = sgld(normal(), 200, 128, step_size=0.6, schedule=schedule, preconditioner="none", warmup=50)
        errors[schedule] = float((draws["x"][:, 100:, 1] ** 2).mean() * PRECISION[1] - 1)
    assert errors["constant"] == pytest.approx(1 / (1 - 0.6) - 1, rel=0.2)
    assert abs(errors["decreasing"]) < 0.5 * errors["constant"]


def test_step_sizes_and_the_times_of_draws() -> None:
    sizes = step_sizes(2.0, 11, "decreasing", 0.5)
    assert float(sizes[0]) == 2
    assert float(sizes[10]) == pytest.approx(2 * (1 + 100 / 11) ** -0.5)
    assert kept_steps(torch.ones(20), 4) == [4, 9, 14, 19]


def test_minibatch_gradients_are_unbiased() -> None:
    target = regression()
    batches = Minibatches(target, 20)
    points = torch.tensor([[0.3]], dtype=torch.float64).expand(500, -1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        estimates = torch.cat([batches(points) for _ in range(40)])
    assert 500 in batches.recorded
    wanted = target.value_and_gradient(points[:1])[1]
    error = estimates.std(0) / len(estimates) ** 0.5
    assert bool(((estimates.mean(0) - wanted[0]).abs() < 4 * error).all())
    # Chains see rows of their own.
    assert float(estimates[:500].std()) > 1


@pytest.mark.parametrize("sampler", [sgld, sghmc])
@pytest.mark.parametrize("preconditioner", ["curvature", "rms"])
def test_minibatches_find_the_posterior(sampler, preconditioner: str) -> None:
    mean, variance = posterior()
    draws = sampler(regression(), 150, 64, batch_size=50, preconditioner=preconditioner, warmup=200)
    assert agrees(draws["mu"], mean)
    assert float(draws["mu"].var()) == pytest.approx(variance, rel=0.2)
    assert "isn't exact" in str(draws.summary())


def test_what_is_said_of_the_variance_is_so() -> None:
    draws = sgld(normal(), 200, 128, step_size=0.4, preconditioner="none", warmup=60, thin=4)
    wide = float((draws["x"][..., 1] ** 2).mean() * PRECISION[1] - 1)
    said = float(draws.notes[0].split("by about ")[1].split("%")[0]) / 100
    assert said == pytest.approx(2 / 3, rel=0.02)
    assert wide == pytest.approx(said, rel=0.1)


def test_steps_that_are_too_large_stop_with_a_message() -> None:
    with pytest.raises(FitError, match=r"left the numbers within .* steps of size 50"):
        sgld(normal(), 100, 2, step_size=50.0, preconditioner="none", warmup=0, thin=10)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"step_size": -1.0}, "step_size is -1.0"),
        ({"schedule": "cyclic"}, "unknown schedule 'cyclic'"),
        ({"decay": 0.0}, "decay is 0.0"),
        ({"preconditioner": "adam"}, "unknown preconditioner 'adam'"),
        ({"batch_size": 10}, "minibatches if it was given log_likelihood"),
    ],
)
def test_bad_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        sgld(normal(), 10, 2, warmup=0, **options)


def test_a_batch_larger_than_the_data_is_refused() -> None:
    with pytest.raises(ConfigError, match="batch_size is 401; it has to be from 1 to the 400 rows"):
        sgld(regression(), 10, 2, batch_size=401)


def test_a_flat_density_has_no_step_size() -> None:
    with pytest.raises(FitError, match=r"no step size can be chosen.*improper"):
        sgld(Target(lambda p: p["x"].sum(), {"x": real(2)}), 10, 2)


def test_branches_in_minibatches_are_named() -> None:
    target = Target(
        lambda p: -p["mu"].square(),
        {"mu": real()},
        log_likelihood=lambda p, x: -(x - p["mu"]).square() if p["mu"] > 0 else -x.square(),
        data=DATA,
    )
    with pytest.raises(FitError, match="loop=True"):
        Minibatches(target, 5)(torch.zeros(2, 1).double())
