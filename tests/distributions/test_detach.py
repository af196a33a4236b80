from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.distributions import (
    Categorical,
    Distribution,
    ExpTransform,
    Independent,
    MixtureSameFamily,
    MultivariateNormal,
    Normal,
    OneHotCategorical,
    TransformedDistribution,
)

from jensen.distributions import (
    ContinuousBernoulli,
    DiscretisedLogistic,
    IntegerCategorical,
    NegativeBinomial,
    detached,
)
from jensen.errors import BoundError


def normal(p: Tensor) -> Independent:
    return Independent(Normal(p, p.exp()), 1)


FAMILIES: dict[str, Callable[[Tensor], Distribution]] = {
    "normal": normal,
    "full-normal": lambda p: MultivariateNormal(
        p, scale_tril=torch.diag_embed(p.exp()) + (p[..., None] * p[..., None, :]).tril(-1)
    ),
    "class": lambda p: OneHotCategorical(logits=p),
    "mixture": lambda p: MixtureSameFamily(Categorical(logits=p[:, 0]), normal(p)),
    "continuous-bernoulli": lambda p: Independent(ContinuousBernoulli(p), 1),
    "logistic": lambda p: Independent(DiscretisedLogistic(p, p.exp(), 8), 1),
    "categorical": lambda p: IntegerCategorical(logits=p),
    "negative-binomial": lambda p: Independent(NegativeBinomial(p, p), 1),
}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("used", [False, True])
def test_has_the_densities_and_no_gradient_in_the_parameters(name: str, used: bool) -> None:
    parameters = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    original = FAMILIES[name](parameters)
    value = original.sample()
    before = original.log_prob(value)
    if used:
        # Parameters that are computed when first asked for are kept as attributes too.
        original.mean, original.entropy() if name in ("normal", "class") else None
    copy = detached(original)
    assert type(copy) is type(original)
    after = copy.log_prob(value)
    assert torch.equal(after, before)
    assert not after.requires_grad
    assert not copy.mean.requires_grad
    assert before.requires_grad
    assert original.log_prob(value).requires_grad


@pytest.mark.parametrize("name", ["normal", "full-normal", "mixture"])
def test_keeps_the_gradient_in_the_value(name: str) -> None:
    parameters = torch.randn(2, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()
    distribution = FAMILIES[name](parameters)
    value = distribution.sample().requires_grad_()
    (wanted,) = torch.autograd.grad(distribution.log_prob(value).sum(), value)
    (got,) = torch.autograd.grad(detached(distribution).log_prob(value).sum(), value)
    assert torch.equal(got, wanted)


def test_a_transform_is_refused() -> None:
    flow = TransformedDistribution(Normal(torch.zeros(3), torch.ones(3)), [ExpTransform()])
    with pytest.raises(BoundError, match="use the path-wise or the score-function gradient"):
        detached(flow)
    with pytest.raises(BoundError, match="TransformedDistribution"):
        detached(Independent(flow, 1))
