import torch
from torch import Tensor
from torch.distributions import MultivariateNormal

from jensen.distributions import CoupledNormal, Pinned, detached, select

DTYPE = torch.float64


def bent(batch: tuple[int, ...] = (3,), dim: int = 2, layers: int = 2, size: float = 0.7) -> CoupledNormal:
    torch.manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return size * torch.randn(*batch, *shape, dtype=DTYPE)

    factor = torch.eye(dim, dtype=DTYPE) + draw(dim, dim).tril(-1)
    return CoupledNormal(
        draw(dim),
        factor,
        0.3 * draw(dim),
        draw(dim),
        draw(layers, 5, dim),
        draw(layers, 5),
        draw(layers, 2 * dim, 5),
        draw(layers, 2 * dim),
    )


def test_density_is_that_of_the_change_of_variables() -> None:
    flow = bent(batch=())
    noise = torch.randn(20, 2, dtype=DTYPE)
    for e in noise:
        jacobian = torch.autograd.functional.jacobian(flow._from_noise, e)
        expected = torch.distributions.Normal(0.0, 1.0).log_prob(e).sum() - torch.linalg.slogdet(jacobian)[1]
        found = flow.log_prob(flow._from_noise(e))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-9)


def test_the_way_back_is_the_inverse() -> None:
    flow = bent(dim=5, layers=4)
    noise = torch.randn(7, 4, 3, 5, dtype=DTYPE)
    back, _ = flow._to_noise(flow._from_noise(noise))
    torch.testing.assert_close(back, noise, rtol=0, atol=1e-7)
    assert flow.round_trip_error().shape == (3,)
    assert (flow.round_trip_error() < 1e-6).all()


def test_without_bends_it_is_a_normal() -> None:
    flow = bent(size=0.0)
    z = torch.randn(4, 3, 2, dtype=DTYPE)
    normal = MultivariateNormal(flow.loc, scale_tril=flow.scale_tril)
    torch.testing.assert_close(flow.log_prob(z), normal.log_prob(z))


def test_parts_of_a_batch_and_detached_copies_have_the_same_density() -> None:
    flow = bent()
    z = flow.sample((6,))
    few = select(flow, slice(1, 3))
    assert few.batch_shape == (2,)
    torch.testing.assert_close(few.log_prob(z[:, 1:]), flow.log_prob(z)[:, 1:])
    flow.loc.requires_grad_(True)
    assert flow.rsample().requires_grad
    assert not detached(flow).log_prob(z).requires_grad


def test_pinned_draws_what_it_was_given() -> None:
    flow = bent()
    z = torch.randn(5, 3, 2, dtype=DTYPE, requires_grad=True)
    pinned = Pinned(z, flow)
    assert pinned.rsample((5,)) is z
    assert (pinned.batch_shape, pinned.event_shape) == ((3,), (2,))
    assert torch.equal(pinned.log_prob(z), flow.log_prob(z))
