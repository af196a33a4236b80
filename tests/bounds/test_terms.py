from math import log

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from jensen.bounds import Deferred, Terms, elbo, weighted_elbo
from jensen.errors import BoundError
from jensen.likelihoods import Bernoulli, Normal
from jensen.models import LatentVariableModel
from jensen.nets import MLP
from jensen.posteriors import ClassPosterior, DiagonalNormal, FullNormal
from jensen.priors import ClassPrior, LearnedNormal, StandardNormal
from jensen.seeding import seeded

# Sums of some ten terms of a few nats in float64.
EXACT = {"rtol": 0.0, "atol": 1e-12}
# The same where a scale was rounded to float32 on its way: relative 6e-8 of some tens of nats.
SINGLE = {"rtol": 0.0, "atol": 1e-5}


def array(value: Tensor) -> np.ndarray:
    return value.detach().numpy()


@pytest.mark.parametrize("posterior", ["diagonal", "full"])
def test_every_constant_of_normal_densities_is_kept(posterior: str) -> None:
    with seeded(0):
        prior = LearnedNormal(2).double()
        torch.nn.init.normal_(prior.loc)
        torch.nn.init.normal_(prior.log_scale)
        family = DiagonalNormal if posterior == "diagonal" else FullNormal
        part = family(MLP((3,), family.parameter_shape(2))).double()
        likelihood = Normal(
            MLP((2,), (1, 3)),
            (3,),
            scale="per-dimension",
            shift=torch.ones(3),
            unit=torch.tensor([1.0, 2.0, 4.0]),
        ).double()
        torch.nn.init.normal_(likelihood.log_scale)
        x = torch.randn(4, 3, dtype=torch.float64)
        model = LatentVariableModel(prior, part, likelihood)
        terms = model.terms(x, samples=5)
    z = terms.latents["z"]
    loc = 1 + array(likelihood.unit) * array(likelihood.network(z))[..., 0, :]
    scale = array(likelihood.unit) * np.exp(array(likelihood.log_scale))
    expected = stats.norm(loc, scale).logpdf(array(x)).sum(-1)
    np.testing.assert_allclose(array(terms.log_likelihood), expected, rtol=0, atol=1e-11)
    p = stats.norm(array(prior.loc), np.exp(array(prior.log_scale)))
    np.testing.assert_allclose(array(terms.log_prior["z"]), p.logpdf(array(z)).sum(-1), rtol=0, atol=1e-12)
    q_mean, q_covariance = moments(posterior, array(part.network(x)))
    log_q = np.stack(
        [stats.multivariate_normal(q_mean[b], q_covariance[b]).logpdf(array(z)[:, b]) for b in range(4)], 1
    )
    np.testing.assert_allclose(array(terms.log_posterior["z"]), log_q, rtol=0, atol=1e-11)
    # The divergence of two normals in its textbook form.
    precision = np.diag(1 / p.std() ** 2)
    difference = array(prior.loc) - q_mean
    trace = np.trace(precision @ q_covariance, axis1=-2, axis2=-1)
    squares = np.einsum("bi,ij,bj->b", difference, precision, difference)
    determinants = -np.linalg.slogdet(precision)[1] - np.linalg.slogdet(q_covariance)[1]
    kl = 0.5 * (trace + squares - 2 + determinants)
    assert terms.kl["z"].shape == (1, 4)
    np.testing.assert_allclose(array(terms.kl["z"])[0], kl, rtol=0, atol=1e-11)


def moments(posterior: str, outputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and covariance of two latents, from what the network gives."""
    if posterior == "diagonal":
        return outputs[:, 0], np.exp(2 * outputs[:, 1])[:, None] * np.eye(2)
    triangle = np.zeros((len(outputs), 2, 2))
    triangle[:, 0, 0], triangle[:, 1, 1] = np.exp(outputs[:, 2]), np.exp(outputs[:, 3])
    triangle[:, 1, 0] = outputs[:, 4]
    return outputs[:, :2], triangle @ triangle.swapaxes(-1, -2)


def test_the_given_scale_of_a_normal_likelihood_counts() -> None:
    likelihood = Normal(torch.nn.Identity(), (2,), scale=0.25).double()
    outputs = torch.tensor([[[0.0, 1.0]]], dtype=torch.float64)
    x = torch.tensor([[0.5, 0.5]], dtype=torch.float64)
    expected = stats.norm([0.0, 1.0], 0.25).logpdf([0.5, 0.5]).sum()
    torch.testing.assert_close(likelihood(outputs).log_prob(x), torch.tensor([expected]), **SINGLE)


def test_every_constant_of_discrete_densities_is_kept() -> None:
    with seeded(0):
        prior = ClassPrior(3).double()
        torch.nn.init.normal_(prior.logits)
        model = LatentVariableModel(
            prior, ClassPosterior(MLP((4,), (3,))).double(), Bernoulli(MLP((3,), (1, 2, 2)), (2, 2)).double()
        )
        model.posterior.network = torch.nn.Sequential(torch.nn.Flatten(), model.posterior.network)
        x = (torch.rand(5, 2, 2) > 0.5).double()
        terms = model.terms(x, samples="all")
    z = terms.latents["z"]
    assert z.shape == (3, 5, 3)
    probs = stats.logistic.cdf(array(model.likelihood.network(z))[:, :, 0])
    expected = stats.bernoulli(probs).logpmf(array(x)).sum((-2, -1))
    np.testing.assert_allclose(array(terms.log_likelihood), expected, rtol=0, atol=1e-12)
    p = np.exp(array(prior.logits)) / np.exp(array(prior.logits)).sum()
    np.testing.assert_allclose(array(terms.log_prior["z"]), np.log(array(z) @ p), rtol=0, atol=1e-12)
    q = array(terms.log_weight)
    np.testing.assert_allclose(np.exp(q).sum(0), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(array(terms.log_posterior["z"]), q, rtol=0, atol=0)
    kl = [stats.entropy(np.exp(q)[:, b], p) for b in range(5)]
    np.testing.assert_allclose(array(terms.kl["z"])[0], kl, rtol=0, atol=1e-12)


def test_densities_are_computed_once_and_only_if_asked_for() -> None:
    asked: list[str] = []

    def density(group: str) -> Tensor | None:
        asked.append(group)
        return None if group == "none" else torch.zeros(1, 1)

    densities = Deferred({"z": lambda: density("z"), "none": lambda: density("none")})
    assert list(densities) == ["z", "none"]
    assert len(densities) == 2
    assert "z" in densities
    del asked[:]
    for _ in range(2):
        assert densities["none"] is None
    assert asked == ["none"]
    with pytest.raises(KeyError):
        densities["other"]


def test_a_group_without_a_known_divergence_needs_no_entry() -> None:
    one = torch.ones(2, 3)
    torch.testing.assert_close(elbo(Terms(0 * one, {"z": one}, {"z": 3 * one})), torch.full((3,), -2.0))


@pytest.mark.parametrize("bound", [elbo, weighted_elbo])
@pytest.mark.parametrize("missing", ["prior", "posterior"])
def test_a_missing_density_is_refused_where_the_kl_is_unknown(bound, missing: str) -> None:
    one = torch.ones(2, 1)
    terms = Terms(
        one,
        {"z": None if missing == "prior" else one},
        {"z": None if missing == "posterior" else one},
        {"z": None},
    )
    with pytest.raises(BoundError, match=f"density of the {missing} of 'z', which doesn't exist; use"):
        bound(terms)


def test_averages_weigh_the_samples() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 6.0]], dtype=torch.float64)
    alike = Terms(torch.zeros_like(values))
    torch.testing.assert_close(alike.average(values), torch.tensor([2.0, 4.0], dtype=torch.float64), **EXACT)
    uneven = Terms(values, log_weight=torch.tensor([[0.75, 0.5], [0.25, 0.5]], dtype=torch.float64).log())
    torch.testing.assert_close(uneven.average(values), torch.tensor([1.5, 4.0], dtype=torch.float64), **EXACT)
    torch.testing.assert_close(
        uneven.log_mean_exp(values.log()), torch.tensor([1.5, 4.0], dtype=torch.float64).log(), **EXACT
    )
    # What has no dimension of samples, or of data, counts for all of them.
    one = torch.ones(1, 1, dtype=torch.float64)
    torch.testing.assert_close(uneven.average(one), torch.ones(2, dtype=torch.float64), **EXACT)
    assert (alike.samples, alike.batch) == (2, 2)


def test_each_datum_bears_its_part_of_a_shared_divergence() -> None:
    # A batch of 4 out of 12 data: scale 3, so a twelfth of the KL each.
    one = torch.ones(1, 4, dtype=torch.float64)
    densities = {"w": one[:, :1], "z": one}
    terms = Terms(
        0 * one, densities, densities, {"w": 6 * one[:, :1], "z": one}, scale=3.0, shared=frozenset({"w"})
    )
    torch.testing.assert_close(terms.divergence("w"), 0.5 * one[:, :1], **EXACT)
    torch.testing.assert_close(elbo(terms), torch.full((4,), -1.5, dtype=torch.float64), **EXACT)


def test_a_standard_normal_prior_has_the_constant_of_its_dimension() -> None:
    prior = StandardNormal(7).double()
    expected = torch.tensor(-3.5 * log(2 * torch.pi), dtype=torch.float64)
    torch.testing.assert_close(prior().log_prob(torch.zeros(7, dtype=torch.float64)), expected, **EXACT)
