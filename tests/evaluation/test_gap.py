import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, MultivariateNormal, Normal, kl_divergence

from jensen.distributions import Conditional, CoupledNormal
from jensen.errors import BoundError, ConfigError
from jensen.evaluation import Annealing, Refinement, evaluate_gap, gap, refine
from jensen.evaluation.estimate import exactly
from jensen.models import LatentVariableModel
from testbed import (
    DTYPE,
    LinearGaussianBed,
    SharedRegression,
    TwoLayerChain,
    as_model,
    class_latent,
    linear_gaussian,
)

LONG = Refinement(steps=400, samples=4)


class OffMeanField(Conditional):
    """The best normal with independent latents, moved and stretched in units of its scale."""

    def __init__(self, bed: LinearGaussianBed, move: float, log_stretch: float) -> None:
        super().__init__()
        self.exact = bed.model.posterior.exact
        self.move, self.log_stretch = move, log_stretch

    def best(self, context: Tensor) -> Independent:
        exact = self.exact(context)
        # The optimum of KL(q || p) over diagonal normals: the exact mean, the diagonal of the exact precision.
        scale = exact.precision_matrix.diagonal(dim1=-2, dim2=-1).rsqrt()
        return Independent(Normal(exact.mean, scale), 1)

    def forward(self, context: Tensor | None = None) -> Independent:
        best = self.best(context).base_dist
        stretch = torch.tensor(self.log_stretch, dtype=DTYPE).exp()
        return Independent(Normal(best.loc + self.move * best.scale, stretch * best.scale), 1)


def off(**options) -> tuple[LinearGaussianBed, LatentVariableModel]:
    bed = linear_gaussian(latent_dim=3, **options)
    parts = (bed.model.prior, OffMeanField(bed, 0.5, 0.3), bed.model.likelihood)
    return bed, LatentVariableModel(*parts, mask_as_input=bed.model.mask_as_input)


def kl(q: Independent, p: MultivariateNormal) -> Tensor:
    full = MultivariateNormal(q.mean, torch.diag_embed(q.variance))
    return kl_divergence(full, p).detach()


@pytest.mark.parametrize(
    "options", [{}, {"context_dim": 2}, {"missing": 0.3}], ids=["plain", "context", "masked"]
)
def test_the_best_normal_is_that_of_the_closed_form(options) -> None:
    bed, model = off(**options)
    x, context, observed = bed.batch
    found = refine(model, x, "normal", LONG, context=context, observed=observed)
    best = model.posterior.best(bed.encoder_input())
    # What is left to the optimum, in nats.
    excess = kl(found, bed.posterior()) - kl(best, bed.posterior())
    assert (excess > -1e-9).all()
    assert (excess < 0.02).all()
    encoder = kl(model.posterior(bed.encoder_input()), bed.posterior())
    assert (encoder - kl(best, bed.posterior()) > 0.3).all()
    torch.testing.assert_close(found.stddev, best.stddev.detach(), rtol=0.1, atol=0)


def test_a_full_normal_and_a_flow_close_the_gap() -> None:
    bed, model = off()
    x = bed.batch.x
    full = refine(model, x, "full-normal", LONG)
    assert (kl_divergence(full, bed.posterior()) < 0.01).all()
    flow = refine(model, x, "flow", LONG)
    assert isinstance(flow, CoupledNormal)
    torch.manual_seed(0)
    z = flow.sample((2000,))
    divergence = flow.log_prob(z) - bed.posterior().log_prob(z)
    assert (divergence.mean(0).abs() < 0.03).all()


def test_parts_of_the_gap_are_those_of_the_closed_form() -> None:
    bed, model = off(n=8)
    x, posterior = bed.batch.x, bed.posterior()
    best = kl(model.posterior.best(x), posterior)
    amortisation = kl(model.posterior(x), posterior) - best
    shares: list[float] = []
    found = gap(
        model,
        x,
        2000,
        refinement=LONG,
        log_evidence=exactly(bed.log_evidence().detach()),
        on_part=shares.append,
    )
    assert sum(shares) == pytest.approx(1.0)
    assert found.family == "normal"
    assert found.amortisation is not None
    # Four errors of sampling, and what the optimisation may leave.
    left = 0.02
    assert (
        (found.amortisation.value - amortisation).abs() < 4 * found.amortisation.standard_error + left
    ).all()
    normal, flow = found.approximation["normal"], found.approximation["flow"]
    assert ((normal.value - best).abs() < 4 * normal.standard_error + left).all()
    assert (flow.value.abs() < 4 * flow.standard_error + left).all()
    total = found.amortisation.value + normal.value
    torch.testing.assert_close(total, found.total.value, rtol=0, atol=1e-9)
    # Shared noise: the difference is known better than its parts.
    assert (found.amortisation.standard_error < found.elbo.standard_error).all()


def test_evidence_is_annealed_where_none_is_given() -> None:
    bed, model = off()
    found = gap(model, bed.batch.x, 50, refinement=Refinement(steps=3), annealing=Annealing(steps=20))
    exact = bed.log_evidence().detach()
    assert ((found.evidence.value - exact).abs() < 5 * found.evidence.standard_error + 1e-3).all()
    assert found.evidence.samples == 16


@pytest.mark.slow
def test_an_encoder_of_full_normals_is_refined_in_its_own_family() -> None:
    bed = linear_gaussian(shift=0.4, latent_dim=3)
    found = gap(
        bed.model, bed.batch.x, 500, refinement=LONG, log_evidence=exactly(bed.log_evidence().detach())
    )
    assert found.family == "full-normal"
    assert list(found.refined) == ["full-normal", "flow"]
    assert found.amortisation is not None
    allowed = 4 * found.amortisation.standard_error + 0.02
    assert ((found.amortisation.value - bed.gap().detach()).abs() < allowed).all()


def test_enumerated_latents_leave_amortisation_alone() -> None:
    bed = class_latent(temperature=2.0)
    found = gap(bed.model, bed.batch.x)
    torch.testing.assert_close(found.total.value, bed.gap().detach(), rtol=0, atol=1e-12)
    assert found.amortisation is not None
    torch.testing.assert_close(found.amortisation.value, bed.gap().detach(), rtol=0, atol=1e-12)
    assert not found.approximation["categorical"].value.any()


def test_refining_leaves_the_model_as_it_was() -> None:
    bed = linear_gaussian(shift=0.3)
    before = {name: value.clone() for name, value in bed.model.state_dict().items()}
    refine(bed.model, bed.batch.x, "flow", Refinement(steps=2))
    assert all(torch.equal(value, before[name]) for name, value in bed.model.state_dict().items())
    assert all(parameter.grad is None for parameter in bed.model.parameters())


def test_a_flow_that_rounding_spoils_is_not_believed() -> None:
    _, model = off()
    bed, _ = off()
    wild = refine(model, bed.batch.x, "flow", Refinement(steps=60, learning_rate=3.0))
    assert (wild.round_trip_error() < 0.1).all()


def test_what_can_not_be_refined_is_refused() -> None:
    bed, model = off()
    with pytest.raises(ConfigError, match="unknown family of posteriors 'flows'; did you mean 'flow'"):
        refine(model, bed.batch.x, "flows")
    with pytest.raises(ConfigError, match="at least 2 draws"):
        gap(model, bed.batch.x, 1)
    with pytest.raises(ConfigError, match="above 0"):
        Refinement(steps=0)
    with pytest.raises(BoundError, match="discrete"):
        refine(class_latent().model, class_latent().batch.x)

    shared, chain = as_model(SharedRegression(), 3), as_model(TwoLayerChain(), 5)
    with pytest.raises(BoundError, match="shares them between data or draws them itself"):
        refine(shared, shared.data.x, context=shared.data.context)
    with pytest.raises(BoundError, match="shares them between data or draws them itself"):
        refine(chain, TwoLayerChain().sample(3, 0))


def test_numbers_of_the_whole() -> None:
    bed = linear_gaussian(n=12, shift=0.3)
    stages: dict[str, float] = {}

    def on_stage(name: str, share: float) -> None:
        stages[name] = stages.get(name, 0.0) + share

    numbers = evaluate_gap(
        bed.model,
        bed.batch.x,
        10,
        chains=4,
        annealing=Annealing(steps=10),
        refinement=Refinement(steps=5),
        counts=(1, 10, 100),
        on_stage=on_stage,
    )
    assert len(stages) == 5
    assert list(stages.values()) == pytest.approx([1.0] * 5)
    assert numbers["gap_n"] == 10
    assert numbers["gap_simulated_width"] == pytest.approx(
        numbers["gap_simulated_upper"] - numbers["gap_simulated_lower"]
    )
    exact = float(bed.log_evidence()[:10].detach().mean())
    for name in ("ais", "iwae"):
        error = numbers[f"gap_data_{name}_standard_error"]
        assert abs(numbers[f"gap_data_{name}"] - exact) < 4 * error + 0.02
    assert numbers["gap_curve_samples"] == [1, 10, 100]
    assert len(numbers["gap_curve_simulated"]) == len(numbers["gap_curve_data_standard_error"]) == 3
    assert numbers["gap_amortisation"] + numbers["gap_approximation_full_normal"] == pytest.approx(
        numbers["gap_total"]
    )
