import pytest
import torch
from torch import Tensor
from torch.func import jacrev

from jensen.errors import ConfigError
from jensen.inference import (
    Parameter,
    cholesky_correlation,
    interval,
    lower_bounded,
    ordered,
    positive,
    positive_ordered,
    real,
    simplex,
)

KINDS: dict[str, Parameter] = {
    "real": real(3),
    "scalar": real(),
    "positive": positive(2),
    "lower-bounded": lower_bounded(-2.0, 3),
    "interval": interval(-1.0, 3.0, 2),
    "interval of tensors": interval(torch.tensor([0.0, 1.0]), torch.tensor([1.0, 5.0]), 2),
    "simplex": simplex(4),
    "simplices": simplex(3, 2),
    "ordered": ordered(3),
    "positive-ordered": positive_ordered(3),
    "correlation": cholesky_correlation(4),
}


def free_part(parameter: Parameter, value: Tensor) -> Tensor:
    """As many numbers of a value as it has coordinates: the others follow from these."""
    if parameter.support == "simplex":
        value = value[..., :-1]
    if parameter.support == "cholesky-correlation":
        rows, columns = torch.tril_indices(value.shape[-1], value.shape[-1], -1)
        value = value[..., rows, columns]
    return value.reshape(-1)


@pytest.mark.parametrize("parameter", KINDS.values(), ids=KINDS)
def test_the_jacobian_is_that_of_automatic_differentiation(parameter: Parameter):
    torch.manual_seed(0)
    coordinates = torch.randn(parameter.size, dtype=torch.float64)
    value, log_det = parameter.constrain(coordinates, {})
    assert tuple(value.shape) == parameter.shape
    jacobian = jacrev(lambda x: free_part(parameter, parameter.constrain(x, {})[0]))(coordinates)
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("parameter", KINDS.values(), ids=KINDS)
def test_there_and_back(parameter: Parameter):
    torch.manual_seed(1)
    coordinates = torch.randn(parameter.size, dtype=torch.float64)
    value, _ = parameter.constrain(coordinates, {})
    torch.testing.assert_close(parameter.inverse(value, {}), coordinates)


def test_values_are_in_their_supports():
    torch.manual_seed(2)
    values = {
        name: kind.constrain(3 * torch.randn(kind.size, dtype=torch.float64), {})[0]
        for name, kind in KINDS.items()
    }
    assert (values["positive"] > 0).all()
    assert (values["lower-bounded"] > -2).all()
    assert ((values["interval"] > -1) & (values["interval"] < 3)).all()
    torch.testing.assert_close(values["simplices"].sum(-1), torch.ones(2, dtype=torch.float64))
    assert (values["ordered"].diff() > 0).all()
    assert (values["positive-ordered"] > 0).all()
    assert (values["positive-ordered"].diff() > 0).all()
    correlation = values["correlation"] @ values["correlation"].T
    torch.testing.assert_close(correlation.diagonal(), torch.ones(4, dtype=torch.float64))


def test_bounds_may_depend_on_parameters_before():
    share = interval(0.0, lambda before: 1 - before["first"])
    value, log_det = share.constrain(
        torch.zeros(1, dtype=torch.float64), {"first": torch.tensor(0.75).double()}
    )
    assert float(value) == pytest.approx(0.125)
    assert float(log_det) == pytest.approx(torch.tensor(0.25 * 0.25).log().item())


@pytest.mark.parametrize(
    "make",
    [
        lambda: real(0),
        lambda: real(-2),
        lambda: simplex(1),
        lambda: ordered(0),
        lambda: cholesky_correlation(1),
        lambda: interval(1.0, 1.0),
        lambda: interval(torch.tensor([0.0, 2.0]), 1.0, 2),
    ],
)
def test_impossible_parameters_are_refused(make):
    with pytest.raises(ConfigError):
        make()
