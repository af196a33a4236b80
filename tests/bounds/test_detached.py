import pytest
import torch
from torch import Tensor, nn
from torch.distributions import (
    Categorical,
    Distribution,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
)
from torch.distributions.transforms import AffineTransform

from jensen.distributions import detached
from jensen.errors import BoundError
from jensen.seeding import seeded


def parameter(*shape: int) -> Tensor:
    with seeded(0):
        return torch.rand(*shape, dtype=torch.float64).add(0.5).requires_grad_()


def full() -> MultivariateNormal:
    return MultivariateNormal(parameter(3, 2), scale_tril=torch.diag_embed(parameter(3, 2)))


def mixture() -> MixtureSameFamily:
    return MixtureSameFamily(
        Categorical(logits=parameter(3, 4)), Independent(Normal(parameter(3, 4, 2), parameter(3, 4, 2)), 1)
    )


CASES = {
    "normal": lambda: Normal(parameter(3), parameter(3)),
    "independent": lambda: Independent(Normal(parameter(3, 2), parameter(3, 2)), 1),
    "full": full,
    "mixture": mixture,
    "class": lambda: OneHotCategorical(logits=parameter(3, 4)),
}


def value_for(distribution: Distribution) -> Tensor:
    with seeded(1):
        return distribution.sample((5,))


@pytest.mark.parametrize("case", CASES)
def test_the_copy_has_the_density_without_the_gradient(case: str) -> None:
    original = CASES[case]()
    value = value_for(original)
    density = original.log_prob(value)
    copy = detached(original)
    assert type(copy) is type(original)
    assert density.requires_grad
    assert not copy.log_prob(value).requires_grad
    torch.testing.assert_close(copy.log_prob(value), density.detach(), rtol=0.0, atol=0.0)
    assert not copy.sample().requires_grad
    assert (copy.batch_shape, copy.event_shape) == (original.batch_shape, original.event_shape)


@pytest.mark.parametrize("case", ["normal", "independent", "full", "mixture"])
def test_the_gradient_in_the_value_stays(case: str) -> None:
    original = CASES[case]()
    value = value_for(original).requires_grad_()
    (kept,) = torch.autograd.grad(detached(original).log_prob(value).sum(), value)
    (expected,) = torch.autograd.grad(original.log_prob(value).sum(), value)
    torch.testing.assert_close(kept, expected, rtol=0.0, atol=0.0)
    assert kept.abs().min() > 0


@pytest.mark.parametrize("case", CASES)
def test_the_original_is_left_as_it_was(case: str) -> None:
    original = CASES[case]()
    before = dict(vars(original))
    copy = detached(original)
    copy._batch_shape = torch.Size([99])
    for name in [name for name, part in vars(copy).items() if isinstance(part, Tensor)]:
        setattr(copy, name, torch.zeros(1))
    for name, part in vars(copy).items():
        if isinstance(part, Distribution):
            assert part is not before[name]
            part._batch_shape = torch.Size([99])
    assert all(vars(original)[name] is part for name, part in before.items())
    assert original.batch_shape == (3,)
    assert original.log_prob(value_for(original)).requires_grad


def test_properties_that_torch_keeps_are_cut_off_too() -> None:
    original = full()
    assert original.covariance_matrix.requires_grad  # from now on an attribute of the object
    assert original.precision_matrix.requires_grad
    copy = detached(original)
    assert not copy.covariance_matrix.requires_grad
    assert not copy.precision_matrix.requires_grad


class _Holder(Distribution):
    """A distribution that keeps a part where ``detached`` can't reach it."""

    def __init__(self, part: object) -> None:
        self.part = part
        super().__init__(validate_args=False)


@pytest.mark.parametrize(
    "part",
    [
        AffineTransform(0.0, 1.0),
        [AffineTransform(0.0, 1.0)],
        [torch.zeros(2)],
        (Normal(0.0, 1.0),),
        nn.Linear(2, 2),
        nn.ModuleList([nn.Linear(2, 2)]),
    ],
    ids=["transform", "transforms", "tensors", "distributions", "network", "networks"],
)
def test_parts_that_may_hide_parameters_are_refused(part: object) -> None:
    with pytest.raises(
        BoundError, match="can't cut the parameters of a _Holder off the graph; use the path-wise"
    ):
        detached(_Holder(part))


def test_transformed_distributions_are_refused() -> None:
    base = Normal(parameter(3), parameter(3))
    with pytest.raises(BoundError, match="can't cut the parameters of a TransformedDistribution"):
        detached(TransformedDistribution(base, [AffineTransform(parameter(3), 1.0)]))
    with pytest.raises(BoundError, match="can't cut the parameters of a TransformedDistribution"):
        detached(Independent(TransformedDistribution(base, AffineTransform(parameter(3), 1.0)), 1))
    # Without a transform there is nothing that can't be seen.
    assert not detached(TransformedDistribution(base, [])).base_dist.loc.requires_grad
