import pytest
import torch

from jensen.bounds import (
    Stage,
    VariationalObjective,
    doubly_reparameterised,
    elbo,
    iwae,
    score_function,
    sticking_the_landing,
    weighted_elbo,
)
from jensen.errors import BoundError
from jensen.seeding import seeded
from jensen.training import Progress
from testbed import binary_latents, class_latent, gradients, linear_gaussian

EXACT = {"rtol": 0.0, "atol": 1e-12}
START = Progress(0, 0.0, 0.0)


def test_the_loss_is_minus_the_mean_bound_and_the_record_says_what_it_is_made_of() -> None:
    bed = linear_gaussian(shift=0.1)
    with seeded(0):
        loss, record = VariationalObjective(bed.model, samples=4)(bed.batch, START)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=4)
    assert set(record) == {"elbo", "log_likelihood", "kl"}
    torch.testing.assert_close(loss, -elbo(terms).mean(), **EXACT)
    torch.testing.assert_close(record["elbo"].mean(), elbo(terms).mean().detach(), **EXACT)
    torch.testing.assert_close(record["kl"].mean(), terms.kl["z"].mean().detach(), **EXACT)
    torch.testing.assert_close(record["log_likelihood"].mean(), terms.log_likelihood.mean().detach(), **EXACT)
    assert not any(value.requires_grad for value in record.values())
    # The record must not stand in the way of the gradient.
    assert gradients(loss, bed.model)["posterior.shift"].abs().max() > 0.1


@pytest.mark.parametrize("estimator", [doubly_reparameterised, score_function])
def test_the_surrogate_is_never_recorded_as_the_bound(estimator) -> None:
    bed = linear_gaussian(shift=0.1)
    with seeded(0):
        loss, record = VariationalObjective(bed.model, iwae, estimator, samples=4)(bed.batch, START)
    with seeded(0):
        terms = bed.model.terms(*bed.batch, samples=4)
    torch.testing.assert_close(record["bound"].mean(), iwae(terms).mean().detach(), **EXACT)
    # The estimators take no closed forms, so the ELBO beside it is the sampled one.
    torch.testing.assert_close(record["elbo"].mean(), terms.log_ratio().mean().detach(), **EXACT)
    assert (loss + record["bound"].mean()).abs() > 1e-3


def test_the_weight_of_the_divergence_grows_over_the_warm_up() -> None:
    bed = linear_gaussian(shift=0.1)
    objective = VariationalObjective(bed.model, iwae, samples=4, beta=2.0, warm_up=10.0)
    for epoch, beta in [(0.0, 0.0), (2.5, 0.5), (5.0, 1.0), (10.0, 2.0), (30.0, 2.0)]:
        with seeded(0):
            loss, record = objective(bed.batch, Progress(0, epoch, 0.0))
        with seeded(0):
            terms = bed.model.terms(*bed.batch, samples=4)
        # A weight of one is no weighing at all: the bound that was asked for.
        expected = iwae(terms) if beta == 1.0 else weighted_elbo(terms, beta)
        torch.testing.assert_close(loss, -expected.mean(), **EXACT)
        torch.testing.assert_close(record["elbo"].mean(), elbo(terms).mean().detach(), **EXACT)
        torch.testing.assert_close(record["bound"].mean(), iwae(terms).mean().detach(), **EXACT)


def test_without_a_warm_up_the_first_epoch_has_the_full_weight() -> None:
    bed = linear_gaussian(shift=0.1)
    with seeded(0):
        loss, _ = VariationalObjective(bed.model)(bed.batch, START)
    with seeded(0):
        torch.testing.assert_close(loss, -elbo(bed.model.terms(*bed.batch)).mean(), **EXACT)


def test_free_bits() -> None:
    bed = linear_gaussian(shift=0.1)
    with seeded(0):
        loss, record = VariationalObjective(bed.model, free_bits=50.0)(bed.batch, START)
    assert record["kl"].mean() < 50
    torch.testing.assert_close(loss, 50 - record["log_likelihood"].mean(), **EXACT)
    with pytest.raises(BoundError, match="free bits weigh a datum's KL by the mean over its batch"):
        VariationalObjective(bed.model, estimator=score_function, free_bits=1.0)


def test_masked_data_and_a_context_reach_the_model() -> None:
    bed = linear_gaussian(context_dim=2, missing=0.4)
    with seeded(0):
        loss, _ = VariationalObjective(bed.model, estimator=sticking_the_landing, samples=2)(bed.batch, START)
    # Sampled densities and the exact posterior: no chance is left.
    torch.testing.assert_close(loss, -bed.log_evidence().mean(), rtol=0.0, atol=1e-10)


def test_enumerated_classes() -> None:
    bed = class_latent()
    loss, record = VariationalObjective(bed.model, iwae, samples="all")(bed.batch, START)
    torch.testing.assert_close(-loss, bed.log_evidence().mean(), rtol=0.0, atol=1e-10)
    torch.testing.assert_close(record["elbo"].mean(), -loss.detach(), rtol=0.0, atol=1e-10)


def test_discrete_latents_need_another_gradient_than_the_path_wise() -> None:
    bed = binary_latents()
    with seeded(0), pytest.raises(BoundError, match="carry no path-wise gradient; use gradient='score'"):
        VariationalObjective(bed.model, samples=2)(bed.batch, START)
    with seeded(0):
        loss, _ = VariationalObjective(bed.model, estimator=score_function, samples=16)(bed.batch, START)
    assert gradients(loss, bed.model)["posterior.logits"].abs().max() > 0


@pytest.mark.parametrize("weighing", [{"beta": 2.0}, {"free_bits": 0.5}, {"warm_up": 3.0}])
def test_the_doubly_reparameterised_gradient_takes_no_weighing(weighing: dict[str, float]) -> None:
    model = linear_gaussian().model
    with pytest.raises(BoundError, match=r"replace the bound by a weighted ELBO.*use the path-wise gradient"):
        VariationalObjective(model, iwae, doubly_reparameterised, 4, **weighing)
    VariationalObjective(model, iwae, doubly_reparameterised, 4)


def test_the_doubly_reparameterised_gradient_is_refused_for_another_bound() -> None:
    with pytest.raises(BoundError, match="that of the IWAE bound; use bound=iwae"):
        VariationalObjective(linear_gaussian().model, elbo, doubly_reparameterised, 4)


def test_the_second_stage_maximises_another_bound() -> None:
    bed = linear_gaussian(shift=0.1)
    tight = Stage(iwae, doubly_reparameterised, 4)
    objective = VariationalObjective(bed.model, warm_up=9.0, then=tight)
    with seeded(0):
        loss, record = objective(bed.batch, Progress(7, 3.0, 0.5, stage=1))
    with seeded(0):
        expected, _ = VariationalObjective(bed.model, *tight)(bed.batch, START)
    torch.testing.assert_close(loss, expected, **EXACT)
    assert set(record) == {"elbo", "log_likelihood", "kl", "bound"}
    # In the first stage it is the ELBO, whose KL counts a third by then.
    with seeded(0):
        loss, record = objective(bed.batch, Progress(7, 3.0, 0.5))
    torch.testing.assert_close(loss, (record["kl"] / 3 - record["log_likelihood"]).mean(), **EXACT)
    assert [objective.steady(Progress(7, 3.0, 0.5, stage=stage)) for stage in (0, 1)] == [False, True]


def test_a_second_stage_has_to_be_one() -> None:
    model = linear_gaussian().model
    with pytest.raises(BoundError, match="that of the IWAE bound"):
        VariationalObjective(model, then=Stage(elbo, doubly_reparameterised, 4))
    for weighing in ({"beta": 2.0}, {"free_bits": 0.5}):
        with pytest.raises(BoundError, match="has no second stage"):
            VariationalObjective(model, then=Stage(iwae), **weighing)


@pytest.mark.parametrize(
    "wrong", [{"beta": -1.0}, {"free_bits": -0.5}, {"warm_up": -1.0}, {"beta": float("nan")}]
)
def test_weighing_by_less_than_nothing(wrong: dict[str, float]) -> None:
    with pytest.raises(BoundError, match="numbers of at least 0; got beta="):
        VariationalObjective(linear_gaussian().model, **wrong)
