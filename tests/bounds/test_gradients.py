from functools import partial
from math import log
from weakref import ref

import pytest
import torch
from torch import Tensor

from jensen.bounds import (
    GRADIENTS,
    Draw,
    cubo_estimate,
    doubly_reparameterised,
    elbo,
    iwae,
    pathwise,
    renyi,
    score_function,
    sticking_the_landing,
    weighted_elbo,
)
from jensen.errors import BoundError, ConfigError
from jensen.seeding import seeded
from jensen.training import Batch
from testbed import (
    SharedRegression,
    TwoLayerChain,
    assert_mean,
    binary_latents,
    class_latent,
    copied,
    expected_iwae,
    gradient_draws,
    gradients,
    linear_gaussian,
    repeated,
)

COPIES = 20_000
EXACT = {"rtol": 0.0, "atol": 1e-10}
OF_THE_POSTERIOR = ("posterior.shift", "posterior.log_stretch")
OF_THE_MODEL = ("likelihood.weight", "likelihood.bias", "likelihood.log_scale")


def one_latent():
    return linear_gaussian(latent_dim=1, data_dim=3, n=1, shift=0.15, log_stretch=-0.2)


def draws_of(bed, estimator, bound, samples: int, copies: int = COPIES) -> dict[str, Tensor]:
    found = gradient_draws(bed.model, bed.batch, estimator, bound, samples, copies)
    assert set(found) == {*OF_THE_POSTERIOR, *OF_THE_MODEL}
    return found


@pytest.mark.parametrize(
    ("estimator", "samples"),
    [(pathwise, 1), (sticking_the_landing, 1), (score_function, 2), (score_function, 5)],
)
@pytest.mark.parametrize("variant", [{}, {"missing": 0.4}], ids=["plain", "masked"])
def test_gradients_of_the_elbo_are_unbiased(estimator, samples: int, variant) -> None:
    bed = linear_gaussian(n=1, shift=0.2, log_stretch=-0.3, seed=2, **variant)
    exact = gradients(bed.elbo().sum(), bed.model)
    for name, draws in draws_of(bed, estimator, elbo, samples).items():
        assert exact[name].abs().max() > 0.1, name
        assert_mean(draws, exact[name])


@pytest.mark.parametrize("samples", [2, 5])
@pytest.mark.parametrize("estimator", [pathwise, doubly_reparameterised, score_function])
def test_gradients_of_the_importance_weighted_bound_are_unbiased(estimator, samples: int) -> None:
    bed = one_latent()
    exact = gradients(expected_iwae(bed, samples), bed.model)
    for name, draws in draws_of(bed, estimator, iwae, samples).items():
        assert exact[name].abs().max() > 0.02, name
        assert_mean(draws, exact[name])


def test_sticking_the_landing_is_biased_for_the_importance_weighted_bound() -> None:
    bed = one_latent()
    exact = gradients(expected_iwae(bed, 5), bed.model)
    found = draws_of(bed, sticking_the_landing, iwae, 5)
    for name in OF_THE_MODEL:
        assert_mean(found[name], exact[name])
    for name in OF_THE_POSTERIOR:
        draws = found[name]
        standard_error = draws.std(0) / COPIES**0.5
        assert ((draws.mean(0) - exact[name]).abs() > 20 * standard_error).all(), name


def test_estimators_without_the_score_do_not_vary_at_the_exact_posterior() -> None:
    bed = linear_gaussian(n=1)
    for estimator, bound in [
        (sticking_the_landing, elbo),
        (sticking_the_landing, iwae),
        (doubly_reparameterised, iwae),
    ]:
        found = draws_of(bed, estimator, bound, 3, copies=50)
        for name in OF_THE_POSTERIOR:
            torch.testing.assert_close(found[name], torch.zeros_like(found[name]), **EXACT)
        assert found["likelihood.weight"].std(0).min() > 0.01
    # That of the path-wise gradient does vary there.
    assert draws_of(bed, pathwise, elbo, 3, copies=50)["posterior.shift"].std(0).min() > 0.01


def test_the_doubly_reparameterised_signal_grows_with_the_samples_where_that_of_the_path_fades() -> None:
    # A posterior wider than the exact one, so that the weights have a variance: then the ratio of the mean to
    # the standard deviation goes with the root of the number of samples, and with its inverse.
    bed = linear_gaussian(latent_dim=1, data_dim=3, n=1, shift=0.1, log_stretch=0.3)

    def clarity(estimator, samples: int) -> float:
        draws = draws_of(bed, estimator, iwae, samples, copies=4000)["posterior.shift"]
        return float(draws.mean(0).abs() / draws.std(0))

    # Sixteen times the samples: fourfold in theory, and half of that allows for the errors of 4000 copies.
    assert clarity(doubly_reparameterised, 64) > 2 * clarity(doubly_reparameterised, 4)
    assert clarity(pathwise, 64) < clarity(pathwise, 4) / 2


@pytest.mark.parametrize("name", GRADIENTS)
def test_nothing_of_a_step_outlives_it(name: str) -> None:
    """Hooks that held what they hang on would fill the memory step by step."""
    bed = linear_gaussian()
    estimate = GRADIENTS[name](bed.model, bed.batch, iwae, 3)
    estimate.surrogate.sum().backward()
    latent = ref(estimate.terms.latents["z"])
    del estimate
    assert latent() is None


def test_surrogates_and_terms() -> None:
    bed = linear_gaussian(shift=0.1)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=3)
    for name, bound in [("pathwise", elbo), ("pathwise", iwae), ("sticking-the-landing", iwae)]:
        with seeded(0):
            estimate = GRADIENTS[name](bed.model, bed.batch, bound, 3)
        torch.testing.assert_close(estimate.surrogate, bound(terms), **EXACT)
    for name in GRADIENTS:
        with seeded(0):
            estimate = GRADIENTS[name](bed.model, bed.batch, iwae, 3)
        # All draw the same latents from the same seed, and their terms carry the bound's value.
        torch.testing.assert_close(estimate.terms.latents["z"], terms.latents["z"], **EXACT)
        torch.testing.assert_close(iwae(estimate.terms), iwae(terms), **EXACT)
    with pytest.raises(ConfigError, match="did you mean 'score'"):
        GRADIENTS["scores"]


def test_two_layers() -> None:
    chain = TwoLayerChain(shift=0.2)
    x = chain.sample(1, seed=1)
    exact = gradients(chain.log_evidence(x).sum() - chain.gap(), chain)
    for estimator in (pathwise, sticking_the_landing, score_function):
        found = gradient_draws(chain, Batch(x), estimator, elbo, 2, 5000)
        for name in ("shift1", "shift2"):
            assert exact[name].abs().max() > 0.1
            assert_mean(found[name], exact[name])
    landed = gradient_draws(TwoLayerChain(), Batch(x), sticking_the_landing, elbo, 2, 50)
    for name in ("shift1", "shift2"):
        torch.testing.assert_close(landed[name], torch.zeros_like(landed[name]), **EXACT)


def test_two_layers_in_the_model_s_parameters() -> None:
    # With the exact posterior the gradient of the ELBO is that of the evidence.
    chain = TwoLayerChain()
    x = chain.sample(1, seed=1)
    exact = gradients(chain.log_evidence(x).sum(), chain)
    for estimator in (pathwise, score_function):
        found = gradient_draws(chain, Batch(x), estimator, iwae, 3, 5000)
        for name in ("upper_weight", "upper_bias", "lower_weight", "lower_bias"):
            assert exact[name].abs().max() > 0.1
            assert_mean(found[name], exact[name])


def test_a_shared_unknown() -> None:
    model = SharedRegression(shift=0.1, log_stretch=0.2)
    exact = gradients(model.log_evidence() - model.gap(), model)
    found = []
    with seeded(0):
        for _ in range(400):
            found.append(gradients(pathwise(model, model.data, elbo, 4).surrogate.sum(), model))  # noqa: PERF401
    for name in ("shift", "log_stretch"):
        assert_mean(torch.stack([part[name] for part in found]), exact[name])


@pytest.mark.parametrize("estimator", [pathwise, sticking_the_landing])
def test_enumeration_gives_the_exact_gradient(estimator) -> None:
    bed = class_latent(temperature=2.0)
    exact = gradients((bed.log_evidence() - bed.gap()).sum(), bed.model)
    found = gradients(estimator(bed.model, bed.batch, elbo, "all").surrogate.sum(), bed.model)
    assert exact["posterior.network.log_temperature"].abs() > 0.1
    for name, gradient in found.items():
        if "bias" not in name:  # the class bed's evidence is written without the bias, which is zero
            torch.testing.assert_close(gradient, exact[name], **EXACT)


def test_enumeration_gives_the_exact_gradient_of_the_evidence() -> None:
    bed = class_latent(temperature=2.0)
    exact = gradients(bed.log_evidence().sum(), bed.model)
    found = gradients(pathwise(bed.model, bed.batch, iwae, "all").surrogate.sum(), bed.model)
    assert exact["posterior.network.log_temperature"] == 0
    for name, gradient in found.items():
        if "bias" not in name:
            torch.testing.assert_close(gradient, exact[name], **EXACT)


def expected_elbo(log_likelihood: Tensor, log_prior: Tensor, log_posterior: Tensor) -> Tensor:
    return (log_likelihood + log_prior - log_posterior).mean(0)


def expected_weighted(log_likelihood: Tensor, log_prior: Tensor, log_posterior: Tensor) -> Tensor:
    return (log_likelihood + 3 * (log_prior - log_posterior)).mean(0)


def expected_log_mean(
    power: float, log_likelihood: Tensor, log_prior: Tensor, log_posterior: Tensor
) -> Tensor:
    log_weight = power * (log_likelihood + log_prior - log_posterior)
    return (torch.logsumexp(log_weight, 0) - log(len(log_weight))) / power


OF_DISCRETE = {
    "elbo": (elbo, expected_elbo),
    "iwae": (iwae, partial(expected_log_mean, 1.0)),
    "renyi": (partial(renyi, alpha=0.5), partial(expected_log_mean, 0.5)),
    "cubo": (cubo_estimate, partial(expected_log_mean, 2.0)),
    "weighted": (partial(weighted_elbo, beta=3.0), expected_weighted),
}


@pytest.mark.parametrize("samples", [2, 3])
@pytest.mark.parametrize("name", OF_DISCRETE)
def test_the_score_function_gradient_of_discrete_latents_is_unbiased(name: str, samples: int) -> None:
    bed = binary_latents()
    bound, formula = OF_DISCRETE[name]
    exact = gradients(bed.expected(formula, samples), bed.model)
    found = gradient_draws(bed.model, bed.batch, score_function, bound, samples, COPIES)
    assert set(found) == {
        "prior.logits",
        "posterior.logits",
        "likelihood.weight",
        "likelihood.bias",
        "likelihood.log_scale",
    }
    for parameter, draws in found.items():
        assert exact[parameter].abs().max() > 0.02, parameter
        assert_mean(draws, exact[parameter])


@pytest.mark.parametrize("name", ["elbo", "iwae"])
def test_leaving_one_out_reduces_the_variance(name: str) -> None:
    bed = binary_latents()
    bound, formula = OF_DISCRETE[name]
    exact = gradients(bed.expected(formula, 4), bed.model)["posterior.logits"]
    model = copied(bed.model, COPIES)
    with seeded(0):
        terms = model.terms(
            *repeated(bed.batch, COPIES), 4, draw=Draw(reparameterised=False, closed_form=False)
        )
    value = bound(terms)
    naive = value + value.detach() * terms.log_posterior["z"].sum(0)
    plain = gradients(naive.sum(), model)["posterior.logits"]
    assert_mean(plain, exact)
    controlled = gradient_draws(bed.model, bed.batch, score_function, bound, 4, COPIES)["posterior.logits"]
    assert controlled.var(0).sum() < 0.2 * plain.var(0).sum()


@pytest.mark.parametrize("name", ["elbo", "iwae"])
def test_the_score_function_gradient_written_out(name: str) -> None:
    # Data that differ, so that each has to get the baseline of its own draws.
    bed = linear_gaussian(n=4, shift=0.1)
    bound, formula = OF_DISCRETE[name]
    samples = 3
    with seeded(0):
        surrogate, terms = score_function(bed.model, bed.batch, bound, samples)
    log_q = terms.log_posterior["z"]
    zero = torch.zeros(samples, dtype=torch.float64)
    expected = bound(terms).sum()
    for b in range(4):
        log_weight = terms.log_ratio()[:, b].detach()
        value = formula(log_weight[:, None], 0, zero[:, None])[0]
        for s in range(samples):
            replaced = log_weight.clone()
            replaced[s] = log_weight[[k for k in range(samples) if k != s]].mean()
            baseline = formula(replaced[:, None], 0, zero[:, None])[0]
            # One part in S of the score is added back: that of the ELBO's -log q.
            expected = expected + (value - baseline + 1 / samples) * log_q[s, b]
    for difference in gradients(surrogate.sum() - expected, bed.model).values():
        torch.testing.assert_close(difference, torch.zeros_like(difference), **EXACT)


def test_the_score_function_gradient_needs_no_path() -> None:
    bed = linear_gaussian(shift=0.1)
    with seeded(0):
        terms = score_function(bed.model, bed.batch, elbo, 3).terms
    assert not terms.latents["z"].requires_grad


@pytest.mark.parametrize("bound", [elbo, renyi, partial(iwae)])
def test_the_doubly_reparameterised_gradient_is_that_of_the_importance_weighted_bound(bound) -> None:
    bed = linear_gaussian()
    with pytest.raises(BoundError, match="is that of the IWAE bound; use bound='iwae'"):
        doubly_reparameterised(bed.model, bed.batch, bound, 2)


def test_the_doubly_reparameterised_gradient_refuses_what_it_is_not_derived_for() -> None:
    chain = TwoLayerChain()
    with pytest.raises(BoundError, match=r"one group of latents, got \['z1', 'z2'\]"):
        doubly_reparameterised(chain, Batch(chain.sample(2, seed=1)), iwae, 2)
    bed = class_latent()
    with pytest.raises(BoundError, match="the latents were enumerated"):
        doubly_reparameterised(bed.model, bed.batch, iwae, "all")
    model = SharedRegression()
    with pytest.raises(BoundError, match="shared by all data"):
        doubly_reparameterised(model, model.data, iwae, 2)


@pytest.mark.parametrize("samples", [1, 0, "all"])
def test_the_score_function_gradient_needs_two_draws(samples) -> None:
    bed = class_latent()
    with pytest.raises(BoundError, match=f"needs at least 2 of them, got samples={samples}"):
        score_function(bed.model, bed.batch, elbo, samples)


def test_the_score_function_gradient_refuses_shared_unknowns() -> None:
    model = SharedRegression()
    with pytest.raises(BoundError, match=r"\['w'\] are shared by all data; use the path-wise gradient"):
        score_function(model, model.data, elbo, 2)


@pytest.mark.parametrize("estimator", [pathwise, sticking_the_landing, doubly_reparameterised])
def test_discrete_draws_carry_no_path(estimator) -> None:
    for bed in (class_latent(temperature=2.0), binary_latents()):
        with pytest.raises(BoundError, match="carry no path-wise gradient"):
            estimator(bed.model, bed.batch, iwae, 3)
