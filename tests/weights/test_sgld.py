from typing import Any

import pytest
import torch
from torch import nn

import jensen as jn
from jensen.errors import ConfigError, FitError
from jensen.weights.likelihoods import NOISE
from jensen.weights.sgld import SgldOptions, _plan, cycle_sizes, preconditioner
from weights.linear import regression


def draws(method: str, **options: Any) -> torch.Tensor:
    """Of linear regression, (chains, draws, d)."""
    settings = {"epochs": 0, "chains": 64, "draws": 640, "schedule": "constant", **options}
    found = regression().fit(method, **settings)
    assert isinstance(found, jn.weights.MembersPosterior)
    return found.members["weight"][:, 0].unflatten(0, (64, 10))


@pytest.mark.parametrize(("method", "step_size"), [("sgld", 0.1), ("sghmc", 0.2)])
def test_moments_are_the_posteriors(method: str, step_size: float) -> None:
    reference = regression()
    found = draws(method, steps=1200, step_size=step_size, exploration=0.25)
    # Chains are independent of each other, so that their means have the error of 64 independent numbers.
    means = found.mean(1)
    error = means.std(0) / 8
    assert float(((means.mean(0) - reference.mean) / error).abs().max()) < 4
    variances = (found - reference.mean).square().mean(1)
    spread = variances.std(0) / 8
    wanted = reference.covariance.diagonal()
    # In the preconditioner's units no curvature exceeds three, the trace; sgld's variance is then too large by at most
    # 1 / (1 - 3 * 0.1 / 4), and that of steps with inertia by about 3 * 0.2^2 / 4.
    assert bool((variances.mean(0) > wanted - 4 * spread).all())
    assert bool((variances.mean(0) < 1.09 * wanted + 4 * spread).all())


def test_noise_of_minibatches_is_unbiased_and_costs_width() -> None:
    reference = regression()
    found = draws("sgld", epochs=150, learning_rate=0.05, steps=1200, minibatch=10, exploration=0.25)
    means = found.mean(1)
    error = means.std(0) / 8
    assert float(((means.mean(0) - reference.mean) / error).abs().max()) < 4.5
    widths = (found - reference.mean).square().mean((0, 1)) / reference.covariance.diagonal()
    # The default step size promises about 5 % each for discretisation and noise.
    assert float(widths.max()) < 1.35
    assert float(widths.min()) > 0.7


def test_cycles_explore_first_and_keep_at_equal_distances() -> None:
    sizes, noisy, places = _plan(1.0, SgldOptions(steps=80, cycles=2, chains=1, draws=8, exploration=0.5))
    assert sizes == cycle_sizes(1.0, 80, 2).tolist()
    assert [i for i, some in enumerate(noisy) if some] == [*range(20, 40), *range(60, 80)]
    assert len(places) == 8
    assert all(noisy[place] for place in places)
    time = torch.tensor([size if some else 0.0 for size, some in zip(sizes, noisy, strict=True)]).cumsum(0)
    assert float((time[places] - time[-1] * torch.arange(1, 9) / 8).abs().max()) <= 0.51
    constant = _plan(0.3, SgldOptions(steps=10, schedule="constant", chains=2, draws=4, exploration=0.5))
    assert constant == ([0.3] * 10, [True] * 10, [7, 9])


def test_the_preconditioner_is_that_of_a_diagonal_posterior() -> None:
    reference = regression()
    laplace = reference.fit("laplace", structure="diagonal", epochs=0)
    problem = jn.weights.Problem(laplace.network, reference.x, reference.y, laplace.likelihood, laplace.prior)
    found = preconditioner(problem, laplace.network.weights)["weight"][0]
    torch.testing.assert_close(found.square(), reference.mean_field_variance, rtol=1e-9, atol=0)


@pytest.mark.parametrize("method", ["sgld", "sghmc"])
def test_a_classifier_is_drawn_in_cycles(method: str) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    x = torch.eye(3)[y] * 2 + torch.randn(60, 3, generator=generator)
    network = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.Linear(8, 3))
    posterior = jn.weights.fit(
        network, x, y, method=method, epochs=10, learning_rate=0.05, steps=200, draws=20, minibatch=30
    )
    assert isinstance(posterior, jn.weights.MembersPosterior)
    assert len(posterior) == 20
    found = posterior.predict(x)
    assert found.samples == 20
    assert float((found.mean.argmax(1) == y).double().mean()) > 0.75
    assert float(found.mutual_information.mean()) > 0.005
    with pytest.raises(ConfigError, match="has no normal form to be the next prior"):
        posterior.update(x, y)


def test_the_noises_scale_is_drawn_too() -> None:
    reference = regression(n=200)
    posterior = jn.weights.fit(
        reference.network(),
        reference.x,
        reference.y,
        method="sgld",
        likelihood="normal",
        epochs=40,
        learning_rate=0.05,
        steps=800,
        chains=16,
    )
    assert isinstance(posterior, jn.weights.MembersPosterior)
    logs = posterior.members[NOISE]
    # The posterior of log s is about normal with variance 1 / 2n.
    assert abs(float(logs.mean()) - float(torch.tensor(0.5).log())) < 0.15
    assert 0.5 < float(logs.std()) * 400**0.5 < 1.5


def test_steps_that_are_too_large_are_named() -> None:
    with pytest.raises(FitError, match="the steps are too large; give a smaller step_size than 50"):
        draws("sgld", steps=400, step_size=50.0)
    with pytest.raises(ConfigError, match="unknown option of method 'sgld' 'friction'"):
        draws("sgld", friction=2.0)
    with pytest.raises(ConfigError, match="option exploration of method 'sgld'"):
        draws("sgld", exploration=1.0)


@pytest.mark.parametrize("method", ["sgld", "sghmc"])
def test_chains_that_go_astray_set_out_again_with_smaller_steps(method: str) -> None:
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 30)[:, None]
    y = (3 * x[:, 0]).sin() + 0.05 * torch.randn(30)
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    options = {"method": method, "epochs": 30, "steps": 400, "learning_rate": 0.05}
    posterior = jn.weights.fit(network, x, y, **options)
    assert isinstance(posterior, jn.weights.MembersPosterior)
    # No noise can be as large as the targets' spread, which is below one.
    assert float(posterior.members[NOISE].max()) < 0
    with pytest.raises(
        FitError, match=r"draws say less of the targets .*give a smaller step_size than 0\.33"
    ):
        jn.weights.fit(network, x, y, step_size=0.33, **options)
