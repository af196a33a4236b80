import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Distribution, Independent, MultivariateNormal, Normal, Poisson

from jensen.distributions import (
    ContinuousBernoulli,
    DiscretisedLogistic,
    IntegerCategorical,
    NegativeBinomial,
    log_prob_observed,
)
from jensen.errors import BoundError

EVENT = (2, 3)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def families(parameters: Tensor) -> dict[str, Distribution]:
    """One of each family of cells, all from the same numbers (*batch, 2, 3)."""
    ones = torch.ones_like(parameters)
    return {
        "normal": Normal(parameters, ones),
        "bernoulli": Bernoulli(logits=parameters),
        "continuous-bernoulli": ContinuousBernoulli(parameters),
        "logistic": DiscretisedLogistic(parameters, ones, 4),
        "categorical": IntegerCategorical(logits=torch.stack([parameters, 0 * ones, ones], -1)),
        "poisson": Poisson(parameters.exp()),
        "negative-binomial": NegativeBinomial(parameters, ones),
    }


NAMES = list(families(torch.zeros(EVENT)))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("batch", [(), (5,), (4, 5)])
def test_is_the_sum_over_observed_cells(name: str, batch: tuple[int, ...]) -> None:
    cells = families(numbers(*batch, *EVENT))[name]
    value = cells.sample()
    observed = numbers(*batch, *EVENT, seed=1) > 0
    wanted = torch.zeros(batch, dtype=torch.float64)
    for i in range(2):
        for j in range(3):
            wanted = wanted + cells.log_prob(value)[..., i, j] * observed[..., i, j]
    hidden = torch.where(observed, value, torch.nan)
    got = log_prob_observed(Independent(cells, 2, validate_args=False), hidden, observed)
    torch.testing.assert_close(got, wanted, rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("name", NAMES)
def test_gradient_ignores_cells_that_were_not_observed(name: str) -> None:
    parameters = numbers(5, *EVENT).requires_grad_()
    cells = families(parameters)[name]
    observed = numbers(5, *EVENT, seed=1) > 0
    value = torch.where(observed, cells.sample(), torch.nan)
    likelihood = Independent(cells, 2, validate_args=False)
    (gradient,) = torch.autograd.grad(log_prob_observed(likelihood, value, observed).sum(), parameters)
    assert gradient.isfinite().all()
    assert (gradient[~observed] == 0).all()
    assert (gradient[observed] != 0).any()


def test_data_broadcast_over_samples() -> None:
    parameters = numbers(7, 5, 3)
    likelihood = Independent(Normal(parameters, 1.0), 1)
    value, observed = numbers(5, 3, seed=1), numbers(5, 3, seed=2) > 0
    got = log_prob_observed(likelihood, value, observed)
    assert got.shape == (7, 5)
    for s in range(7):
        one = Independent(Normal(parameters[s], 1.0), 1)
        torch.testing.assert_close(got[s], log_prob_observed(one, value, observed))


def test_a_mask_of_one_datum_is_that_of_all() -> None:
    likelihood = Independent(Normal(numbers(5, 3), 1.0), 1)
    observed = torch.tensor([True, False, True])
    value = numbers(5, 3, seed=1)
    got = log_prob_observed(likelihood, value, observed)
    assert torch.equal(got, log_prob_observed(likelihood, value, observed.expand(5, 3)))


def test_all_or_none_observed() -> None:
    likelihood = Independent(Normal(numbers(5, 3), 1.0), 1)
    value = numbers(5, 3, seed=1)
    whole = likelihood.log_prob(value)
    assert torch.equal(log_prob_observed(likelihood, value, None), whole)
    torch.testing.assert_close(
        log_prob_observed(likelihood, value, torch.ones(5, 3, dtype=torch.bool)), whole
    )
    nothing = log_prob_observed(
        likelihood, torch.full((5, 3), torch.nan).double(), torch.zeros(5, 3, dtype=torch.bool)
    )
    assert torch.equal(nothing, torch.zeros(5, dtype=torch.float64))


def test_a_datum_of_one_number_keeps_its_batch() -> None:
    likelihood = Independent(Normal(numbers(5), 1.0), 0)
    value = numbers(5, seed=1)
    observed = torch.tensor([True, False, True, True, False])
    assert torch.equal(
        log_prob_observed(likelihood, value, observed), torch.where(observed, likelihood.log_prob(value), 0.0)
    )


def test_cells_that_depend_on_each_other_are_refused() -> None:
    covariance = torch.eye(3).double() + 0.5
    mask = torch.ones(5, 3, dtype=torch.bool)
    whole = MultivariateNormal(numbers(5, 3), covariance)
    with pytest.raises(BoundError, match="independent given z, got MultivariateNormal"):
        log_prob_observed(whole, numbers(5, 3), mask)
    rows = Independent(MultivariateNormal(numbers(5, 3, 3), covariance), 1)
    with pytest.raises(BoundError, match="cells are independent"):
        log_prob_observed(rows, numbers(5, 3, 3), torch.ones(5, 3, 3, dtype=torch.bool))
