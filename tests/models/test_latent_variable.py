import pytest
import torch
from torch import Tensor
from torch.distributions import Independent, Normal

from jensen.bounds import Draw, elbo, iwae
from jensen.distributions import Conditional
from jensen.errors import BoundError, ShapeError
from jensen.likelihoods import Bernoulli, Likelihood
from jensen.likelihoods import Normal as NormalLikelihood
from jensen.models import LatentVariableModel, Model
from jensen.nets import MLP
from jensen.posteriors import DiagonalNormal
from jensen.priors import NormalMixture, StandardNormal
from jensen.seeding import seeded
from testbed import LinearNormal, binary_latents, class_latent, gradients, linear_gaussian

EXACT = {"rtol": 0.0, "atol": 1e-12}


def small(
    event: tuple[int, ...] = (2, 3),
    context: int = 0,
    masked: bool = False,
    likelihood: type[Likelihood] = Bernoulli,
) -> LatentVariableModel:
    """Two latents, networks with their first random weights."""
    cells = torch.Size(event).numel()
    inputs = cells * (2 if masked else 1) + context
    # The posterior's input is flat as soon as something is joined to it.
    shape = (inputs,) if masked or context else event
    with seeded(0):
        return LatentVariableModel(
            StandardNormal(2),
            DiagonalNormal(MLP(shape, (2, 2), hidden=(8,))),
            likelihood(MLP((2 + context,), (1, *event), hidden=(8,)), event),
            mask_as_input=masked,
        )


def binary(n: int, event: tuple[int, ...] = (2, 3)) -> Tensor:
    with seeded(1):
        return (torch.rand(n, *event) > 0.5).float()


def test_a_model_is_a_model() -> None:
    assert isinstance(small(), Model)


@pytest.mark.parametrize("samples", [1, 7])
@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("context", [0, 3])
@pytest.mark.parametrize("masked", [False, True])
def test_shapes(samples: int, batch: int, context: int, masked: bool) -> None:
    model = small(context=context, masked=masked)
    x = binary(batch)
    c = torch.ones(batch, context) if context else None
    observed = x > 0 if masked else None
    with seeded(2):
        terms = model.terms(x, c, observed, samples)
    assert terms.log_likelihood.shape == (samples, batch)
    assert terms.latents["z"].shape == (samples, batch, 2)
    for density in (terms.log_prior, terms.log_posterior):
        assert list(density) == ["z"]
        assert density["z"].shape == (samples, batch)
    assert terms.kl["z"].shape == (1, batch)
    assert terms.log_weight is None
    assert (terms.scale, terms.shared) == (1.0, frozenset())
    q = model.encode(x, c, observed)
    assert (q.batch_shape, q.event_shape) == ((batch,), (2,))
    likelihood = model.decode(terms.latents["z"], c)
    assert (likelihood.batch_shape, likelihood.event_shape) == ((samples, batch), (2, 3))


def test_every_datum_is_scored_by_itself() -> None:
    model = small(context=3)
    x, c = binary(4), torch.eye(4)[:, :3]
    with seeded(0):
        whole = model.terms(x, c, samples=3)
    for n in range(4):
        one = slice(n, n + 1)
        z = whole.latents["z"][:, one]
        # Float32 networks, and nats of about ten.
        likelihood = model.decode(z, c[one]).log_prob(x[one])
        torch.testing.assert_close(likelihood, whole.log_likelihood[:, one], rtol=0.0, atol=1e-5)
        posterior = model.encode(x[one], c[one]).log_prob(z)
        torch.testing.assert_close(posterior, whole.log_posterior["z"][:, one], rtol=0.0, atol=1e-5)


def test_a_context_reaches_all_three_parts() -> None:
    bed = linear_gaussian(context_dim=2)
    x, context, _ = bed.batch
    with seeded(0):
        here = bed.model.terms(x, context)
    with seeded(0):
        elsewhere = bed.model.terms(x, context + 1)
    assert (here.log_likelihood != elsewhere.log_likelihood).all()
    assert (here.log_prior["z"] - elsewhere.log_prior["z"]).abs().min() > 1e-6
    assert (here.latents["z"] != elsewhere.latents["z"]).all()


def test_a_context_may_be_one_number_a_datum() -> None:
    model = small(context=1)
    x, context = binary(5), torch.linspace(0, 1, 5)
    with seeded(0):
        flat = model.terms(x, context, samples=3).log_likelihood
    with seeded(0):
        column = model.terms(x, context[:, None], samples=3).log_likelihood
    torch.testing.assert_close(flat, column, rtol=0.0, atol=0.0)


def test_a_datum_may_be_one_number() -> None:
    with seeded(0):
        model = LatentVariableModel(
            StandardNormal(1),
            DiagonalNormal(MLP((2,), (2, 1), hidden=())),
            NormalLikelihood(_Only(), (), scale=1.0),
            mask_as_input=True,
        )
        x = torch.randn(4)
        terms = model.terms(x, observed=torch.tensor([True, True, False, True]), samples=3)
    assert terms.log_likelihood.shape == (3, 4)
    expected = Normal(terms.latents["z"][..., 0], 1.0).log_prob(x)
    expected[:, 2] = 0
    torch.testing.assert_close(terms.log_likelihood, expected)


class _Only(torch.nn.Module):
    """The one latent is the one output."""

    def forward(self, z: Tensor) -> Tensor:
        return z


@pytest.mark.parametrize("masked", [False, True])
def test_what_was_encoded_before_gives_the_same_terms(masked: bool) -> None:
    bed = linear_gaussian(context_dim=2, missing=0.4 if masked else 0.0, shift=0.1)
    encoded = bed.model.encode(*bed.batch)
    with seeded(3):
        again = bed.model.terms(*bed.batch, samples=4)
    with seeded(3):
        once = bed.model.terms(*bed.batch, samples=4, encoded=encoded)
    for name in ("log_likelihood", "log_prior", "log_posterior", "kl", "latents"):
        first, second = getattr(again, name), getattr(once, name)
        pairs = [(first, second)] if isinstance(first, Tensor) else [(first["z"], second["z"])]
        for one, other in pairs:
            torch.testing.assert_close(one, other, rtol=0.0, atol=0.0)
    # And it is what was encoded that counts.
    elsewhere = Independent(Normal(encoded.mean + 1, 0.1), 1)
    moved = bed.model.terms(*bed.batch, samples=4, encoded=elsewhere)
    assert (moved.latents["z"].mean(0) - encoded.mean).min() > 0.5


def test_cells_that_were_not_observed_do_not_reach_the_posterior() -> None:
    for masked in (False, True):
        model = small(masked=masked)
        x = binary(6)
        observed = binary(6).flip(0) > 0
        hidden = torch.where(observed, x, torch.nan)
        other = torch.where(observed, x, 5.0)
        first, second = model.encode(hidden, observed=observed), model.encode(other, observed=observed)
        torch.testing.assert_close(first.mean, second.mean, rtol=0.0, atol=0.0)
        torch.testing.assert_close(first.variance, second.variance, rtol=0.0, atol=0.0)


def test_the_mask_is_an_input_only_if_asked_for() -> None:
    # Zeros under the mask are the same data as observed zeros, but for the mask.
    x = torch.zeros(1, 2, 3)
    nothing, everything = torch.zeros(1, 2, 3, dtype=torch.bool), torch.ones(1, 2, 3, dtype=torch.bool)
    plain, masked = small(), small(masked=True)
    assert (plain.encode(x, observed=nothing).mean == plain.encode(x, observed=everything).mean).all()
    assert (masked.encode(x, observed=nothing).mean != masked.encode(x, observed=everything).mean).any()
    torch.testing.assert_close(masked.encode(x).mean, masked.encode(x, observed=everything).mean)


@pytest.mark.parametrize("likelihood", [Bernoulli, NormalLikelihood])
@pytest.mark.parametrize("bound", [elbo, iwae])
def test_nan_under_the_mask_leaves_terms_and_gradients_finite(likelihood, bound) -> None:
    model = small(masked=True, likelihood=likelihood)
    x = binary(5)
    observed = binary(5).flip(0) > 0
    observed[0] = False
    hidden = torch.where(observed, x, torch.nan)
    with seeded(0):
        terms = model.terms(hidden, observed=observed, samples=3)
    assert terms.log_likelihood.isfinite().all()
    # A datum of which nothing was observed says nothing.
    assert (terms.log_likelihood[:, 0] == 0).all()
    found = gradients(bound(terms).sum(), model)
    assert all(gradient.isfinite().all() for gradient in found.values())
    assert all(gradient.abs().max() > 0 for gradient in found.values())


def test_only_discrete_latents_can_be_enumerated() -> None:
    with pytest.raises(BoundError, match="samples='all' needs a discrete posterior, got DiagonalNormal"):
        small().terms(binary(2), samples="all")
    # Torch lists the values of one binary cell, not the tuples of several.
    bed = binary_latents()
    with pytest.raises(BoundError, match="samples='all'"):
        bed.model.terms(bed.batch.x, samples="all")
    bed = class_latent(classes=4, n=5)
    terms = bed.model.terms(bed.batch.x, samples="all")
    assert terms.latents["z"].shape == (4, 5, 4)
    assert terms.log_weight.shape == (4, 5)


@pytest.mark.parametrize("samples", [0, -1])
def test_no_samples_are_refused(samples: int) -> None:
    with pytest.raises(ShapeError, match=f"at least 1, a whole number, got {samples}"):
        small().terms(binary(2), samples=samples)


def test_draws_carry_the_gradient_that_was_asked_for() -> None:
    bed = linear_gaussian(shift=0.1)
    shift = bed.model.posterior.shift

    def reaches(value: Tensor) -> bool:
        (gradient,) = torch.autograd.grad(value.sum(), shift, allow_unused=True, retain_graph=True)
        return gradient is not None and bool(gradient.abs().max() > 1e-6)

    path = bed.model.terms(*bed.batch)
    assert reaches(path.latents["z"])
    assert reaches(path.log_likelihood)
    score = bed.model.terms(*bed.batch, draw=Draw(reparameterised=False))
    assert not score.latents["z"].requires_grad
    assert not reaches(score.log_likelihood)
    assert reaches(score.log_posterior["z"])
    # Neither path nor score: nothing of q is left in its own density.
    neither = bed.model.terms(*bed.batch, draw=Draw(reparameterised=False, score=False))
    assert not neither.log_posterior["z"].requires_grad
    # Without the score only the path is left: at the exact covariance this is the gradient in z.
    landing = bed.model.terms(*bed.batch, draw=Draw(score=False))
    q = bed.model.encode(*bed.batch)
    (found,) = torch.autograd.grad(landing.log_posterior["z"].sum(), shift)
    inward = -(q.precision_matrix @ (landing.latents["z"] - q.loc)[..., None])[..., 0]
    torch.testing.assert_close(found, inward.sum((0, 1)), rtol=0.0, atol=1e-9)


def test_closed_forms_are_left_out_if_asked_for() -> None:
    bed = linear_gaussian()
    assert bed.model.terms(*bed.batch).kl["z"] is not None
    assert bed.model.terms(*bed.batch, draw=Draw(closed_form=False)).kl["z"] is None


def test_a_prior_without_a_closed_form_is_averaged_over_the_samples() -> None:
    bed = linear_gaussian()
    with seeded(0):
        bed.model.prior = NormalMixture(2, components=3).double()
        terms = bed.model.terms(*bed.batch, samples=3)
    assert terms.kl["z"] is None
    expected = (terms.log_likelihood + terms.log_prior["z"] - terms.log_posterior["z"]).mean(0)
    torch.testing.assert_close(elbo(terms), expected, **EXACT)


def test_discrete_draws_are_allowed_where_no_gradient_is_wanted() -> None:
    bed = class_latent()
    with torch.no_grad():
        assert bed.model.terms(bed.batch.x, samples=3).latents["z"].shape == (3, 5, 4)
    # A posterior with nothing to learn has no path to miss.
    bed.model.posterior.requires_grad_(False)
    assert bed.model.terms(bed.batch.x, samples=3).latents["z"].shape == (3, 5, 4)


def test_samples_are_of_the_data_s_shape() -> None:
    assert small().sample(7).shape == (7, 2, 3)
    context = torch.ones(7, 3)
    assert small(context=3).sample(7, context).shape == (7, 2, 3)
    bed = linear_gaussian(context_dim=2, n=6)
    drawn = bed.model.sample(6, bed.batch.context)
    assert drawn.shape == (6, 5)
    assert not drawn.requires_grad


@pytest.mark.parametrize("context_dim", [0, 2])
def test_samples_have_the_moments_of_the_model(context_dim: int) -> None:
    bed = linear_gaussian(context_dim=context_dim, n=1)
    n = 20_000
    context = None if bed.batch.context is None else bed.batch.context.expand(n, -1)
    with seeded(0):
        x = bed.model.sample(n, context)
    likelihood, prior_loc = bed.model.likelihood, bed._prior_loc()
    mean = bed.model.decode(prior_loc, bed.batch.context).mean[0].detach()
    weight = likelihood.weight[:, :2].detach()
    covariance = weight @ weight.mT + 0.25 * torch.eye(5, dtype=torch.float64)
    error = (covariance.diagonal() / n).sqrt()
    assert ((x.mean(0) - mean).abs() < 4 * error).all()
    # The variance of a product of two normals about their means: S_ii S_jj + S_ij^2.
    spread = (torch.outer(covariance.diagonal(), covariance.diagonal()) + covariance**2) / n
    assert ((torch.cov(x.mT) - covariance).abs() < 4 * spread.sqrt()).all()


def test_the_same_seed_gives_the_same_numbers_and_leaves_nothing_behind() -> None:
    model = small()
    with seeded(5):
        first = model.sample(3)
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    with seeded(5):
        second = model.sample(3)
    assert torch.equal(first, second)
    assert torch.equal(torch.rand(1), expected)


def test_any_conditionals_can_be_assembled() -> None:
    class Uninformed(Conditional):
        def forward(self, context: Tensor | None = None) -> Independent:
            assert context is not None
            zeros = torch.zeros(len(context), 2, dtype=torch.float64)
            return Independent(Normal(zeros, 1.0), 1)

    likelihood = LinearNormal(
        torch.zeros(3, 2, dtype=torch.float64), torch.zeros(3, dtype=torch.float64), 1.0
    )
    model = LatentVariableModel(StandardNormal(2).double(), Uninformed(), likelihood)
    x = torch.ones(4, 3, dtype=torch.float64)
    # The latents say nothing of the data, so the prior is the posterior and the bound has no gap.
    expected = Normal(0.0, 1.0).log_prob(x).sum(-1)
    torch.testing.assert_close(elbo(model.terms(x)), expected, **EXACT)
