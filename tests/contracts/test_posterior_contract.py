"""What every posterior owes, whichever it is; a new entry of the registry needs a case here and nothing else."""

import inspect
import math
from collections.abc import Callable
from dataclasses import dataclass

import mpmath as mp
import pytest
import torch
from torch import Tensor

from contracts import references
from contracts.conformance import (
    DEVICES,
    Linear,
    Passing,
    assert_close,
    assert_gradients,
    assert_moments,
    assert_unbiased,
    double,
    round_trip,
)
from jensen.distributions import Conditional, closed_form_kl
from jensen.errors import ShapeError
from jensen.posteriors import POSTERIORS
from jensen.priors import PRIORS
from jensen.seeding import seeded


def _diagonal(parameters: Tensor, z: Tensor) -> mp.mpf:
    loc, log_scale = parameters.reshape(2, -1)
    cells = zip(loc.tolist(), log_scale.tolist(), z.tolist(), strict=True)
    return mp.fsum(references.normal(mp.mpf(m), mp.mpf(s), x) for m, s, x in cells)


def _triangle(parameters: Tensor, d: int) -> tuple[list[float], list[list[mp.mpf]]]:
    """Location and L, filled by hand in the order that the documentation gives."""
    values = parameters.tolist()
    loc, log_diagonal, below = values[:d], values[d : 2 * d], iter(values[2 * d :])
    return loc, [
        [*(mp.mpf(next(below)) for _ in range(i)), mp.exp(mp.mpf(log_diagonal[i]))] for i in range(d)
    ]


def _full(parameters: Tensor, z: Tensor) -> mp.mpf:
    loc, rows = _triangle(parameters, len(z))
    whitened: list[mp.mpf] = []
    for m, row, x in zip(loc, rows, z.tolist(), strict=True):
        known = mp.fsum(a * b for a, b in zip(row, whitened, strict=False))
        whitened.append((mp.mpf(x) - m - known) / row[-1])
    squares = mp.fsum(w**2 for w in whitened)
    return -squares / 2 - mp.fsum(mp.log(row[-1]) for row in rows) - len(rows) * mp.log(2 * mp.pi) / 2


def _class(parameters: Tensor, z: Tensor) -> mp.mpf:
    return references.categorical(parameters.tolist(), float(z.argmax()))


@dataclass(frozen=True)
class Case:
    """A posterior's reference, from the network's numbers and the latents; whether latents are one-hot."""

    log_prob: Callable[[Tensor, Tensor], mp.mpf]
    discrete: bool = False


CASES = {"normal": Case(_diagonal), "full-normal": Case(_full), "class": Case(_class, discrete=True)}


@pytest.fixture(params=CASES)
def entry(request: pytest.FixtureRequest) -> str:
    return request.param


def passing(entry: str, latent_dim: int) -> Conditional:
    """The posterior whose context is its network's numbers."""
    return POSTERIORS[entry](Passing(POSTERIORS[entry].parameter_shape(latent_dim)))


def linear(entry: str, latent_dim: int) -> Conditional:
    """The posterior whose network has weights, from contexts of four numbers."""
    with double():
        return POSTERIORS[entry](Linear(4, POSTERIORS[entry].parameter_shape(latent_dim)))


def numbers(entry: str, latent_dim: int, rows: int = 6, seed: int = 0) -> Tensor:
    """Numbers of the network, not extreme."""
    count = torch.Size(POSTERIORS[entry].parameter_shape(latent_dim)).numel()
    generator = torch.Generator().manual_seed(seed)
    return 0.5 * torch.randn(rows, count, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("name", POSTERIORS)
def test_every_entry_has_a_case_and_says_what_it_is(name: str) -> None:
    assert name in CASES, f"add a Case for '{name}' to CASES"
    assert "network:" in str(inspect.getdoc(POSTERIORS[name]))
    assert inspect.getdoc(POSTERIORS[name].parameter_shape)


@pytest.mark.parametrize("latent_dim", [1, 2, 7])
@pytest.mark.parametrize("batch", [(), (5,), (2, 5)])
def test_shapes(entry: str, latent_dim: int, batch: tuple[int, ...]) -> None:
    posterior = linear(entry, latent_dim)
    distribution = posterior(torch.randn(*batch, 4, dtype=torch.float64))
    assert distribution.batch_shape == batch
    assert distribution.event_shape == (latent_dim,)
    z = distribution.sample((3,))
    assert z.shape == (3, *batch, latent_dim)
    assert distribution.log_prob(z).shape == (3, *batch)
    assert distribution.mean.shape == (*batch, latent_dim)


def test_no_context_is_refused(entry: str) -> None:
    with pytest.raises(ShapeError, match="needs a context, got None"):
        passing(entry, 3)(None)


@pytest.mark.parametrize(("name", "shape"), [("normal", (3, 2)), ("normal", (2,)), ("full-normal", (4,))])
def test_a_network_of_another_shape_is_refused(name: str, shape: tuple[int, ...]) -> None:
    posterior = POSTERIORS[name](torch.nn.Unflatten(-1, shape))
    with pytest.raises(ShapeError, match=r"from its network for .*give the network th"):
        posterior(torch.zeros(1, math.prod(shape)))


@pytest.mark.parametrize("latent_dim", [1, 2, 5])
def test_log_prob_agrees_with_the_reference(entry: str, latent_dim: int) -> None:
    parameters = numbers(entry, latent_dim)
    distribution = passing(entry, latent_dim)(parameters)
    with seeded(0):
        z = distribution.sample()
    wanted = [float(CASES[entry].log_prob(p, one)) for p, one in zip(parameters, z, strict=True)]
    assert_close(distribution.log_prob(z), wanted, 1e-13)


def test_extreme_numbers(entry: str) -> None:
    # Of each place in turn, so that locations, log-scales and what is below the diagonal are extreme alone.
    count = numbers(entry, 2).shape[1]
    parameters = torch.cat([-30.0 * torch.eye(count), 30.0 * torch.eye(count)]).double().requires_grad_()
    z = torch.eye(2).double()[torch.arange(2 * count) % 2]
    log_prob = passing(entry, 2)(parameters).log_prob(z)
    wanted = [float(CASES[entry].log_prob(p, one)) for p, one in zip(parameters.detach(), z, strict=True)]
    assert_close(log_prob, wanted, 1e-13)
    (gradient,) = torch.autograd.grad(log_prob.sum(), parameters)
    assert gradient.isfinite().all()


def test_mass_is_one(entry: str) -> None:
    parameters = numbers(entry, 2)
    if CASES[entry].discrete:
        z, weight = torch.eye(2, dtype=torch.float64), 1.0
    else:
        axis = torch.arange(-16, 16, 0.125, dtype=torch.float64)
        z, weight = torch.cartesian_prod(axis, axis), 0.125**2
    mass = passing(entry, 2)(parameters).log_prob(z[:, None]).exp().sum(0) * weight
    # The trapezoidal rule on normals whose narrowest scale is s is off by e^(-2 pi^2 s^2 / spacing^2).
    assert_close(mass, [1.0] * len(mass), 1e-8)


def test_draws_have_the_moments(entry: str) -> None:
    distribution = passing(entry, 3)(numbers(entry, 3))
    with seeded(0):
        draws = distribution.sample((20_000,))
    assert_moments(draws, distribution.mean, distribution.variance)


def test_draws_of_the_full_normal_have_the_covariance_of_its_triangle() -> None:
    parameters = numbers("full-normal", 3)[0]
    distribution = passing("full-normal", 3)(parameters)
    _, rows = _triangle(parameters, 3)
    covariance = torch.tensor(
        [[float(mp.fsum(a * b for a, b in zip(one, two, strict=False))) for two in rows] for one in rows],
        dtype=torch.float64,
    )
    with seeded(0):
        draws = distribution.sample((20_000,)) - distribution.mean
    assert_unbiased(draws[:, :, None] * draws[:, None, :], covariance)


def test_gradients_agree_with_finite_differences(entry: str) -> None:
    parameters = numbers(entry, 3, rows=2)
    posterior = passing(entry, 3)
    z = torch.eye(3, dtype=torch.float64)[:2]
    if CASES[entry].discrete:
        assert_gradients(lambda p: posterior(p).log_prob(z), parameters)
        return
    assert_gradients(lambda p, z: posterior(p).log_prob(z), parameters, z)

    def draw(p: Tensor) -> Tensor:
        with seeded(0):
            return posterior(p).rsample((2,))

    assert_gradients(draw, parameters)


def test_says_whether_it_has_a_path_wise_gradient(entry: str) -> None:
    parameters = numbers(entry, 3).requires_grad_()
    distribution = passing(entry, 3)(parameters)
    assert distribution.has_rsample is not CASES[entry].discrete
    assert not distribution.sample().requires_grad
    if distribution.has_rsample:
        assert distribution.rsample().requires_grad


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moves_to_a_device_and_a_precision(entry: str, device: str, dtype: torch.dtype) -> None:
    exact, moved = linear(entry, 3), linear(entry, 3)
    moved.load_state_dict(exact.state_dict())
    moved = moved.to(device=device, dtype=dtype)
    context = torch.randn(5, 4, dtype=torch.float64)
    z = torch.eye(3, dtype=torch.float64)[torch.arange(5) % 3]
    distribution = moved(context.to(device, dtype))
    got = distribution.log_prob(z.to(device, dtype))
    draw = distribution.sample()
    assert got.device.type == draw.device.type == device
    assert got.dtype == draw.dtype == dtype
    # Squares of distances over scales that may be a tenth: rounding of the network's numbers counts a hundredfold.
    assert_close(got, exact(context).log_prob(z).tolist(), 1000 * torch.finfo(dtype).eps)


def test_state_survives_a_file(entry: str) -> None:
    one, other = linear(entry, 3), linear(entry, 3)
    context = torch.randn(5, 4, dtype=torch.float64)
    z = one(context).sample()
    assert not torch.equal(one(context).log_prob(z), other(context).log_prob(z))
    other.load_state_dict(round_trip(one.state_dict()))
    assert torch.equal(one(context).log_prob(z), other(context).log_prob(z))


@pytest.mark.parametrize("prior", PRIORS)
def test_closed_form_divergence_from_every_prior_agrees_with_sampling(entry: str, prior: str) -> None:
    """A family over one-hot vectors has no density over real ones, so those pairs are never made."""
    if (prior == "class") != CASES[entry].discrete:
        return
    q = passing(entry, 3)(numbers(entry, 3))
    with double(), seeded(0):
        p = PRIORS[prior](3)()
    kl = closed_form_kl(q, p)
    assert (kl is None) == (prior == "mixture")
    if kl is None:
        return
    assert kl.shape == (6,)
    with seeded(1), torch.no_grad():
        z = q.sample((20_000,))
        assert_unbiased(q.log_prob(z) - p.log_prob(z), kl)
