from math import log, sqrt

import pytest
import torch

from jensen.evaluation import (
    active_units,
    evaluate,
    importance_pass,
    kl_per_dimension,
    posterior_means,
    reconstruction_error,
    reconstruction_errors,
    reconstructions,
)
from jensen.likelihoods import Normal
from jensen.models import LatentVariableModel
from jensen.nets import MLP
from jensen.posteriors import DiagonalNormal, FullNormal
from jensen.priors import LearnedNormal, NormalMixture, StandardNormal
from jensen.seeding import seeded
from testbed import class_latent, linear_gaussian

KEYS = {
    "elbo",
    "nll",
    "nll_standard_error",
    "nll_test_standard_error",
    "gap",
    "log_likelihood",
    "kl",
    "nats_per_dim",
    "bits_per_dim",
    "samples",
    "n",
    "active_units",
    "kl_per_dimension",
    "reconstruction_error",
    *(
        f"{name}_test_standard_error"
        for name in ("elbo", "gap", "log_likelihood", "kl", "reconstruction_error")
    ),
}


def model(prior=None, posterior: str = "normal") -> LatentVariableModel:
    with seeded(2):
        if posterior == "normal":
            q = DiagonalNormal(MLP((2, 3), (2, 4), hidden=(5,)))
        else:
            q = FullNormal(MLP((2, 3), FullNormal.parameter_shape(4), hidden=(5,)))
        likelihood = Normal(MLP((4,), (1, 2, 3), hidden=(5,)), (2, 3))
        return LatentVariableModel(StandardNormal(4) if prior is None else prior, q, likelihood).double()


def data(n: int = 30) -> torch.Tensor:
    return torch.randn(n, 2, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def test_numbers_agree_with_each_other_and_with_the_pass() -> None:
    x = data()
    numbers = evaluate(model(), x, 50, seed=5)
    assert set(numbers) == KEYS
    found = importance_pass(model(), x, 50, seed=5)
    assert numbers["nll"] == pytest.approx(-float(found.evidence.mean()), rel=1e-12)
    assert numbers["elbo"] == pytest.approx(float(found.elbo.mean()), rel=1e-12)
    assert numbers["elbo"] == pytest.approx(numbers["log_likelihood"] - numbers["kl"], rel=1e-12)
    assert numbers["gap"] == pytest.approx(-numbers["nll"] - numbers["elbo"], rel=1e-12)
    assert numbers["nats_per_dim"] == pytest.approx(numbers["nll"] / 6, rel=1e-12)
    assert numbers["bits_per_dim"] == pytest.approx(numbers["nats_per_dim"] / log(2), rel=1e-12)
    assert (numbers["samples"], numbers["n"]) == (50, 30)
    # The log-mean of weights is no less than their mean log, whatever the draws.
    assert numbers["gap"] > 0
    # Errors of independent data add in squares; over data it is the error of a mean.
    assert numbers["nll_standard_error"] == pytest.approx(
        sqrt(sum(float(e) ** 2 for e in found.standard_error)) / 30, rel=1e-12
    )
    spread = sqrt(sum((float(v) + numbers["nll"]) ** 2 for v in found.evidence) / 29)
    assert numbers["nll_test_standard_error"] == pytest.approx(spread / sqrt(30), rel=1e-12)
    # The errors over data are those of each datum's own numbers, of the gap of their paired difference.
    each = {
        "elbo": found.elbo,
        "gap": found.evidence - found.elbo,
        "log_likelihood": found.log_likelihood,
        "kl": found.log_likelihood - found.elbo,
        "reconstruction_error": reconstruction_errors(model(), x),
    }
    for name, values in each.items():
        assert numbers[name] == pytest.approx(float(values.mean()), rel=1e-9)
        deviations = sum((float(v) - numbers[name]) ** 2 for v in values)
        assert numbers[f"{name}_test_standard_error"] == pytest.approx(sqrt(deviations / 29 / 30), rel=1e-9)


def test_exact_posterior_has_no_gap_and_no_error() -> None:
    bed = linear_gaussian(n=8)
    numbers = evaluate(bed.model, bed.batch.x, 10)
    assert -numbers["nll"] == pytest.approx(float(bed.log_evidence().detach().mean()), abs=1e-10)
    assert numbers["elbo"] == pytest.approx(float(bed.log_evidence().detach().mean()), abs=1e-10)
    assert numbers["gap"] == pytest.approx(0.0, abs=1e-10)
    assert numbers["nll_standard_error"] < 1e-6


def test_gap_of_a_wrong_posterior_is_its_divergence() -> None:
    bed = linear_gaussian(n=50, shift=0.1, log_stretch=0.1)
    numbers = [evaluate(bed.model, bed.batch.x, 1000, seed=seed) for seed in range(8)]
    gaps = torch.tensor([each["gap"] for each in numbers], dtype=torch.float64)
    exact = float(bed.gap().detach().mean())
    assert abs(float(gaps.mean()) - exact) <= 4 * float(gaps.std()) / sqrt(len(gaps))
    nlls = torch.tensor([each["nll"] for each in numbers], dtype=torch.float64)
    error = numbers[0]["nll_standard_error"] / sqrt(len(nlls))
    assert abs(float(nlls.mean()) + float(bed.log_evidence().detach().mean())) <= 4 * error


def test_one_datum_has_no_spread() -> None:
    numbers = evaluate(model(), data(1), 3)
    assert all(numbers[key] is None for key in KEYS if key.endswith("_test_standard_error"))
    assert numbers["active_units"] == 0


def test_samples_of_one() -> None:
    numbers = evaluate(model(), data(4), 1)
    assert -numbers["nll"] == pytest.approx(numbers["elbo"], rel=1e-12)
    assert numbers["nll_standard_error"] == 0


@pytest.mark.parametrize("learned", [False, True])
def test_kl_per_dimension_is_that_of_the_closed_form(learned: bool) -> None:
    prior = None
    if learned:
        prior = LearnedNormal(4)
        with torch.no_grad():
            prior.loc.copy_(torch.tensor([0.0, 1.0, -2.0, 0.5]))
            prior.log_scale.copy_(torch.tensor([0.0, 0.3, -0.4, 1.0]))
    fitted, x = model(prior), data()
    q = fitted.encode(x).cells
    m, s = (0.0, 1.0) if prior is None else (prior.loc, prior.log_scale.exp())
    expected = torch.log(s / q.scale) + (q.scale**2 + (q.loc - m) ** 2) / (2 * s**2) - 0.5
    found = kl_per_dimension(fitted, x, chunk=7)
    torch.testing.assert_close(found, expected.mean(0).detach(), rtol=1e-12, atol=0)
    assert evaluate(fitted, x, 2)["kl_per_dimension"] == pytest.approx(found.tolist(), rel=1e-12)


def test_kl_per_dimension_adds_up_to_the_kl() -> None:
    fitted, x = model(), data(5)
    draws = torch.tensor([evaluate(fitted, x, 100, seed=s)["kl"] for s in range(30)], dtype=torch.float64)
    total = float(kl_per_dimension(fitted, x).sum())
    assert abs(float(draws.mean()) - total) <= 4 * float(draws.std()) / sqrt(len(draws))


@pytest.mark.parametrize("kind", ["mixture", "full-normal", "class"])
def test_kl_per_dimension_where_there_is_no_closed_form(kind: str) -> None:
    if kind == "class":
        bed = class_latent()
        assert kl_per_dimension(bed.model, bed.batch.x) is None
        assert evaluate(bed.model, bed.batch.x, 2)["kl_per_dimension"] is None
        return
    fitted = model(NormalMixture(4, 3)) if kind == "mixture" else model(posterior="full-normal")
    assert kl_per_dimension(fitted, data()) is None
    assert evaluate(fitted, data(), 2)["kl_per_dimension"] is None


def test_active_units_vary_by_more_than_a_hundredth() -> None:
    # Variances, with n - 1, of 0.02, 0.0098, 0 and 2.
    means = torch.tensor([[0.1, 0.07, 5.0, 1.0], [-0.1, -0.07, 5.0, -1.0]])
    assert active_units(means) == 2


def test_posterior_means_in_chunks() -> None:
    fitted, x = model(), data(11)
    with torch.no_grad():
        expected = torch.cat([fitted.posterior(datum[None]).loc for datum in x])
    torch.testing.assert_close(posterior_means(fitted, x, chunk=4), expected, rtol=1e-12, atol=1e-14)


def test_reconstructions_are_the_means_given_the_posterior_mean() -> None:
    fitted, x = model(), data(11)
    with torch.no_grad():
        z = fitted.posterior(x).loc
        expected = fitted.likelihood.network(z)[:, 0]
    torch.testing.assert_close(reconstructions(fitted, x, chunk=4), expected, rtol=1e-12, atol=1e-14)
    error = float((expected - x).square().mean())
    assert reconstruction_error(fitted, x, chunk=4) == pytest.approx(error, rel=1e-12)
    assert evaluate(fitted, x, 2)["reconstruction_error"] == pytest.approx(error, rel=1e-12)
