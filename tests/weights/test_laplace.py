from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import nn
from torch.distributions import MultivariateNormal

import jensen as jn
from jensen.errors import ConfigError, DataError, ShapeError
from jensen.linalg import Kronecker
from jensen.seeding import seeded
from jensen.weights.laplace import LaplacePosterior
from jensen.weights.laplace.linearised import (
    NormalOutputs,
    RotatedOutputs,
    _thin_blocks,
    linearised_outputs,
)
from jensen.weights.map import MapOptions, most_probable
from jensen.weights.network import MEMORY
from weights.linear import LinearRegression, regression

EXACT = [
    {"structure": "full"},
    {"structure": "kronecker"},
    {"structure": "full", "subset": "last-layer"},
    {"structure": "kronecker", "subset": ["weight"]},
]


def assert_close(got: Any, wanted: Any, rtol: float = 1e-7, atol: float = 1e-9) -> None:
    torch.testing.assert_close(
        torch.as_tensor(got, dtype=torch.float64), torch.as_tensor(wanted).double(), rtol=rtol, atol=atol
    )


def fitted(problem: LinearRegression, **options: Any) -> LaplacePosterior:
    found = problem.fit("laplace", **{"epochs": 0, **options})
    assert isinstance(found, LaplacePosterior)
    return found


def covariance(posterior: LaplacePosterior) -> torch.Tensor:
    (block,) = posterior.precision.blocks
    inverse = torch.linalg.inv(block.matrix.dense())
    units = block.units.expand(block.packing.shape[-1])
    return inverse * units[:, None] * units


@pytest.mark.parametrize("options", EXACT)
def test_it_is_exact_for_linear_regression(options: dict[str, Any]) -> None:
    problem = regression()
    posterior = fitted(problem, **options)
    assert_close(posterior.mean["weight"][0], problem.mean)
    assert_close(covariance(posterior), problem.covariance)
    assert_close(posterior.variances()["weight"][0], problem.covariance.diagonal())
    assert_close(posterior.log_evidence, problem.log_evidence)
    x = torch.randn(7, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    found = posterior.predict(x)
    mean, variance = problem.predictive(x)
    assert_close(found.mean, mean)
    assert_close(found.variance, variance)
    assert found.samples == 0


def test_log_density_and_draws() -> None:
    problem = regression()
    posterior = fitted(problem, structure="full")
    reference = MultivariateNormal(problem.mean, problem.covariance)
    drawn = posterior.sample(4000, seed=1)["weight"]
    assert drawn.shape == (4000, 1, 3)
    assert_close(posterior.log_prob({"weight": drawn[:5]}), reference.log_prob(drawn[:5, 0]))
    error = (problem.covariance.diagonal() / 4000).sqrt()
    assert float(((drawn[:, 0].mean(0) - problem.mean) / error).abs().max()) < 4


def test_a_diagonal_keeps_the_diagonal() -> None:
    problem = regression()
    posterior = fitted(problem, structure="diagonal")
    assert_close(posterior.mean["weight"][0], problem.mean, rtol=1e-5)
    assert_close(posterior.variances()["weight"][0], problem.mean_field_variance)


@pytest.mark.parametrize("structure", ["full", "kronecker"])
def test_scales_of_prior_and_noise_are_those_of_the_largest_evidence(structure: str) -> None:
    problem = regression(d=4)

    def negative_evidence(logs: np.ndarray) -> float:
        changed = LinearRegression(problem.x, problem.y, float(np.exp(logs[0])), float(np.exp(logs[1])))
        return -float(changed.log_evidence)

    best = minimize(
        negative_evidence, np.zeros(2), method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-10}
    )
    posterior = jn.weights.fit(
        problem.network(),
        problem.x,
        problem.y,
        method="laplace",
        likelihood="normal",
        structure=structure,
        prior_scale="learned",
        epochs=0,
        polish=100,
    )
    assert isinstance(posterior, LaplacePosterior)
    assert posterior.noise_scale is not None
    assert_close(posterior.noise_scale, np.exp(best.x[0]), rtol=1e-4)
    assert_close(posterior.prior_scales["weight"], np.exp(best.x[1]), rtol=1e-4)
    assert_close(posterior.log_evidence, -best.fun, rtol=1e-8)
    exact = LinearRegression(problem.x, problem.y, posterior.noise_scale, posterior.prior_scales["weight"])
    assert_close(posterior.mean["weight"][0], exact.mean, rtol=1e-4)
    assert_close(covariance(posterior), exact.covariance, rtol=1e-5)
    # The noise is drawn with the weights, so that a sampled predictive has it too.
    found = posterior.predict(problem.x, predictive="sampled", samples=2)
    assert_close(found.aleatoric_variance, torch.full((30,), posterior.noise_scale**2), rtol=1e-6)


@pytest.mark.parametrize("options", EXACT)
def test_updates_in_two_parts_equal_the_fit_of_all(options: dict[str, Any]) -> None:
    whole = regression()
    first = LinearRegression(whole.x[:11], whole.y[:11])
    one = fitted(first, **options)
    two = one.update(whole.x[11:20], whole.y[11:20])
    three = two.update(whole.x[20:], whole.y[20:])
    assert_close(three.mean["weight"][0], whole.mean)
    assert_close(covariance(three), whole.covariance)
    assert_close(one.log_evidence + two.log_evidence + three.log_evidence, whole.log_evidence)
    assert_close(one.mean["weight"][0], first.mean)


def small(seed: int = 0, outputs: int = 3) -> nn.Module:
    with seeded(seed):
        return nn.Sequential(nn.Linear(2, 6), nn.Tanh(), nn.Linear(6, outputs))


def blobs(n: int = 90) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(n) % 3
    centres = torch.tensor([[0.0, 1.5], [-1.3, -0.8], [1.3, -0.8]])
    return centres[y] + 0.7 * torch.randn(n, 2, generator=generator), y


def classifier(**options: Any) -> LaplacePosterior:
    x, y = blobs()
    settings = {"epochs": 60, "learning_rate": 0.02, "rounds": 1, "polish": 2, **options}
    found = jn.weights.fit(small(), x, y, method="laplace", **settings)
    assert isinstance(found, LaplacePosterior)
    return found


@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "full"])
@pytest.mark.parametrize("subset", ["all", "last-layer", ["0"], "subnetwork"])
def test_structure_and_subset_are_independent(structure: str, subset: Any) -> None:
    options = {"structure": structure, "subset": subset, "subnetwork_size": 9}
    if subset == "subnetwork" and structure == "kronecker":
        with pytest.raises(ConfigError, match="whole layers; take structure='full' or 'diagonal'"):
            classifier(**options)
        return
    posterior = classifier(**options)
    x, y = blobs()
    found = posterior.predict(x)
    accuracy = float((found.mean.argmax(1) == y).double().mean())
    assert accuracy > 0.8
    drawn = posterior.sample(5, seed=0)
    sizes = {"all": 39, "last-layer": 21, "subnetwork": 9}
    wanted = sizes.get(subset, 18) if isinstance(subset, str) else 18
    spread = sum(int((value.std(0) > 0).sum()) for value in drawn.values())
    assert posterior.precision.size == wanted == spread
    # Away from the data the weights know less.
    assert float(posterior.predict(10 * x).mutual_information.mean()) > 0


def test_the_last_layers_short_way_is_the_long_way() -> None:
    posterior = classifier(subset="last-layer", prior_scale={"0": 1.0, "2.weight": 0.5, "2.bias": 2.0})
    x, _ = blobs(7)
    short = linearised_outputs(posterior.network, posterior.precision, x, MEMORY)
    assert isinstance(short, RotatedOutputs)
    rows = torch.func.jacrev(lambda w: posterior.network.single(w, x))(posterior.mean)
    rows = {name: rows[name] for name in posterior.precision.names}
    wanted = posterior.precision.inverse_gram(rows).float()
    torch.testing.assert_close(short.covariance(), wanted, rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(short.variance, wanted.diagonal(dim1=1, dim2=2), rtol=1e-3, atol=1e-4)
    general = NormalOutputs(short.loc, wanted)
    for link, tolerance in (("probit", 1e-3), ("monte-carlo", 0.08)):
        with seeded(0):
            a = short.predictive(posterior.likelihood, {}, link, 1000).mean
        with seeded(1):
            b = general.predictive(posterior.likelihood, {}, link, 1000).mean
        # An average of 1,000 probabilities has a standard error of at most 0.5 / sqrt(1000).
        assert float((a - b).abs().max()) < tolerance
    # The dense covariance of the weights, in their units.
    block = posterior.precision.blocks[0]
    units = block.units.expand(block.packing.shape).flatten()
    dense = torch.linalg.inv(block.matrix.dense()) * units[:, None] * units
    j = block.packing.pack(rows).flatten(2).double()
    torch.testing.assert_close(wanted.double(), j @ dense @ j.mT, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("structure", ["kronecker", "diagonal"])
def test_outputs_vary_as_by_dense_jacobians(structure: str) -> None:
    x, y = blobs(12)
    with seeded(0):
        network = nn.Sequential(
            nn.Linear(2, 5),
            nn.LayerNorm(5),
            nn.Tanh(),
            nn.Unflatten(1, (5, 1)),
            nn.Linear(1, 2),
            nn.Flatten(),
            nn.Linear(10, 3),
        )
    posterior = jn.weights.fit(
        network, x, y, method="laplace", structure=structure, epochs=1, rounds=1, polish=1
    )
    assert isinstance(posterior, LaplacePosterior)
    found = linearised_outputs(posterior.network, posterior.precision, x, 20_000)
    assert isinstance(found, NormalOutputs)
    rows = torch.func.jacrev(lambda w: posterior.network.single(w, x))(posterior.mean)
    wanted = torch.zeros(12, 3, 3, dtype=torch.float64)
    for block in posterior.precision.blocks:
        j = block.packed_rows(rows).flatten(2)
        wanted += j @ torch.linalg.inv(block.matrix.dense()) @ j.mT
    torch.testing.assert_close(found.covariance.double(), wanted, rtol=1e-4, atol=1e-6)
    if structure == "kronecker":
        thin, rest = _thin_blocks(posterior.network, posterior.precision, x)
        assert [block.packing.names[0] for block in thin] == ["0.weight", "6.weight"]
        # One sees each datum five times, the other is no product.
        assert [block.packing.names[0] for block in rest] == ["1.weight", "4.weight"]
    if structure == "diagonal":
        thin, _ = _thin_blocks(posterior.network, posterior.precision, x)
        assert [block.packing.names[0] for block in thin] == ["0.weight", "0.bias", "6.weight", "6.bias"]


def test_no_dense_product_is_formed_for_a_last_layer() -> None:
    # A dense precision of 300 x 401 weights would take 116 GB.
    with seeded(0):
        network = nn.Linear(400, 300)
        x, y = torch.randn(20, 400), torch.arange(20)
    posterior = jn.weights.fit(
        network, x, y, method="laplace", subset="last-layer", epochs=0, polish=0, rounds=1
    )
    for link in ("probit", "monte-carlo"):
        found = posterior.predict(x[:2], link=link, samples=5)  # type: ignore[call-arg]
        assert found.mean.shape == (2, 300)
        torch.testing.assert_close(found.mean.sum(1), torch.ones(2))


def test_the_probit_of_two_classes_is_near_the_integral() -> None:
    x, y = blobs()
    with seeded(0):
        network = nn.Linear(2, 1)
    posterior = jn.weights.fit(
        network, x, (y == 0).long(), method="laplace", likelihood="bernoulli", epochs=0, structure="full"
    )
    assert isinstance(posterior, LaplacePosterior)
    outputs = linearised_outputs(posterior.network, posterior.precision, x, MEMORY)
    assert isinstance(outputs, NormalOutputs)
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    scale = outputs.covariance[:, 0].double().sqrt()
    grid = outputs.loc.double() + scale * torch.as_tensor(nodes)
    integral = (grid.sigmoid() @ torch.as_tensor(weights)) / np.sqrt(2 * np.pi)
    # MacKay's approximation is off by less than 0.02 anywhere.
    assert float((posterior.predict(x, link="probit").mean - integral).abs().max()) < 0.02
    drawn = posterior.predict(x, link="monte-carlo", samples=4000)
    error = drawn.epistemic_variance.sqrt() / 4000**0.5
    assert float(((drawn.mean - integral).abs() / (error + 1e-9)).max()) < 4.5


def test_kronecker_is_nearer_to_full_than_a_diagonal() -> None:
    x, _ = blobs(30)
    found = {
        name: linearised_outputs(posterior.network, posterior.precision, x, MEMORY)
        for name in ("diagonal", "kronecker", "full")
        for posterior in [classifier(structure=name, polish=0)]
    }
    spread = {
        name: outputs.covariance for name, outputs in found.items() if isinstance(outputs, NormalOutputs)
    }
    error = {name: float((spread[name] - spread["full"]).norm()) for name in ("diagonal", "kronecker")}
    assert error["kronecker"] < error["diagonal"]


def test_steps_never_lower_the_joint_density() -> None:
    x, y = blobs()
    values = []
    for polish in (0, 1, 5):
        posterior = classifier(epochs=5, polish=polish, rounds=1)
        with torch.no_grad():
            likelihood = -nn.functional.cross_entropy(posterior.network.single({}, x), y, reduction="sum")
            prior = posterior.prior.log_prob({name: value[None] for name, value in posterior.mean.items()})
        values.append(float(likelihood + prior))
    assert values[0] < values[1] < values[2]


def test_a_posterior_is_kept_on_disk(tmp_path: Path) -> None:
    for options in ({}, {"structure": "full", "subset": "subnetwork"}, {"structure": "diagonal"}):
        posterior = classifier(**options)
        posterior.save(tmp_path)
        again = jn.weights.load(tmp_path, network=small(5))
        assert isinstance(again, LaplacePosterior)
        x, y = blobs()
        torch.testing.assert_close(again.predict(x).mean, posterior.predict(x).mean, rtol=0, atol=0)
        assert again.log_evidence == posterior.log_evidence
        assert again.update(x[:5], y[:5], epochs=1).precision.size == posterior.precision.size


def test_earlier_tasks_are_remembered() -> None:
    x, y = blobs()
    first = y < 2
    settings = {"likelihood": "categorical", "epochs": 40, "learning_rate": 0.05}
    posterior = jn.weights.fit(small(), x[first], y[first], method="laplace", **settings)
    kept = posterior.update(x[~first], y[~first])
    # The same training without the earlier posterior.
    problem = jn.weights.Problem(
        posterior.network, x[~first], y[~first], posterior.likelihood, posterior.prior
    )
    found, _, _ = most_probable(problem, MapOptions(epochs=40, learning_rate=0.05))
    with torch.no_grad():
        forgotten = float(nn.functional.cross_entropy(found.network.single({}, x[first]), y[first]))
    before = -float(posterior.predict(x[first]).log_prob(y[first]).mean())
    after = -float(kept.predict(x[first]).log_prob(y[first]).mean())
    assert after - before < 0.6 * (forgotten - before)
    assert float((kept.predict(x).mean.argmax(1) == y).double().mean()) > 0.7


def test_wrong_input_is_refused() -> None:
    x, y = blobs()
    with pytest.raises(ConfigError, match="needs prior='normal', got 'laplace'"):
        jn.weights.fit(small(), x, y, method="laplace", prior="laplace")
    with pytest.raises(ConfigError, match=r"structure.*'diagonal', 'kronecker' or 'full'.*'kfac'"):
        jn.weights.fit(small(), x, y, method="laplace", structure="kfac")
    with pytest.raises(ConfigError, match=r"'5'; there are: 0.weight"):
        jn.weights.fit(small(), x, y, method="laplace", subset=["5"])
    posterior = classifier()
    with pytest.raises(ShapeError, match=r"can't take data of shape \(1, 3\)"):
        posterior.update(torch.zeros(4, 3), torch.zeros(4, dtype=torch.long))
    with pytest.raises(ShapeError, match=r"\(1, 3\): module '0' \(Linear\)"):
        posterior.predict(torch.zeros(4, 3))
    with pytest.raises(ConfigError, match="samples has to be at least 1, got 0"):
        posterior.predict(x, samples=0)
    with pytest.raises(ConfigError, match="update can't change structure"):
        posterior.update(x, y, structure="full")
    with pytest.raises(DataError, match="2 of 180 cells of X are NaN"):
        posterior.update(torch.where(torch.arange(90)[:, None] == 3, torch.nan, x), y)
    with pytest.raises(ShapeError, match="90 data and y 5 targets"):
        posterior.update(x, y[:5])
    with pytest.raises(ConfigError, match="'linearised' or 'sampled', got 'both'"):
        posterior.predict(x, predictive="both")
    with pytest.raises(ConfigError, match="link='closed-form' isn't one of likelihood='categorical'"):
        posterior.predict(x, link="closed-form")


def test_blocks_share_one_eigenbasis_while_scales_are_tuned() -> None:
    posterior = classifier(prior_scale="learned")
    assert all(isinstance(block.matrix, Kronecker) for block in posterior.precision.blocks)
    scales = posterior.prior_scales
    assert scales["0.weight"] == scales["0.bias"] != 1.0
    assert scales["2.weight"] != scales["0.weight"]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("width", [1, 2])
def test_targets_that_are_fitted_exactly_are_known_to_their_rounding(dtype: torch.dtype, width: int) -> None:
    torch.manual_seed(0)
    x = torch.randn(12, 3)
    for y in (torch.ones(12, width), torch.zeros(12, width)):
        posterior = jn.weights.fit(nn.Linear(3, width).to(dtype), x, y, method="laplace", epochs=20)
        found = posterior.predict(x)
        assert posterior.noise_scale > 0.7 * torch.finfo(dtype).eps
        assert bool(found.log_prob(y).isfinite().all())
        assert bool(found.sample(2).isfinite().all())


class Scaled(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 2)
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * self.layer(x)


@pytest.mark.parametrize("structure", ["diagonal", "kronecker", "full"])
def test_a_single_number_may_be_a_weight(structure: str) -> None:
    torch.manual_seed(0)
    x, y = torch.randn(12, 3), torch.arange(12) % 2
    posterior = jn.weights.fit(Scaled(), x, y, method="laplace", structure=structure, epochs=1)
    drawn = posterior.sample(3)
    assert drawn["scale"].shape == (3,)
    assert posterior.log_prob(drawn).shape == (3,)


@pytest.mark.parametrize("structure", ["full", "diagonal"])
def test_what_lies_outside_of_a_subnetwork_stays_in_updates(structure: str) -> None:
    x, y = blobs()
    options = {"structure": structure, "subset": "subnetwork", "subnetwork_size": 6, "epochs": 5}
    posterior = jn.weights.fit(small(), x, y, method="laplace", **options)
    assert isinstance(posterior, LaplacePosterior)
    later = posterior.update(x + 0.5, y)
    masks = {
        name: mask for block in posterior.precision.blocks for name, mask in block.packing.masks().items()
    }
    assert sum(int(mask.sum()) for mask in masks.values()) == 6
    for name, mask in masks.items():
        change = later.mean[name] - posterior.mean[name]
        assert not bool(change[~mask].any())
    assert any(bool((later.mean[n] - posterior.mean[n])[mask].any()) for n, mask in masks.items())
