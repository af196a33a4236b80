"""What every prior owes, whichever it is; a new entry of the registry needs a case here and nothing else."""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import mpmath as mp
import pytest
import torch
from torch import Tensor
from torch.func import functional_call

from contracts import references
from contracts.conformance import (
    DEVICES,
    assert_close,
    assert_gradients,
    assert_moments,
    double,
    randomise,
    round_trip,
)
from jensen.distributions import Conditional
from jensen.priors import PRIORS, ClassPrior, LearnedNormal, NormalMixture
from jensen.seeding import seeded


def _diagonal(loc: Tensor, log_scale: Tensor, z: Tensor) -> mp.mpf:
    cells = zip(loc.tolist(), log_scale.tolist(), z.tolist(), strict=True)
    return mp.fsum(references.normal(mp.mpf(m), mp.mpf(s), x) for m, s, x in cells)


def _standard(prior: Conditional, z: Tensor) -> mp.mpf:
    return _diagonal(torch.zeros_like(z), torch.zeros_like(z), z)


def _learned(prior: Conditional, z: Tensor) -> mp.mpf:
    assert isinstance(prior, LearnedNormal)
    return _diagonal(prior.loc, prior.log_scale, z)


def _mixture(prior: Conditional, z: Tensor) -> mp.mpf:
    assert isinstance(prior, NormalMixture)
    logits = prior.logits.tolist()
    total = mp.log(mp.fsum(mp.exp(mp.mpf(one)) for one in logits))
    parts = zip(logits, prior.loc, prior.log_scale, strict=True)
    return mp.log(mp.fsum(mp.exp(one - total + _diagonal(m, s, z)) for one, m, s in parts))


def _class(prior: Conditional, z: Tensor) -> mp.mpf:
    assert isinstance(prior, ClassPrior)
    return references.categorical(prior.logits.tolist(), float(z.argmax()))


@dataclass(frozen=True)
class Case:
    """A prior, its reference, and whether it is over one-hot vectors rather than real ones."""

    entry: str
    log_prob: Callable[[Conditional, Tensor], mp.mpf]
    options: dict[str, Any] = field(default_factory=dict)
    discrete: bool = False

    def build(self, latent_dim: int, seed: int = 0) -> Conditional:
        with double():
            prior = PRIORS[self.entry](latent_dim, **self.options)
        randomise(prior, seed)
        return prior

    def points(self, latent_dim: int) -> Tensor:
        """Where densities are compared."""
        if self.discrete:
            return torch.eye(latent_dim, dtype=torch.float64)
        generator = torch.Generator().manual_seed(0)
        usual = 2 * torch.randn(6, latent_dim, generator=generator, dtype=torch.float64)
        return torch.cat([usual, torch.zeros_like(usual[:1]), torch.full_like(usual[:1], -1e3)])


CASES = {
    "normal": Case("normal", _standard),
    "learned-normal": Case("learned-normal", _learned),
    "mixture": Case("mixture", _mixture),
    "mixture-of-one": Case("mixture", _mixture, {"components": 1}),
    "mixture-of-three": Case("mixture", _mixture, {"components": 3}),
    "class": Case("class", _class, discrete=True),
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]


@pytest.mark.parametrize("entry", PRIORS)
def test_every_entry_has_a_case_and_says_what_it_is(entry: str) -> None:
    assert any(case.entry == entry for case in CASES.values()), f"add a Case for '{entry}' to CASES"
    assert "latent_dim:" in str(inspect.getdoc(PRIORS[entry]))


@pytest.mark.parametrize("latent_dim", [1, 3])
def test_shapes_with_and_without_a_context(case: Case, latent_dim: int) -> None:
    prior = case.build(latent_dim)
    for distribution in (prior(), prior(torch.zeros(5, 7))):
        assert distribution.batch_shape == ()
        assert distribution.event_shape == (latent_dim,)
        assert distribution.sample((2, 5)).shape == (2, 5, latent_dim)
        assert distribution.log_prob(distribution.sample((2, 5))).shape == (2, 5)
        assert distribution.mean.shape == distribution.variance.shape == (latent_dim,)


@torch.no_grad()
def test_starts_as_its_documentation_says() -> None:
    z = torch.randn(5, 3)
    standard = PRIORS["normal"](3)().log_prob(z)
    assert torch.equal(PRIORS["learned-normal"](3)().log_prob(z), standard)
    assert torch.allclose(PRIORS["class"](4)().probs, torch.full((4,), 0.25))
    mixture = PRIORS["mixture"](50, components=40)()
    assert torch.allclose(mixture.mixture_distribution.probs, torch.full((40,), 1 / 40))
    assert torch.equal(mixture.component_distribution.stddev, torch.ones(40, 50))
    with seeded(0):
        loc = PRIORS["mixture"](50, components=40)().component_distribution.mean
    # 2000 standard normal draws: four standard errors of their mean and of their variance.
    assert abs(float(loc.mean())) < 4 / 2000**0.5
    assert abs(float(loc.var()) - 1) < 4 * (2 / 2000) ** 0.5


@pytest.mark.parametrize("latent_dim", [1, 4])
def test_log_prob_agrees_with_the_reference(case: Case, latent_dim: int) -> None:
    prior = case.build(latent_dim)
    z = case.points(latent_dim)
    assert_close(prior().log_prob(z), [float(case.log_prob(prior, one)) for one in z], 1e-13)


@pytest.mark.parametrize("extreme", [-30.0, 30.0])
def test_extreme_parameters(case: Case, extreme: float) -> None:
    prior = case.build(3)
    with torch.no_grad():
        for parameter in prior.parameters():
            parameter[..., ::2] = extreme
    z = case.points(3)
    log_prob = prior().log_prob(z)
    assert_close(log_prob, [float(case.log_prob(prior, one)) for one in z], 1e-13)
    parameters = list(prior.parameters())
    for gradient in torch.autograd.grad(log_prob.sum(), parameters) if parameters else ():
        assert gradient.isfinite().all()


def test_mass_is_one_and_moments_are_those_of_the_density(case: Case) -> None:
    distribution = case.build(2)()
    if case.discrete:
        z, weight = torch.eye(2, dtype=torch.float64), 1.0
    else:
        # The trapezoidal rule is exact to rounding for normals at this spacing, which is below their scales.
        axis = torch.arange(-24, 24, 0.125, dtype=torch.float64)
        z, weight = torch.cartesian_prod(axis, axis), 0.125**2
    mass = distribution.log_prob(z).exp() * weight
    mean = (mass[:, None] * z).sum(0)
    variance = (mass[:, None] * (z - mean).square()).sum(0)
    assert_close(mass.sum().reshape(1), [1.0], 1e-10)
    assert_close(distribution.mean, mean.tolist(), 1e-10)
    assert_close(distribution.variance, variance.tolist(), 1e-10)


def test_draws_have_the_moments(case: Case) -> None:
    distribution = case.build(3)()
    with seeded(0):
        draws = distribution.sample((20_000,))
    assert_moments(draws, distribution.mean, distribution.variance)
    if case.discrete:
        assert torch.equal(draws.sum(-1), torch.ones(20_000, dtype=torch.float64))
        assert set(draws.unique().tolist()) == {0.0, 1.0}


def test_gradients_agree_with_finite_differences(case: Case) -> None:
    prior = case.build(2)
    names = list(dict(prior.named_parameters()))
    z = case.points(2)[:6]

    def log_prob(z: Tensor, *values: Tensor) -> Tensor:
        return functional_call(prior, dict(zip(names, values, strict=True)), ()).log_prob(z)

    if case.discrete:
        assert_gradients(lambda *values: log_prob(z, *values), *prior.parameters())
    else:
        assert_gradients(log_prob, z, *prior.parameters())


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moves_to_a_device_and_a_precision(case: Case, device: str, dtype: torch.dtype) -> None:
    exact = case.build(3)
    moved = case.build(3)
    moved.load_state_dict(exact.state_dict())
    moved = moved.to(device=device, dtype=dtype)
    z = case.points(3)[:3]
    got = moved().log_prob(z.to(device, dtype))
    draw = moved().sample()
    assert got.device.type == draw.device.type == device
    assert got.dtype == draw.dtype == dtype
    assert_close(got, exact().log_prob(z).tolist(), 100 * torch.finfo(dtype).eps)


def test_state_survives_a_file(case: Case) -> None:
    one, other = case.build(3, seed=1), case.build(3, seed=2)
    z = case.points(3)
    if list(one.parameters()):
        assert not torch.equal(one().log_prob(z), other().log_prob(z))
    other.load_state_dict(round_trip(one.state_dict()))
    assert torch.equal(one().log_prob(z), other().log_prob(z))
