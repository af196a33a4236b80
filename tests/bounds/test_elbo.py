import pytest
import torch
from torch import Tensor

from jensen.bounds import Draw, Terms, elbo
from jensen.seeding import seeded
from testbed import SharedRegression, TwoLayerChain, assert_mean, class_latent, linear_gaussian

VARIANTS = {
    "plain": {},
    "context": {"context_dim": 2},
    "masked": {"missing": 0.4},
    "masked-context": {"missing": 0.4, "context_dim": 2},
}
# Quantities of some tens of nats are compared, each a sum of a few dozen numbers in float64.
EXACT = {"rtol": 0.0, "atol": 1e-10}


def single(terms: Terms) -> Tensor:
    """The ELBO of each sample alone, (samples, batch): their mean is the bound, their spread its error."""
    value = terms.log_likelihood
    for group in terms.log_prior:
        value = value - terms.divergence(group)
    return value


@pytest.mark.parametrize("variant", VARIANTS)
def test_elbo_of_the_exact_posterior_is_the_evidence(variant: str) -> None:
    bed = linear_gaussian(**VARIANTS[variant])
    torch.testing.assert_close(bed.elbo(), bed.log_evidence(), **EXACT)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=4000)
    # With both densities sampled nothing is left to chance: log w is log p(x) wherever z lies.
    torch.testing.assert_close(terms.log_ratio(), bed.log_evidence().expand(4000, -1), **EXACT)
    # With the KL in closed form the likelihood is left to chance.
    assert terms.kl["z"] is not None
    assert_mean(single(terms), bed.log_evidence())
    torch.testing.assert_close(elbo(terms), single(terms).mean(0), **EXACT)


@pytest.mark.parametrize("variant", VARIANTS)
def test_gap_of_a_wrong_posterior_is_its_divergence_from_the_exact_one(variant: str) -> None:
    bed = linear_gaussian(**VARIANTS[variant], shift=0.2, log_stretch=-0.3)
    target = bed.log_evidence() - bed.gap()
    assert (bed.gap() > 0.1).all()
    torch.testing.assert_close(bed.elbo(), target, **EXACT)
    with seeded(1):
        terms = bed.model.terms(*bed.batch, samples=4000)
    assert_mean(single(terms), target)
    assert_mean(terms.log_ratio(), target)


def test_missing_cells_are_integrated_out() -> None:
    bed = linear_gaussian(missing=0.4)
    x, _, observed = bed.batch
    # A datum's bound may not depend on what lies under the mask, be it NaN or a number.
    other = torch.where(observed, x, 1e3)
    with seeded(2):
        blank = bed.model.terms(x, observed=observed, samples=5).log_likelihood
    with seeded(2):
        filled = bed.model.terms(other, observed=observed, samples=5).log_likelihood
    torch.testing.assert_close(blank, filled, rtol=0.0, atol=0.0)
    # All cells observed is the same as no mask at all, although the posterior reads the mask.
    whole = torch.where(observed, x, 0.0)
    with seeded(2):
        masked = elbo(bed.model.terms(whole, observed=torch.ones_like(observed)))
    with seeded(2):
        unmasked = elbo(bed.model.terms(whole))
    torch.testing.assert_close(masked, unmasked, **EXACT)


def test_two_layers_with_the_exact_posterior() -> None:
    chain = TwoLayerChain()
    x = chain.sample(5, seed=1)
    with seeded(0):
        terms = chain.terms(x, samples=4000)
    torch.testing.assert_close(terms.log_ratio(), chain.log_evidence(x).expand(4000, -1), **EXACT)
    assert_mean(single(terms), chain.log_evidence(x))
    torch.testing.assert_close(elbo(terms), single(terms).mean(0), **EXACT)


def test_two_layers_with_a_wrong_posterior() -> None:
    chain = TwoLayerChain(shift=0.2)
    x = chain.sample(5, seed=1)
    with seeded(0):
        terms = chain.terms(x, samples=4000)
    assert chain.gap() > 0.1
    assert_mean(single(terms), chain.log_evidence(x) - chain.gap())
    assert_mean(terms.log_ratio(), chain.log_evidence(x) - chain.gap())


@pytest.mark.parametrize("likelihood", ["normal", "bernoulli"])
@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_enumeration_leaves_nothing_to_chance(likelihood: str, temperature: float) -> None:
    bed = class_latent(likelihood, temperature=temperature)
    terms = bed.model.terms(bed.batch.x, samples="all")
    assert bool((bed.gap() > 0.01).all()) == (temperature != 1.0)
    torch.testing.assert_close(elbo(terms), bed.log_evidence() - bed.gap(), **EXACT)
    # The sampled KL, enumerated, is the closed one.
    sampled = Terms(
        terms.log_likelihood, terms.log_prior, terms.log_posterior, {"z": None}, log_weight=terms.log_weight
    )
    torch.testing.assert_close(elbo(sampled), elbo(terms), **EXACT)


def test_sampled_classes_agree_with_enumerated_ones() -> None:
    bed = class_latent(temperature=2.0)
    with seeded(0), torch.no_grad():
        terms = bed.model.terms(bed.batch.x, samples=4000)
    assert terms.log_weight is None
    assert_mean(single(terms), (bed.log_evidence() - bed.gap()).detach())


@pytest.mark.parametrize(("shift", "log_stretch"), [(0.0, 0.0), (0.1, 0.2)])
def test_minibatches_of_a_shared_unknown_sum_to_the_bound_of_the_data_set(
    shift: float, log_stretch: float
) -> None:
    model = SharedRegression(shift=shift, log_stretch=log_stretch)
    x, c, _ = model.data
    target = model.log_evidence() - model.gap()
    samples = 4000
    # 23 data in batches of 5, the last one of 3: N/B differs from batch to batch.
    with seeded(0):
        parts = [
            single(model.terms(*part, samples=samples)) for part in zip(x.split(5), c.split(5), strict=True)
        ]
    assert [part.shape[1] for part in parts] == [5, 5, 5, 5, 3]
    assert_mean(torch.cat(parts, 1).sum(1), target)


def test_a_shared_unknown_with_the_exact_posterior() -> None:
    model = SharedRegression()
    x, c, _ = model.data
    # The same w for every batch and both densities sampled: the sum is log p(data, w) - log q(w), which is
    # the log-evidence whatever w is, if each datum bears one part in N of the KL.
    total = torch.zeros(3, dtype=torch.float64)
    for part in zip(x.split(5), c.split(5), strict=True):
        with seeded(0):
            terms = model.terms(*part, samples=3, draw=Draw(closed_form=False))
        total = total + single(terms).sum(1)
    torch.testing.assert_close(total, model.log_evidence().expand(3), **EXACT)


def test_one_minibatch_is_an_unbiased_estimate_of_the_whole() -> None:
    model = SharedRegression(shift=0.1)
    x, c, _ = model.data
    generator = torch.Generator().manual_seed(0)
    with seeded(0), torch.no_grad():
        estimates = []
        for _ in range(600):
            rows = torch.randperm(len(x), generator=generator)[:4]
            terms = model.terms(x[rows], c[rows])
            estimates.append(terms.scale * elbo(terms).sum())
    assert_mean(torch.stack(estimates), model.log_evidence() - model.gap().detach())
