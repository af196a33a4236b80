from math import ceil

import pytest
import torch
from torch import Tensor

from jensen.bounds import iwae
from jensen.errors import BoundError, ConfigError, ShapeError
from jensen.evaluation import Estimate, evidence, importance_pass
from jensen.likelihoods import Normal
from jensen.models import LatentVariableModel
from jensen.nets import MLP
from jensen.posteriors import DiagonalNormal
from jensen.priors import NormalMixture, StandardNormal
from jensen.seeding import seeded
from testbed import LinearGaussianBed, assert_mean, class_latent, linear_gaussian

EXACT = {"rtol": 0.0, "atol": 1e-10}
VARIANTS = {
    "plain": {},
    "context": {"context_dim": 2},
    "masked": {"missing": 0.4},
    "both": {"context_dim": 2, "missing": 0.4},
}


def estimated(bed: LinearGaussianBed, samples: int, **options) -> Estimate:
    x, context, observed = bed.batch
    return evidence(bed.model, x, samples, context=context, observed=observed, **options)


def network_model(data_dim: int = 6, hidden: int = 7) -> LatentVariableModel:
    """A model whose parts are networks, in float64."""
    with seeded(1):
        return LatentVariableModel(
            StandardNormal(3),
            DiagonalNormal(MLP((data_dim,), (2, 3), hidden=(hidden,))),
            Normal(MLP((3,), (1, data_dim), hidden=(hidden,)), (data_dim,)),
        ).double()


def data(n: int, data_dim: int = 6) -> Tensor:
    return torch.randn(n, data_dim, dtype=torch.float64, generator=torch.Generator().manual_seed(n))


def rows_of(module: torch.nn.Module, event_dims: int) -> list[int]:
    """A list that grows by the number of rows at each call of a module."""
    rows: list[int] = []

    def count(module: torch.nn.Module, inputs: tuple[Tensor, ...]) -> None:
        rows.append(inputs[0].shape[: inputs[0].ndim - event_dims].numel())

    module.register_forward_pre_hook(count)
    return rows


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("samples", [1, 7])
def test_exact_posterior_gives_the_exact_evidence_without_error(variant, samples: int) -> None:
    bed = linear_gaussian(**variant)
    result = estimated(bed, samples)
    torch.testing.assert_close(result.value, bed.log_evidence().detach(), **EXACT)
    # Rounding of the second moment, under a square root.
    assert (result.standard_error < 1e-6).all()
    assert result.samples == samples
    assert result.value.dtype == result.standard_error.dtype == torch.float64
    assert not result.value.requires_grad


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("common_noise", [False, True])
def test_wrong_posterior_gives_the_evidence_within_the_error(variant, common_noise: bool) -> None:
    bed = linear_gaussian(shift=0.15, log_stretch=0.1, **variant)
    result = estimated(bed, 4000, common_noise=common_noise)
    assert (result.standard_error > 1e-3).all()
    assert ((result.value - bed.log_evidence()).abs() <= 4 * result.standard_error).all()


def test_class_latent_within_the_error() -> None:
    bed = class_latent(temperature=1.5)
    result = evidence(bed.model, bed.batch.x, 4000)
    assert (result.standard_error > 1e-4).all()
    assert ((result.value - bed.log_evidence()).abs() <= 4 * result.standard_error).all()


def test_one_sample_is_the_log_weight_and_few_are_the_importance_weighted_bound() -> None:
    bed = linear_gaussian(n=1, shift=0.3)
    # With all draws in one chunk the same seed gives the same draws, after those of the memory's measurement.
    for samples in (1, 9):
        result = estimated(bed, samples, seed=4)
        with seeded(4), torch.no_grad():
            bed.model.terms(bed.batch.x)
            expected = iwae(bed.model.terms(bed.batch.x, samples=samples))
        torch.testing.assert_close(result.value, expected, **EXACT)


def test_in_expectation_it_lies_below_the_evidence() -> None:
    bed = linear_gaussian(n=1, shift=0.4)
    x = bed.batch.x.expand(2000, -1)
    few = evidence(bed.model, x, 2).value
    assert few.mean() + 4 * few.std() / len(few) ** 0.5 < bed.log_evidence()


@pytest.mark.parametrize(("n", "samples"), [(1, 1), (1, 23), (3, 10), (19, 23), (513, 2), (1030, 1)])
@pytest.mark.parametrize("memory", [1, 20_000, 16 * 2**20])
def test_each_datum_is_encoded_once_and_decoded_samples_times(n: int, samples: int, memory: int) -> None:
    model = network_model()
    encoded, decoded = rows_of(model.posterior, 1), rows_of(model.likelihood, 1)
    evidence(model, data(n), samples, memory=memory)
    # One row more, with which the memory that a row takes is measured.
    assert sum(encoded) == n + 1
    assert sum(decoded) == n * samples + 1


def test_rows_at_once_fill_the_memory_and_no_more() -> None:
    model = network_model(data_dim=6, hidden=50)
    decoded = rows_of(model.likelihood, 1)
    memory = 100_000
    evidence(model, data(16), 1000, memory=memory)
    # Hidden layer before and after its activation, the output, and four arrays of a datum's size.
    row = 8 * (50 + 50 + 6 + 4 * 6)
    assert max(decoded) * row <= memory
    # The encoder's outputs are counted too, though they are there once for all draws.
    assert max(decoded) * (row + 8 * (50 + 50 + 6)) > 0.9 * memory
    assert len(decoded) == 1 + 2 * ceil(1000 / (max(decoded) // 8))


@pytest.mark.parametrize("samples", [1, 5, 12])
def test_chunks_add_up(samples: int) -> None:
    # Weights of the exact posterior are all alike, so that a chunk too many or too few would show.
    bed = linear_gaussian()
    row = 8 * 4 * bed.batch.x.shape[-1]
    result = importance_pass(bed.model, bed.batch.x, samples, memory=5 * 8 * row)
    exact = bed.log_evidence().detach()
    torch.testing.assert_close(result.evidence, exact, **EXACT)
    torch.testing.assert_close(result.elbo, exact, **EXACT)


@pytest.mark.parametrize("posterior", ["full", "diagonal"])
def test_common_noise_makes_a_datum_independent_of_the_others(posterior: str) -> None:
    if posterior == "full":
        bed = linear_gaussian(n=530, shift=0.2)
        model, x = bed.model, bed.batch.x
    else:
        model, x = network_model(), data(530)

    def values(x: Tensor) -> Tensor:
        return evidence(model, x, 8, common_noise=True, memory=20_000).value

    everything = values(x)
    order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
    # What is left is the rounding of matrix products, whose order of summation depends on their shape.
    rounding = {"rtol": 1e-12, "atol": 1e-12}
    torch.testing.assert_close(values(x[order]), everything[order], **rounding)
    torch.testing.assert_close(values(x[:13]), everything[:13], **rounding)
    torch.testing.assert_close(values(x[525:526]), everything[525:526], **rounding)
    # Own noise for each datum, on the other hand, depends on its place.
    own = evidence(model, x, 8).value
    assert not torch.allclose(evidence(model, x[order], 8).value, own[order], atol=1e-3)


def test_a_seed_repeats_the_draws_and_leaves_the_users_generator_alone() -> None:
    bed = linear_gaussian(shift=0.2)
    torch.manual_seed(12)
    before = torch.get_rng_state()
    first = estimated(bed, 10, seed=3).value
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(estimated(bed, 10, seed=3).value, first)
    assert not torch.equal(estimated(bed, 10, seed=4).value, first)
    # None goes on with the user's generator.
    one, other = estimated(bed, 10, seed=None).value, estimated(bed, 10, seed=None).value
    assert not torch.equal(one, other)
    assert not torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("common_noise", [False, True])
def test_standard_error_is_the_spread_of_repeated_estimates(common_noise: bool) -> None:
    bed = linear_gaussian(n=1, shift=0.15, log_stretch=0.1)
    if common_noise:
        runs = [estimated(bed, 300, seed=seed, common_noise=True) for seed in range(100)]
        values = torch.cat([run.value for run in runs])
        errors = torch.cat([run.standard_error for run in runs])
    else:
        result = evidence(bed.model, bed.batch.x.expand(2000, -1), 300)
        values, errors = result.value, result.standard_error
    # The error of a sample standard deviation of R normal numbers is one part in sqrt(2 R) of it.
    allowed = 4 / (2 * len(values)) ** 0.5
    assert float(values.std() / errors.square().mean().sqrt()) == pytest.approx(1.0, abs=allowed)


def test_elbo_and_log_likelihood_have_the_expectation_of_the_closed_form() -> None:
    bed = linear_gaussian(shift=0.2, log_stretch=-0.2)
    runs = [importance_pass(bed.model, bed.batch.x, 20, seed=seed) for seed in range(60)]
    assert_mean(torch.stack([run.elbo for run in runs]), bed.elbo().detach())
    q = bed.model.posterior(bed.encoder_input())
    kl = torch.distributions.kl_divergence(
        q, torch.distributions.MultivariateNormal(torch.zeros_like(q.loc), torch.eye(2, dtype=q.loc.dtype))
    )
    expected = (bed.elbo() + kl).detach()
    assert_mean(torch.stack([run.log_likelihood for run in runs]), expected)


def test_mask_hides_cells_and_context_matters() -> None:
    bed = linear_gaussian(missing=0.4, context_dim=2, shift=0.1)
    x, context, observed = bed.batch
    assert x.isnan().any()
    filled = torch.where(observed, x, 1e6)
    same = evidence(bed.model, filled, 10, context=context, observed=observed).value
    assert torch.equal(same, estimated(bed, 10).value)
    moved = evidence(bed.model, x, 10, context=context + 1, observed=observed).value
    assert not torch.allclose(moved, same, atol=0.1)


def test_progress_counts_the_data() -> None:
    seen: list[int] = []
    importance_pass(network_model(), data(21), 2, on_data=seen.append)
    assert sum(seen) == 21
    assert len(seen) > 1


def test_float32_model_is_summed_in_float64() -> None:
    model = network_model().float()
    x = data(5).float()
    result = evidence(model, x, 500)
    assert result.value.dtype == torch.float64
    exact = evidence(network_model(), data(5), 20_000, seed=1)
    error = (result.standard_error**2 + exact.standard_error**2).sqrt()
    assert ((result.value - exact.value).abs() <= 4 * error).all()


@pytest.mark.parametrize("samples", [0, -3])
def test_no_samples(samples: int) -> None:
    with pytest.raises(ConfigError, match=f"at least one draw .* samples={samples}"):
        evidence(network_model(), data(2), samples)


def test_no_data() -> None:
    with pytest.raises(ShapeError, match="no data to evaluate"):
        evidence(network_model(), data(2)[:0], 5)


def test_common_noise_of_a_family_without_it() -> None:
    model = network_model()
    model.posterior = _MixturePosterior()
    with pytest.raises(BoundError, match="common noise isn't known for MixtureSameFamily"):
        evidence(model, data(2), 5, common_noise=True)


class _MixturePosterior(NormalMixture):
    """The same mixture for every datum."""

    def __init__(self) -> None:
        super().__init__(3, 2)
        self.double()

    def forward(self, context: Tensor | None = None):
        return super().forward().expand((len(context),))
